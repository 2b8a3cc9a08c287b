"""peers.certificates: a certificate authority for tests, and the certificates it gives, good and bad.

Keys are P-256 and made once per process; files are written below a directory of the test.
"""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """certificate: PEM file with the chain. key: PEM file."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Authority:
    """`root` is the PEM file to trust. Certificates are issued by an intermediate, which servers send along."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root_key, self._key = _key(), _key()
        root = _certificate("Test Root", self._root_key, issuer=None, signer=self._root_key, authority=True)
        self._intermediate = _certificate("Test CA", self._key, issuer=root, signer=self._root_key, authority=True)
        self.root = _write(directory / "root.pem", root.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, expired: bool = False, chain: bool = True) -> Issued:
        """A certificate for one host name or address. chain=False leaves the intermediate out, as servers do."""
        key = _key()
        certificate = _certificate(name, key, issuer=self._intermediate, signer=self._key, expired=expired)
        return self._written(name, key, certificate, *((self._intermediate,) if chain else ()))

    def self_signed(self, name: str) -> Issued:
        key = _key()
        return self._written(f"self-{name}", key, _certificate(name, key, issuer=None, signer=key))

    def forged(self, name: str) -> Issued:
        """Names our intermediate as its issuer, and was signed by someone else."""
        key = _key()
        certificate = _certificate(name, key, issuer=self._intermediate, signer=_key())
        return self._written(f"forged-{name}", key, certificate, self._intermediate)

    def _written(self, name: str, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> Issued:
        pem = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        serial = f"{chain[0].serial_number:x}"
        base = self._directory / f"{name}-{serial}"
        return Issued(_write(base.with_suffix(".pem"), pem), _write(base.with_suffix(".key"), private))


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _write(path: Path, octets: bytes) -> Path:
    path.write_bytes(octets)
    path.chmod(0o600)
    return path


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    authority: bool = False,
    expired: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    ends = now - _DAY if expired else now + 30 * _DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 3 * _DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
