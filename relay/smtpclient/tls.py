"""smtpclient.tls: the two TLS contexts of a process, and what verification would have said of an unverified session.

A context takes 19 ms of CPU to build, so each worker builds `TlsContexts` once. `verifying` demands a chain to a
trusted root and the host's name; `opportunistic` takes whatever the server shows, since the other choice is clear
text (RFC 7435 3).

What verification would have said is still worth keeping: it shows a policy's effect before it is made. OpenSSL checks
the chain of an opportunistic session too, but Python does not hand out the result. So `doubt` has OpenSSL check it
again, without a connection: a client of the verifying context is shown a ServerHello and the server's chain in
memory, which TLS 1.2 sends in clear, and either refuses the chain, with the reason, or waits for more. That takes 0.4
to 0.8 ms; results are kept an hour.
"""

import hashlib
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

_HANDSHAKE = 22  # RFC 5246 6.2.1
_SERVER_HELLO = 2  # RFC 5246 7.4
_CERTIFICATE = 11
_RECORD = 16384  # RFC 5246 6.2.1: a record carries at most 2^14 octets
_TLS_1_2 = b"\x03\x03"
_CIPHER = b"\xc0\x2f"  # ECDHE-RSA-AES128-GCM-SHA256, in every default list
_RENEGOTIATION_INFO = b"\x00\x05\xff\x01\x00\x01\x00"  # RFC 5746 3.4: OpenSSL refuses a server without it

_KEPT = 3600.0  # seconds; a certificate that expires meanwhile is noticed so much later
_KEPT_CHAINS = 2000


class TlsContexts:
    """Built once, used by every connection. ca_file: PEM of further roots to trust everywhere."""

    __slots__ = ("_ca_file", "_doubts", "_doubts_since", "_monotonic", "_trusting", "opportunistic", "verifying")

    def __init__(self, *, monotonic: Callable[[], float], ca_file: Path | None = None) -> None:
        self.opportunistic = _opportunistic()
        self.verifying = _verifying(ca_file)
        self._ca_file = ca_file
        self._trusting: dict[tuple[Path, int], ssl.SSLContext] = {}
        self._monotonic = monotonic
        self._doubts: dict[tuple[bytes, str], str] = {}
        self._doubts_since = monotonic()

    def trusting(self, ca: Path | None) -> ssl.SSLContext:
        """Verifying, with the roots of a smarthost's own CA besides. Its file is read again when it changes. Raises
        OSError.
        """
        if ca is None:
            return self.verifying
        key = (ca, ca.stat().st_mtime_ns)
        if key not in self._trusting:
            context = _verifying(self._ca_file)
            context.load_verify_locations(cafile=ca)
            self._trusting = {old: kept for old, kept in self._trusting.items() if old[0] != ca} | {key: context}
        return self._trusting[key]

    def doubt(self, session: ssl.SSLObject, name: str) -> str:
        """Why the session's certificate would not have been accepted for `name`; "" when it would."""
        chain = _chain(session)
        key = (hashlib.sha256(b"".join(chain)).digest(), name)
        self._forget_old_doubts()
        if key not in self._doubts:
            self._doubts[key] = self._examine(chain, name)
        return self._doubts[key]

    def _forget_old_doubts(self) -> None:
        now = self._monotonic()
        if now - self._doubts_since > _KEPT or len(self._doubts) >= _KEPT_CHAINS:
            self._doubts.clear()
            self._doubts_since = now

    def _examine(self, chain: Sequence[bytes], name: str) -> str:
        if not chain:
            return "no certificate"
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            client = self.verifying.wrap_bio(incoming, outgoing, server_hostname=name)
        except ValueError:
            return f'"{name}" is no name that a certificate can have'
        return _shake(client) or _shake(client, incoming, _server_flight(chain))


def _shake(client: ssl.SSLObject, incoming: ssl.MemoryBIO | None = None, flight: bytes = b"") -> str:
    """One step of the handshake; "" when the client only waits for more."""
    if incoming is not None:
        incoming.write(flight)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message.rstrip(".")
    except ssl.SSLError as error:
        # The cipher named is one for RSA keys; that is looked at after the chain was accepted.
        return "" if error.reason == "WRONG_CERTIFICATE_TYPE" else f"cannot be examined: {error.reason}"
    return "cannot be examined"


def _server_flight(chain: Sequence[bytes]) -> bytes:
    """ServerHello and Certificate (RFC 5246 7.4.1.3, 7.4.2) in as many records as it takes."""
    random, no_session, no_compression = bytes(32), b"\x00", b"\x00"
    hello = _message(_SERVER_HELLO, _TLS_1_2 + random + no_session + _CIPHER + no_compression + _RENEGOTIATION_INFO)
    octets = hello + _message(_CERTIFICATE, _sized(b"".join(map(_sized, chain))))
    parts = [octets[start : start + _RECORD] for start in range(0, len(octets), _RECORD)]
    return b"".join(bytes([_HANDSHAKE]) + _TLS_1_2 + len(part).to_bytes(2, "big") + part for part in parts)


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _sized(body)


def _sized(octets: bytes) -> bytes:
    return len(octets).to_bytes(3, "big") + octets


def _chain(session: ssl.SSLObject) -> list[bytes]:
    """The server's certificates in DER, its own first."""
    if hasattr(session, "get_unverified_chain"):  # Python 3.13
        return list(session.get_unverified_chain())
    inner = getattr(session, "_sslobj").get_unverified_chain() or ()  # noqa: B009 - private before 3.13
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in inner]


def _opportunistic() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996 2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # A short key or an old hash is weak, but the other choice is none at all (RFC 7435 3).
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _verifying(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
