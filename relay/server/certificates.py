"""server.certificates: a local CA and a certificate for this machine, for the quick start.

Clients verify the certificate against a file they are told of, so the first message already goes over verified TLS; a
real certificate takes its place without any other change. P-256: half the work of a handshake with RSA.
"""

import datetime as dt
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA = "ca.pem"
CHAIN = "fullchain.pem"
KEY = "privkey.pem"

CA_DAYS = 3650
LEAF_DAYS = 825  # what verifiers commonly accept


def make_local_tls(directory: Path, *, hostname: str, now: dt.datetime) -> None:
    """Writes ca.pem, privkey.pem (0600) and, when those are there, fullchain.pem into `directory`.

    The CA's key is not kept: nothing else is signed. Raises OSError.
    """
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _authority(ca_key, f"Relay local CA of {hostname}"[:64], now)
    leaf = _leaf(key, hostname, now, issuer=ca, signer=ca_key)
    directory.mkdir(parents=True, exist_ok=True)
    ca_pem, leaf_pem = (each.public_bytes(serialization.Encoding.PEM) for each in (ca, leaf))
    (directory / CA).write_bytes(ca_pem)
    _write_private(directory / KEY, key)
    (directory / CHAIN).write_bytes(leaf_pem + ca_pem)


def _authority(key: ec.EllipticCurvePrivateKey, common_name: str, now: dt.datetime) -> x509.Certificate:
    name = _named(common_name)
    return (
        _builder(name, name, key.public_key(), now, days=CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    hostname: str,
    now: dt.datetime,
    *,
    issuer: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    return (
        _builder(_named(hostname[:64]), issuer.subject, key.public_key(), now, days=LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(hostname)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, *, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(hostname: str) -> list[x509.GeneralName]:
    names = dict.fromkeys(("localhost", hostname))
    addresses = ("127.0.0.1", "::1")
    return [
        *(x509.DNSName(name) for name in names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]


def _write_private(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
