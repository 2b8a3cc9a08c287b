"""dkim: sign messages (RFC 6376) with RSA-2048 (RFC 8301) and Ed25519 (RFC 8463).

A message is signed once, before it is spooled, with every key of its sender domain: relaxed/relaxed, the body hashed
once for all of them, no l= (it lets others append) and no x= (mail may wait days). The fields of OVERSIGNED are named
once more in h= than they occur, so that nobody can add one and keep the signature (RFC 6376 5.4, 8.15).

Canonicalisation is linear in the input whatever it is: lines of spaces, lines without end, a body of empty lines. Key
objects are made once and kept (parsing one costs as much as a hundred signatures). Errors: DataError from load_key and
public_record, saying what is wrong with the key; signing itself does not fail.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.errors import DataError

# Signed and oversigned in every message, whether present or not.
OVERSIGNED = (
    b"from",
    b"sender",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"reply-to",
    b"message-id",
    b"content-type",
    b"content-transfer-encoding",
    b"mime-version",
    b"in-reply-to",
    b"references",
)
# RFC 8058 4: both must be covered by the signature; oversigned so that no second one can be added.
OVERSIGNED_IF_PRESENT = (b"list-unsubscribe", b"list-unsubscribe-post")
# A mailing list may add its own List-* fields later, so these are signed when present and never oversigned. A name with
# other characters would need quoting in h=, and a very long one would not fold: they are left unsigned.
_LIST_FIELD = re.compile(rb"list-[a-z0-9-]{1,60}")

_OVERSIGNED = frozenset(OVERSIGNED)

RSA_BITS = 2048
_LINE = 72  # Octets of a folded line of ours, below RFC 5322 2.1.1's 78 with the fold and a semicolon.
_SPACES = re.compile(rb"  +")  # Nothing follows the repetition, so it never backtracks.
_LINE_ENDS_AT_ONCE = 4096
_USUAL_NAMES = 64  # in h=; longer lists are not remembered
_LOADED_DOMAINS = 10_000  # whose key objects a KeyRing keeps

_DIGEST = utils.Prehashed(hashes.SHA256())
_PKCS1 = padding.PKCS1v15()

PrivateKey = rsa.RSAPrivateKey | Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One private key, ready to sign. domain is d=, selector is s=; algorithm is "rsa" or "ed25519".

    sign: gives the signature of a SHA-256 digest. begin: what each of its signature fields begins with.
    """

    domain: str
    selector: str
    algorithm: str
    sign: Callable[[bytes], bytes]
    begin: bytes


def load_key(pem: bytes, domain: str, selector: str) -> SigningKey:
    """A PEM private key (PKCS#8 or PKCS#1) of a domain's selector. Raises DataError."""
    return _signing_key(_parse_private(pem, f"{selector}._domainkey.{domain}"), domain, selector)


def generate_keys() -> tuple[bytes, bytes]:
    """A new RSA-2048 and a new Ed25519 key as unencrypted PKCS#8 PEM."""
    return (
        _to_pem(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)),
        _to_pem(Ed25519PrivateKey.generate()),
    )


def public_record(pem: bytes) -> str:
    """The TXT record that publishes a private key's public half (RFC 6376 3.6.1, RFC 8463 4). Raises DataError."""
    private = _parse_private(pem, "the DKIM key")
    if isinstance(private, rsa.RSAPrivateKey):
        der = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return f"v=DKIM1; k=rsa; p={b64encode(der).decode()}"
    return f"v=DKIM1; k=ed25519; p={b64encode(private.public_key().public_bytes_raw()).decode()}"


def _to_pem(private: PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _signing_key(private: PrivateKey, domain: str, selector: str) -> SigningKey:
    algorithm = "rsa" if isinstance(private, rsa.RSAPrivateKey) else "ed25519"
    begin = f"v=1; a={algorithm}-sha256; c=relaxed/relaxed;\r\n d={domain}; s={selector};\r\n "
    return SigningKey(domain, selector, algorithm, _sign_with(private), begin.encode())


def _sign_with(private: PrivateKey) -> Callable[[bytes], bytes]:
    """RFC 8463 3: Ed25519 signs the digest itself as its message."""
    if isinstance(private, rsa.RSAPrivateKey):
        return partial(private.sign, padding=_PKCS1, algorithm=_DIGEST)
    return private.sign


def _parse_private(pem: bytes, name: str, *, validate: bool = True) -> PrivateKey:
    remedy = "Make new keys with `relay domain rotate`, or give a PEM private key without a passphrase."
    try:
        private = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=not validate)
    except TypeError:  # cryptography's way of saying that a password is needed
        raise DataError(f"The private key of {name} is protected by a passphrase.", remedy=remedy) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DataError(f"The private key of {name} cannot be read: {error}", remedy=remedy) from None
    if isinstance(private, Ed25519PrivateKey):
        return private
    if not isinstance(private, rsa.RSAPrivateKey):
        raise DataError(f"The private key of {name} is neither RSA nor Ed25519.", remedy=remedy)
    if private.key_size < 1024:  # RFC 8301 3.2: signers MUST use at least 1024 bits, verifiers ignore less.
        raise DataError(f"The RSA key of {name} has {private.key_size} bits; receivers ignore it.", remedy=remedy)
    return private


class KeyMaterial(Protocol):
    """What a KeyRing needs of a stored key; `registry.domains.DkimKey` has it."""

    @property
    def domain(self) -> str: ...
    @property
    def selector(self) -> str: ...
    @property
    def private_pem(self) -> bytes: ...


class KeyRing:
    """The keys that sign now, by domain (A-labels, lower-case); key objects are made at first use and kept.

    Stored keys were validated when they were added, so the costly part of the check (is n a product of two primes?) is
    left out here. replace() takes the whole new set; the keys of an unchanged domain keep their objects.
    """

    def __init__(self, keys: Iterable[KeyMaterial] = ()) -> None:
        self._stored: dict[str, tuple[KeyMaterial, ...]] = {}
        self._ready: dict[str, tuple[SigningKey, ...]] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[KeyMaterial]) -> None:
        stored: dict[str, tuple[KeyMaterial, ...]] = {}
        for key in keys:
            stored[key.domain] = (*stored.get(key.domain, ()), key)
        unchanged = [domain for domain in self._ready if _pems(stored.get(domain, ())) == _pems(self._stored[domain])]
        self._ready = {domain: self._ready[domain] for domain in unchanged}
        self._stored = stored

    def domain_for(self, domain: str) -> str:
        """The signing domain for a From domain: itself, else the nearest parent that has a key, else ""."""
        while domain and domain not in self._stored:
            domain = domain.partition(".")[2]
        return domain

    def keys_for(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys of domain_for(domain), () when there is none. Raises DataError if a stored key cannot be read."""
        signing_domain = self.domain_for(domain)
        keys = self._ready.get(signing_domain)
        if keys is None:
            keys = self._load(signing_domain)
        return keys

    def _load(self, domain: str) -> tuple[SigningKey, ...]:
        keys = [_load_stored(stored) for stored in self._stored.get(domain, ())]
        # RSA first: a verifier that looks at the topmost signature only should find the one that everyone can check.
        ready = tuple(sorted(keys, key=_is_ed25519))
        if ready:
            if len(self._ready) >= _LOADED_DOMAINS:
                del self._ready[next(iter(self._ready))]
            self._ready[domain] = ready
        return ready


def _load_stored(key: KeyMaterial) -> SigningKey:
    private = _parse_private(key.private_pem, f"{key.selector}._domainkey.{key.domain}", validate=False)
    return _signing_key(private, key.domain, key.selector)


def _is_ed25519(key: SigningKey) -> bool:
    return key.algorithm == "ed25519"


def _pems(keys: Iterable[KeyMaterial]) -> list[tuple[str, bytes]]:
    return [(key.selector, key.private_pem) for key in keys]


class BodyHash:
    """SHA-256 of a body in relaxed canonical form (RFC 6376 3.4.4), fed in pieces cut anywhere.

    What the end of a piece leaves undecided is kept as a few octets and a count: a trailing space or CR, which the next
    piece may turn into a line's end, and line ends, which are hashed only once something follows.
    """

    __slots__ = ("_carry", "_hash", "_is_empty", "_line_ends")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._is_empty = True  # in canonical form, so far
        self._carry = b""
        self._line_ends = 0

    def update(self, data: bytes) -> None:
        text = (self._carry + data).replace(b"\t", b" ")
        if b"  " in text:
            text = _SPACES.sub(b" ", text)
        text = text.replace(b" \r\n", b"\r\n")
        text, self._carry = _split_undecided(text)
        text, line_ends = _split_line_ends(text)
        if text:
            self._add(text)
        self._line_ends += line_ends

    def digest(self) -> bytes:
        """The hash of all that was fed; call it once, at the end.

        Of the line ends at the end one remains, or is added; a body of nothing else is empty (RFC 6376 3.4.4).
        """
        if self._carry.endswith(b"\r"):
            self._add(self._carry)
        if not self._is_empty:
            self._hash.update(b"\r\n")
        return self._hash.digest()

    def _add(self, text: bytes) -> None:
        while self._line_ends:
            count = min(self._line_ends, _LINE_ENDS_AT_ONCE)
            self._hash.update(b"\r\n" * count)
            self._line_ends -= count
        self._hash.update(text)
        self._is_empty = False


def body_hash(body: bytes) -> bytes:
    """BodyHash of a body held in one piece."""
    whole = BodyHash()
    whole.update(body)
    return whole.digest()


def _split_undecided(text: bytes) -> tuple[bytes, bytes]:
    """(what stands, the space, CR or both at the end that the next piece may make part of a line's end)."""
    for tail in (b" \r", b"\r", b" "):
        if text.endswith(tail):
            return text[: -len(tail)], tail
    return text, b""


def _split_line_ends(text: bytes) -> tuple[bytes, int]:
    """(text without the CRLFs at its end, their number). A CR or LF alone stays."""
    kept = text.rstrip(b"\r\n")
    tail = text[len(kept) :].replace(b"\r\n", b"\0")  # it has CR and LF only, so NUL is free to stand for a pair
    alone = tail.rstrip(b"\0")
    return (kept + alone.replace(b"\0", b"\r\n") if alone else kept), len(tail) - len(alone)


def sign(fields: Sequence[tuple[bytes, bytes]], body_digest: bytes, keys: Sequence[SigningKey], *, now: float) -> bytes:
    """One DKIM-Signature field per key, each folded and ended by CRLF, to stand before the message's other fields.

    fields: (name in lower case, the whole field as sent, with or without its last CRLF), in the message's order.
    body_digest: of body_hash or BodyHash. now: POSIX seconds, for t=.
    """
    names, canonical = _select(fields)
    hashed = hashlib.sha256(canonical)
    fold = _fold_names_once if len(names) <= _USUAL_NAMES else _fold_names
    tags = b"t=%d;\r\n h=%s;\r\n bh=%s;\r\n b=" % (now, fold(names), b64encode(body_digest))
    return b"".join([_signature(key, tags, hashed.copy()) for key in keys])


def _signature(key: SigningKey, tags: bytes, hashed: "hashlib._Hash") -> bytes:
    value = key.begin + tags
    # RFC 6376 3.7: last comes the signature field itself, with an empty b= and without its CRLF. Every fold above is
    # CRLF and one space, so taking out the CRLFs is the relaxed form.
    hashed.update(b"dkim-signature:" + value.replace(b"\r\n", b""))
    signature = b64encode(key.sign(hashed.digest()))
    lines = [signature[at : at + _LINE] for at in range(0, len(signature), _LINE)]
    return b"DKIM-Signature: %s%s\r\n" % (value, b"\r\n ".join(lines))


def _select(fields: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, ...], bytes]:
    """(the names for h=, the canonical fields in that order).

    Bottom up, since of fields of one name the last is taken first (RFC 6376 5.4.2); then once more what is oversigned.
    """
    signed = [each for each in reversed(fields) if each[0] in _OVERSIGNED or _LIST_FIELD.fullmatch(each[0])]
    names = [name for name, _ in signed]
    once_more = [name for name in OVERSIGNED_IF_PRESENT if name in names]
    return (*names, *OVERSIGNED, *once_more), _relaxed(signed)


def _relaxed(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """RFC 6376 3.4.2. Only space and TAB are white space there; bytes.split() also takes VT and FF for it."""
    octets = b"".join([field for _, field in fields])
    words = _words if b"\v" in octets or b"\f" in octets else bytes.split
    lines = [name + b":" + b" ".join(words(field.partition(b":")[2])) for name, field in fields]
    return b"\r\n".join((*lines, b""))


def _words(value: bytes) -> list[bytes]:
    return [word for word in value.replace(b"\r\n", b"").replace(b"\t", b" ").split(b" ") if word]


def _fold_names(names: tuple[bytes, ...]) -> bytes:
    """The h= value, "from:sender:to ...", folded after a colon (RFC 6376 3.5: FWS may stand there)."""
    lines = [bytearray()]
    for name in names:
        if len(lines[-1]) + len(name) >= _LINE:
            lines.append(bytearray())
        lines[-1] += name + b":"
    return b"\r\n ".join(lines)[:-1]


# A memory of results only: one application's messages have the same names.
_fold_names_once = lru_cache(maxsize=256)(_fold_names)
