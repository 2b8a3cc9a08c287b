"""The quick start's own CA: what it issues is what clients accept."""

import datetime as dt
import ipaddress
import socket
import ssl
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509

from relay.server.certificates import make_local_tls

NOW = dt.datetime.now(dt.UTC)
HOSTNAME = "relay.example.com"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls") / "tls"
    make_local_tls(directory, hostname=HOSTNAME, now=NOW)
    return directory


def leaf(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates((directory / "fullchain.pem").read_bytes())[0]


@pytest.mark.parametrize("name", ["-verify_hostname relay.example.com", "-verify_hostname localhost", "-verify_ip ::1"])
def test_openssl_verifies_it_strictly(made: Path, name: str) -> None:
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *name.split(), "-CAfile"]
    verified = subprocess.run(
        [*command, made / "ca.pem", made / "fullchain.pem"], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr


def test_it_is_for_this_host_and_loopback_and_no_other(made: Path) -> None:
    names = leaf(made).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", HOSTNAME]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    command = ["openssl", "verify", "-verify_hostname", "mx.example.com", "-CAfile"]
    verified = subprocess.run(
        [*command, made / "ca.pem", made / "fullchain.pem"], capture_output=True, text=True, check=False
    )
    assert "hostname mismatch" in verified.stderr


def test_it_lasts_as_long_as_verifiers_accept(made: Path) -> None:
    certificate = leaf(made)
    assert certificate.not_valid_before_utc <= NOW
    assert (certificate.not_valid_after_utc - NOW).days in (824, 825)


def test_only_its_owner_reads_the_key_and_the_ca_has_none(made: Path) -> None:
    assert stat.S_IMODE((made / "privkey.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in made.iterdir()) == ["ca.pem", "fullchain.pem", "privkey.pem"]


@pytest.mark.parametrize(
    "hostname",
    [
        pytest.param("localhost", id="a name that is in the list anyway"),
        pytest.param("localhost.localdomain", id="the quick start's last resort"),
        pytest.param("x" * 60 + ".example.com", id="one longer than a common name may be"),
    ],
)
def test_any_host_name_will_do(tmp_path: Path, hostname: str) -> None:
    make_local_tls(tmp_path, hostname=hostname, now=NOW)
    names = leaf(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(dict.fromkeys(["localhost", hostname]))


def test_a_client_that_trusts_the_ca_verifies_a_server_that_has_it(made: Path) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(made / "fullchain.pem", made / "privkey.pem")
    client_context = ssl.create_default_context(cafile=made / "ca.pem")
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT

    def serve() -> None:
        accepted, _ = listener.accept()
        with server_context.wrap_socket(accepted, server_side=True) as served:
            served.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        with (
            socket.create_connection(listener.getsockname()) as plain,
            client_context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            assert client.version() == "TLSv1.3"
            client.sendall(b"x")
        serving.join()
