"""submission.tls: the server's TLS contexts, reread when a certificate's file changes, several by SNI.

TLS 1.2 at least. A connection keeps the context it began with, so a new certificate drops nobody. While a new pair of
files cannot be used (half replaced, unreadable), the old one serves on and the log says why; only at start is that an
error: ConfigError for what is missing or does not match, PermissionRefused for a key that others may read, each with
what to do. A client that names no host, or one no certificate is for, gets the first.
"""

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from relay.config.models import Certificate, Tls
from relay.errors import ConfigError, PermissionRefused, RelayError
from relay.log import Log

TICKETS = 1  # TLS 1.3 session tickets per handshake


@dataclass(frozen=True, slots=True)
class Loaded:
    """One certificate in use. names: its DNS names, lower-case. expires_at: POSIX seconds."""

    pair: Certificate
    context: ssl.SSLContext
    names: tuple[str, ...]
    expires_at: float
    stamp: tuple[int, ...]


class Certificates:
    """All of `[tls]`. `context` is for new connections; `reload` says whether anything changed."""

    def __init__(self, tls: Tls, *, log: Log, tickets: int = TICKETS) -> None:
        """Raises ConfigError, PermissionRefused."""
        self._log = log
        self._tickets = tickets
        pairs = (Certificate(certificate=tls.certificate, key=tls.key), *tls.additional)
        self._loaded = tuple(load(pair, tickets=tickets) for pair in pairs)
        self._troubled: set[Path] = set()
        self._choose()

    @property
    def context(self) -> ssl.SSLContext:
        return self._loaded[0].context

    @property
    def loaded(self) -> Sequence[Loaded]:
        return self._loaded

    def reload(self) -> bool:
        """Take in what changed on disk. A look at two files per certificate; raises nothing."""
        fresh = tuple(self._reloaded(each) for each in self._loaded)
        if fresh == self._loaded:
            return False
        self._loaded = fresh
        self._choose()
        return True

    def _reloaded(self, loaded: Loaded) -> Loaded:
        try:
            if _stamp(loaded.pair) == loaded.stamp:
                return loaded
            fresh = load(loaded.pair, tickets=self._tickets)
        except RelayError as error:
            self._complain(loaded.pair.certificate, error)
            return loaded
        self._troubled.discard(loaded.pair.certificate)
        self._log.info("certificate reloaded", path=str(loaded.pair.certificate), expires_at=fresh.expires_at)
        return fresh

    def _complain(self, path: Path, error: RelayError) -> None:
        """Once, not every time it is looked at."""
        if path not in self._troubled:
            self._troubled.add(path)
            self._log.error("certificate not reloaded", path=str(path), error=error.text, remedy=error.remedy)

    def _choose(self) -> None:
        chooser = _Chooser(self._loaded)
        for each in self._loaded:
            each.context.sni_callback = chooser


class _Chooser:
    """The certificate for the host name asked for: exactly, or a wildcard for its first label (RFC 6125 6.4.3)."""

    def __init__(self, loaded: Sequence[Loaded]) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {}
        for each in loaded:
            for name in each.names:
                self._contexts.setdefault(name, each.context)

    def __call__(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        if name is None:
            return
        host = name.lower()
        context = self._contexts.get(host) or self._contexts.get("*." + host.partition(".")[2])
        if context is not None:
            connection.context = context


def load(pair: Certificate, *, tickets: int = TICKETS) -> Loaded:
    """One certificate and its key. Raises ConfigError, PermissionRefused."""
    stamp = _stamp(pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = tickets
    try:
        _refuse_readable(pair.key)
        context.load_cert_chain(pair.certificate, pair.key, password=_no_password)
        certificate = _leaf(pair.certificate)
        return Loaded(pair, context, _names(certificate), certificate.not_valid_after_utc.timestamp(), stamp)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; the files may change while they are read
        raise _unusable(pair, error) from None


def _no_password() -> str:
    """Else OpenSSL would ask on the terminal, and wait."""
    raise ValueError("the key is encrypted")


def _stamp(pair: Certificate) -> tuple[int, ...]:
    """What differs once either file was replaced or written."""
    numbers: list[int] = []
    for path, key in ((pair.certificate, "tls.certificate"), (pair.key, "tls.key")):
        try:
            status = path.stat()
        except OSError as error:
            raise ConfigError(
                f"{key}: {path} cannot be read: {error.strerror}",
                remedy=f"put the PEM file there, or change {key} in relay.toml",
            ) from None
        numbers += (status.st_ino, status.st_mtime_ns, status.st_size)
    return tuple(numbers)


def _refuse_readable(key: Path) -> None:
    if key.stat().st_mode & 0o007:
        raise PermissionRefused(
            f"tls.key: {key} may be read by everybody on this machine", remedy=f"run: chmod o-rwx {key}"
        )


def _unusable(pair: Certificate, error: Exception) -> RelayError:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return ConfigError(
            f"tls.key: {pair.key} is not the key of the certificate in {pair.certificate}",
            remedy="name the two files that were issued together",
        )
    if isinstance(error, PermissionError):
        return PermissionRefused(
            f"tls.key: {pair.certificate} or {pair.key} may not be read by this user (uid {os.getuid()})",
            remedy=f"let its group read it: chgrp relay {pair.key}; chmod 640 {pair.key}",
        )
    return ConfigError(
        f"tls.certificate: {pair.certificate} and {pair.key} are no certificate and key that can be used: {error}",
        remedy="write the certificate, then its chain, in the one, and the key, unencrypted, in the other, as PEM",
    )


def _leaf(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(path.read_bytes())[0]


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except x509.ExtensionNotFound:
        return ()
    alternatives = extension.value
    if not isinstance(alternatives, x509.SubjectAlternativeName):
        return ()
    return tuple(name.lower() for name in alternatives.get_values_for_type(x509.DNSName))
