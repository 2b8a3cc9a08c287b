"""The server's certificates: chosen by SNI, reread, and refused with what to do."""

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from relay.config.models import Tls
from relay.errors import ConfigError, PermissionRefused, RelayError
from relay.submission.tls import Certificates
from tests.peers.certificates import Authority, Issued
from tests.submission.house import House


def tls_of(first: Issued, *additional: Issued) -> Tls:
    return Tls.model_validate(
        {
            "certificate": first.certificate,
            "key": first.key,
            "additional": [{"certificate": each.certificate, "key": each.key} for each in additional],
        }
    )


def shown(context: ssl.SSLContext, trust: Path, name: str | None, **options: Any) -> tuple[Any, str | None]:
    """The names in the certificate a client gets when it asks for `name`, and the TLS version."""
    client_context = ssl.create_default_context(cafile=trust)
    client_context.check_hostname = False
    for option, value in options.items():
        setattr(client_context, option, value)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(5):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = client.getpeercert()
    assert certificate is not None
    return certificate["subjectAltName"], client.version()


@pytest.fixture
def certificates(house: House, authority: Authority) -> Certificates:
    first, second, third = (authority.issue(name) for name in ("relay.test", "mail.example.com", "*.wild.example"))
    return Certificates(tls_of(first, second, third), log=house.log)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        pytest.param("relay.test", "relay.test", id="the first"),
        pytest.param("mail.example.com", "mail.example.com", id="another"),
        pytest.param("MAIL.example.COM", "mail.example.com", id="in any case"),
        pytest.param("a.wild.example", "*.wild.example", id="by a wildcard"),
        pytest.param("a.b.wild.example", "relay.test", id="a wildcard is one label"),
        pytest.param("unknown.example", "relay.test", id="one no certificate is for gets the first"),
        pytest.param(None, "relay.test", id="so does who asks for none"),
    ],
)
def test_the_certificate_is_chosen_by_name(
    certificates: Certificates, authority: Authority, asked: str | None, name: str
) -> None:
    assert shown(certificates.context, authority.root, asked)[0] == (("DNS", name),)


def test_a_changed_file_is_taken_in_and_open_contexts_stay(house: House, authority: Authority, tmp_path: Path) -> None:
    old, new = authority.issue("old.example"), authority.issue("new.example")
    live = Issued(tmp_path / "live.pem", tmp_path / "live.key")
    copy(old, live)
    certificates = Certificates(tls_of(live), log=house.log)
    before = certificates.context
    assert not certificates.reload()
    live.certificate.write_bytes(new.certificate.read_bytes())
    assert not certificates.reload(), "a certificate without its key is not taken"
    assert not certificates.reload()
    assert certificates.context is before
    assert house.logged().count("certificate not reloaded") == 1, "said once, not at every look"
    copy(new, live)
    assert certificates.reload()
    assert shown(certificates.context, authority.root, "x.example")[0] == (("DNS", "new.example"),)
    assert shown(before, authority.root, "x.example")[0] == (("DNS", "old.example"),)
    live.key.unlink()
    assert not certificates.reload()
    assert certificates.loaded[0].names == ("new.example",)
    assert certificates.loaded[0].expires_at > 1_700_000_000


def copy(source: Issued, target: Issued) -> None:
    for here, there in ((source.certificate, target.certificate), (source.key, target.key)):
        there.write_bytes(here.read_bytes())
        there.chmod(0o600)


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_3, True, id="TLS 1.3"),
        pytest.param(ssl.TLSVersion.TLSv1_2, True, id="TLS 1.2"),
        pytest.param(ssl.TLSVersion.TLSv1_1, False, id="TLS 1.1"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_versions(
    certificates: Certificates, authority: Authority, version: ssl.TLSVersion, is_taken: bool
) -> None:
    if not is_taken:
        with pytest.raises(ssl.SSLError):
            shown(certificates.context, authority.root, None, minimum_version=version, maximum_version=version)
        return
    assert shown(certificates.context, authority.root, None, minimum_version=version, maximum_version=version)[1]


def missing(issued: Issued) -> None:
    issued.certificate.unlink()


def mismatched(issued: Issued) -> None:
    other = Authority(issued.key.parent).issue("other.example")
    issued.key.write_bytes(other.key.read_bytes())


def readable(issued: Issued) -> None:
    issued.key.chmod(0o644)


def encrypted(issued: Issued) -> None:
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def garbage(issued: Issued) -> None:
    issued.certificate.write_text("no certificate")


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        pytest.param(missing, ConfigError, "cannot be read: No such file", id="a missing file"),
        pytest.param(mismatched, ConfigError, "is not the key of the certificate", id="a key of another certificate"),
        pytest.param(readable, PermissionRefused, "may be read by everybody", id="a key that everybody may read"),
        pytest.param(garbage, ConfigError, "no certificate and key", id="no certificate at all"),
        pytest.param(encrypted, ConfigError, "the key is encrypted", id="an encrypted key, and nobody is asked for it"),
    ],
)
def test_what_cannot_be_used_says_what_and_what_to_do(
    house: House, tmp_path: Path, spoil: Any, error: type[RelayError], text: str
) -> None:
    issued = Authority(tmp_path).issue("relay.test")
    spoil(issued)
    with pytest.raises(error, match=text) as refused:
        Certificates(tls_of(issued), log=house.log)
    assert refused.value.remedy
