"""dkim: every signature is checked by dkimpy, which shares no code with ours."""

import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from relay import dkim
from relay.errors import DataError

NOW = 1795192744.9
RSA_PEM, ED25519_PEM = dkim.generate_keys()
RSA = serialization.load_pem_private_key(RSA_PEM, password=None)
KEYS = (
    dkim.load_key(RSA_PEM, "example.com", "r1"),
    dkim.load_key(ED25519_PEM, "example.com", "e1"),
)
ZONE = {
    "r1._domainkey.example.com.": dkim.public_record(RSA_PEM),
    "e1._domainkey.example.com.": dkim.public_record(ED25519_PEM),
}
PLAIN = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: Hello\r\n"


@dataclass(frozen=True)
class Stored:
    domain: str
    selector: str
    private_pem: bytes


def look_up(name: bytes | str, timeout: int = 5) -> bytes:
    return ZONE[name.decode() if isinstance(name, bytes) else name].encode()


def split_fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a CRLF-ended header block, as reception hands them over."""
    fields: list[bytes] = []
    for line in header.splitlines(keepends=True):
        if line[:1] in b" \t":
            fields[-1] += line
        else:
            fields.append(line)
    return [(field.partition(b":")[0].strip().lower(), field) for field in fields]


def signed(header: bytes, body: bytes) -> bytes:
    return dkim.sign(split_fields(header), dkim.body_hash(body), KEYS, now=NOW) + header + b"\r\n" + body


def verdicts(message: bytes) -> list[bool]:
    """Of the RSA and of the Ed25519 signature."""
    return [verdict(message, index) for index in (0, 1)]


def verdict(message: bytes, index: int) -> bool:
    try:
        return bool(dkimpy.DKIM(message).verify(idx=index, dnsfunc=look_up))
    except dkimpy.ValidationError:  # dkimpy's way of saying that the body's hash is another
        return False


@pytest.mark.parametrize(
    ("header", "body"),
    [
        pytest.param(PLAIN, b"Hello\r\n", id="a plain message"),
        pytest.param(PLAIN, b"", id="an empty body"),
        pytest.param(PLAIN, b"\r\n", id="a body of one empty line"),
        pytest.param(PLAIN, b"\r\n" * 5000, id="a body of empty lines only"),
        pytest.param(PLAIN, b" \t \r\n\t\r\n  \r\n", id="a body of white space only"),
        pytest.param(PLAIN, b"\r\n\r\nHello\r\n", id="empty lines before the text"),
        pytest.param(PLAIN, b"a\r\n\r\n \r\n\t\r\nb\r\n\r\n\r\n", id="empty lines inside and after the text"),
        pytest.param(PLAIN, b"no line end at all", id="a last line without its end"),
        pytest.param(PLAIN, b" \t leading\r\ntrailing \t \r\nin \t  side\r\n", id="white space everywhere"),
        pytest.param(PLAIN, b"\xe4\xf6\xfc \xff\x80\r\n", id="an 8-bit body"),
        pytest.param(PLAIN, b"\0\x01\x0b\x0c\x1f\r\n", id="control characters in the body"),
        pytest.param(PLAIN, b"x" * 100_000 + b"\r\n", id="a line of 100 KB"),
        pytest.param(b"From: a@example.com\r\n", b"x\r\n", id="only a From"),
        pytest.param(b"FROM:a@example.com\r\nsUbJeCt:x\r\n", b"x\r\n", id="odd case"),
        pytest.param(b"From:a@example.com\r\nSubject:\r\nTo: \r\n", b"x\r\n", id="empty values"),
        pytest.param(
            b"From: a\r\n <a@example.com>\r\nSubject: one\r\n\ttwo\r\n  \t three \r\nTo:\r\n b@example.net\r\n",
            b"x\r\n",
            id="folded fields",
        ),
        pytest.param(
            PLAIN + b"To: c@example.net\r\nReferences: <1@x>\r\nReferences: <2@x>\r\n", b"x\r\n", id="repeated fields"
        ),
        pytest.param(
            b"Subject: \xc3\xa4\xc3\xb6\r\nFrom: \xe4@example.com\r\n", b"x\r\n", id="8-bit header, UTF-8 or not"
        ),
        pytest.param(PLAIN + b"Subject: a \t b\t\tc  \t\r\n", b"x\r\n", id="runs of spaces and tabs in the header"),
        pytest.param(
            PLAIN
            + b"List-Id: <l.example.com>\r\nList-Unsubscribe: <https://x/1>\r\n"
            + b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Help: <mailto:h@x>\r\n",
            b"x\r\n",
            id="list fields",
        ),
        pytest.param(PLAIN + b"To: c@example.net\r\n" * 300, b"x\r\n", id="a field repeated 300 times"),
        pytest.param(
            PLAIN + b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=; b=\r\n",
            b"x\r\n",
            id="a signature of somebody else",
        ),
        pytest.param(PLAIN + b"X-Empty:\r\nX-Long: " + b"y" * 5000 + b"\r\n", b"x\r\n", id="unsigned fields between"),
    ],
)
def test_dkimpy_verifies_both_signatures(header: bytes, body: bytes) -> None:
    assert verdicts(signed(header, body)) == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m.replace(b"Hello\r\n", b"Bye\r\n", 1), id="the subject is changed"),
        pytest.param(lambda m: m.replace(b"body", b"b0dy"), id="the body is changed"),
        pytest.param(lambda m: m + b"more\r\n", id="something is appended"),
        pytest.param(lambda m: m.replace(b"From:", b"From: e@evil.example\r\nFrom:"), id="a second From is added"),
        pytest.param(
            lambda m: m.replace(b"From:", b"Reply-To: e@evil.example\r\nFrom:"), id="an absent Reply-To is added"
        ),
        pytest.param(lambda m: m.replace(b"From:", b"Content-Type: text/html\r\nFrom:"), id="a Content-Type is added"),
        pytest.param(
            lambda m: m.replace(b"From:", b"List-Unsubscribe: <x:y>\r\nFrom:"), id="a second List-Unsubscribe is added"
        ),
    ],
)
def test_what_changes_the_message_breaks_both_signatures(change: Callable[[bytes], bytes]) -> None:
    message = signed(PLAIN + b"List-Unsubscribe: <https://x/1>\r\n", b"body\r\n")
    assert verdicts(message) == [True, True]
    assert verdicts(change(message)) == [False, False]


def test_a_mailing_list_may_add_its_own_list_fields() -> None:
    message = signed(PLAIN + b"List-Id: <a.example.com>\r\n", b"body\r\n")
    assert verdicts(b"List-Id: <l.example.org>\r\nList-Archive: <x:y>\r\n" + message) == [True, True]


def tag(message: bytes, name: bytes) -> bytes:
    field = message.split(b"\r\nDKIM-Signature")[0].replace(b"\r\n", b"").replace(b" ", b"")
    return next(part[len(name) + 1 :] for part in field.partition(b":")[2].split(b";") if part.startswith(name + b"="))


def test_each_field_is_named_once_more_than_it_occurs() -> None:
    header = PLAIN + b"To: c@example.net\r\nList-Unsubscribe: <x:y>\r\nList-Id: <i>\r\nX-Other: 1\r\n"
    names = tag(signed(header, b""), b"h").split(b":")
    assert [names.count(name) for name in (b"from", b"to", b"subject", b"list-unsubscribe")] == [2, 3, 2, 2]
    absent = set(dkim.OVERSIGNED) - {b"from", b"to", b"subject"}
    assert {names.count(name) for name in absent} == {1}
    assert (names.count(b"list-id"), names.count(b"list-unsubscribe-post"), names.count(b"x-other")) == (1, 0, 0)


def test_a_signature_has_the_tags_it_should() -> None:
    message = signed(PLAIN, b"Hello\r\n")
    assert tag(message, b"t") == b"1795192744"
    assert tag(message, b"bh") == b64encode(sha256(b"Hello\r\n").digest())
    assert (tag(message, b"d"), tag(message, b"s"), tag(message, b"a")) == (b"example.com", b"r1", b"rsa-sha256")
    field = message.partition(b"\r\nDKIM-Signature")[0]
    assert b"l=" not in field.partition(b"b=")[0] and b"x=" not in field.partition(b"b=")[0]


def test_lines_of_a_signature_are_short() -> None:
    fields = dkim.sign(split_fields(PLAIN + b"To: c@x\r\n" * 300), dkim.body_hash(b""), KEYS, now=NOW)
    assert fields.endswith(b"\r\n") and b"\n\r" not in fields
    assert max(len(line) for line in fields.split(b"\r\n")) <= 78


def test_a_list_field_with_an_odd_name_is_left_unsigned() -> None:
    message = signed(PLAIN + b"List-a;b: 1\r\nList-" + b"x" * 900 + b": 1\r\n", b"x\r\n")
    assert b"list-" not in tag(message, b"h")
    assert verdicts(message) == [True, True]


def test_vertical_tab_and_form_feed_are_no_white_space() -> None:
    assert dkim._relaxed([(b"subject", b"Subject: a \x0b  b\x0c \r\n c\r\n")]) == b"subject:a \x0b b\x0c c\r\n"


# --- body canonicalisation -------------------------------------------------------------------------------------


def dkimpy_hash(body: bytes) -> bytes:
    return sha256(Relaxed.canonicalize_body(body)).digest()


CLEAN_BODIES = st.lists(
    st.lists(st.sampled_from([b" ", b"\t", b"a", b"bc", b".", b"\x0b", b"\xff", b"  "]), max_size=6).map(b"".join),
    max_size=12,
).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


@given(body=CLEAN_BODIES)
def test_the_body_hash_is_dkimpys(body: bytes) -> None:
    assert dkim.body_hash(body) == dkimpy_hash(body)


@given(body=CLEAN_BODIES, cuts=st.lists(st.integers(0, 80), max_size=8))
def test_a_body_in_pieces_hashes_as_in_one(body: bytes, cuts: list[int]) -> None:
    assert hash_in_pieces(body, cuts) == dkim.body_hash(body)


@given(
    body=st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b"x"]), max_size=24).map(b"".join),
    cuts=st.lists(st.integers(0, 30), max_size=8),
)
def test_pieces_of_a_body_with_bare_newlines_hash_as_one(body: bytes, cuts: list[int]) -> None:
    assert hash_in_pieces(body, cuts) == dkim.body_hash(body)


def hash_in_pieces(body: bytes, cuts: list[int]) -> bytes:
    places = [0, *sorted(cuts), len(body)]
    pieces = dkim.BodyHash()
    for start, end in pairwise(places):
        pieces.update(body[start:end])
    return pieces.digest()


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        pytest.param([b"a \t", b" \r", b"\n"], b"a\r\n", id="white space and the line end cut apart"),
        pytest.param([b"a\r", b"\nb\r\n"], b"a\r\nb\r\n", id="CR and LF cut apart"),
        pytest.param([b"a\r\n", b"\r\n \r", b"\n\r\n"], b"a\r\n", id="empty lines at the end in pieces"),
        pytest.param([b"a\r\n\r\n", b"\r\n", b"b"], b"a\r\n\r\n\r\nb\r\n", id="empty lines that turn out to be inside"),
        pytest.param([b"a ", b" b\r\n"], b"a b\r\n", id="a run of spaces cut apart"),
        pytest.param([b" ", b"\t", b" "], b"", id="white space only"),
        pytest.param([], b"", id="nothing at all"),
        pytest.param([b"a\r"], b"a\r\r\n", id="a CR alone at the end"),
    ],
)
def test_pieces_hash_as_this_canonical_form(pieces: list[bytes], whole: bytes) -> None:
    body = dkim.BodyHash()
    for piece in pieces:
        body.update(piece)
    assert body.digest() == sha256(whole).digest()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param((b" " * 997 + b"\r\n") * 5000, id="lines of spaces"),
        pytest.param(b" " * 5_000_000, id="one line of spaces"),
        pytest.param((b" " * 64 + b"x") * 80_000, id="long runs in one line"),
        pytest.param(b"\r\n" * 2_500_000, id="empty lines"),
        pytest.param(b"\r\n" * 2_500_000 + b"x", id="empty lines before the text"),
        pytest.param(b" \r" * 2_500_000, id="spaces and CRs"),
        pytest.param(b"\r\r\n" * 1_700_000, id="CRs before line ends"),
        pytest.param(b"\t " * 2_500_000, id="tabs and spaces"),
        pytest.param(b"a " * 2_500_000, id="single spaces"),
    ],
)
def test_five_hostile_megabytes_hash_in_linear_time(body: bytes) -> None:
    started = time.process_time()
    dkim.body_hash(body)
    assert time.process_time() - started < 1.0  # measured 0.01 to 0.1 s; a quadratic method takes minutes


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"Subject:" + b" " * 100_000 + b"x\r\n", id="a line of spaces"),
        pytest.param(b"Subject: x" + b"\r\n \t" * 50_000 + b"\r\n", id="folds without end"),
        pytest.param(b"To: a\r\n" * 30_000, id="one field 30 000 times"),
        pytest.param(b"Subject:" + b" \x0b" * 50_000 + b"\r\n", id="vertical tabs"),
    ],
)
def test_a_hostile_header_is_signed_in_linear_time(header: bytes) -> None:
    fields = split_fields(PLAIN) + (split_fields(header) if header.startswith(b"To") else [(b"subject", header)])
    started = time.process_time()
    dkim.sign(fields, dkim.body_hash(b""), KEYS, now=NOW)
    assert time.process_time() - started < 0.5


# --- keys ------------------------------------------------------------------------------------------------------


def to_pem(private: PrivateKeyTypes, *, passphrase: bytes = b"") -> bytes:
    protection: serialization.KeySerializationEncryption
    protection = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    ("pem", "problem"),
    [
        pytest.param(b"", "cannot be read", id="an empty file"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read", id="garbage"),
        pytest.param(to_pem(RSA, passphrase=b"x"), "passphrase", id="an encrypted key"),
        pytest.param(to_pem(ec.generate_private_key(ec.SECP256R1())), "neither RSA nor Ed25519", id="an EC key"),
        pytest.param(
            RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            "cannot be read",
            id="a public key",
        ),
    ],
)
def test_a_bad_key_is_refused_with_what_to_do(pem: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=problem) as refusal:
        dkim.load_key(pem, "example.com", "s1")
    assert "s1._domainkey.example.com" in refusal.value.text
    assert "relay domain rotate" in refusal.value.remedy


def test_a_pkcs1_key_with_crlf_line_ends_is_taken() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert dkim.load_key(pem.replace(b"\n", b"\r\n"), "example.com", "s1").algorithm == "rsa"


def test_generated_keys_are_rsa_2048_and_ed25519() -> None:
    assert isinstance(RSA, rsa.RSAPrivateKey) and RSA.key_size == 2048
    assert [key.algorithm for key in KEYS] == ["rsa", "ed25519"]
    assert ZONE["e1._domainkey.example.com."].startswith("v=DKIM1; k=ed25519; p=")
    published = ZONE["e1._domainkey.example.com."].partition("p=")[2]
    assert len(b64decode(published)) == 32  # RFC 8463 4: the bare key


def test_a_key_ring_gives_the_keys_of_the_nearest_parent_rsa_first() -> None:
    ring = dkim.KeyRing([Stored("example.com", "e1", ED25519_PEM), Stored("example.com", "r1", RSA_PEM)])
    assert [key.selector for key in ring.keys_for("a.b.example.com")] == ["r1", "e1"]
    assert {key.domain for key in ring.keys_for("example.com")} == {"example.com"}
    assert ring.domain_for("news.example.com") == "example.com"
    assert ring.keys_for("notexample.com") == () and ring.domain_for("com") == ""


def test_a_nearer_domain_with_its_own_key_comes_first() -> None:
    ring = dkim.KeyRing([Stored("example.com", "r1", RSA_PEM), Stored("news.example.com", "n1", ED25519_PEM)])
    assert [key.selector for key in ring.keys_for("x.news.example.com")] == ["n1"]


def test_an_unchanged_key_keeps_its_object_and_a_changed_one_does_not() -> None:
    ring = dkim.KeyRing([Stored("example.com", "r1", RSA_PEM), Stored("example.org", "e1", ED25519_PEM)])
    kept, replaced = ring.keys_for("example.com"), ring.keys_for("example.org")
    ring.replace([Stored("example.com", "r1", RSA_PEM), Stored("example.org", "e2", ED25519_PEM)])
    assert ring.keys_for("example.com") is kept
    assert ring.keys_for("example.org") != replaced
    ring.replace([])
    assert ring.keys_for("example.com") == ()


def test_a_damaged_stored_key_is_named() -> None:
    ring = dkim.KeyRing([Stored("example.com", "r9", b"nonsense")])
    with pytest.raises(DataError, match=r"r9\._domainkey\.example\.com"):
        ring.keys_for("example.com")


def test_signing_is_quick_beside_the_key_operations() -> None:
    fields = split_fields(PLAIN)
    body = b"A line of an ordinary message, as long as they are.\r\n" * 80
    started = time.process_time()
    for _ in range(200):
        dkim.sign(fields, dkim.body_hash(body), (), now=NOW)
    assert (time.process_time() - started) / 200 < 200e-6  # measured 20 µs; slack for a busy machine
