"""cli.smarthost_checks: `relay check` logs in at each smarthost before any mail depends on it."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Answer, Relay
from tests.peers.certificates import Authority
from tests.peers.mx import Mx, ScriptedMx
from tests.peers.receiving import receiving

EXTENSIONS = ("AUTH PLAIN LOGIN",)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> ssl.SSLContext:
    return authority.issue("127.0.0.1").server_context()


@pytest.fixture
def login(authority: Authority, certificate: ssl.SSLContext, tmp_path: Path) -> tuple[str, ssl.SSLContext]:
    """Keys of a smarthost's table, and the TLS that the smarthost is to have."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    return f'login = "me"\nsecret_file = "{secret}"\nca = "{authority.root}"\n', certificate


def checked(relay: Relay, *, port: int, more: str = "") -> tuple[Answer, dict[str, Any]]:
    """What `relay check` says, and what it says of the smarthost."""
    table = f'[smarthost.provider]\nhost = "127.0.0.1"\nport = {port}\n{more}'
    text = relay.config.read_text()
    relay.config.write_text(f'{text}[[route]]\nvia = "provider"\n{table}')
    answer = relay("check", "--json")
    (found,) = [each for each in answer.json["findings"] if each["subject"] == "smarthost"]
    return answer, found


@pytest.fixture
def server(certificate: ssl.SSLContext) -> Iterator[ScriptedMx]:
    with receiving(Mx({"AUTH": b"235 2.7.0 In\r\n"}, extensions=EXTENSIONS, context=certificate)) as server:
        yield server


def test_a_smarthost_that_takes_our_login(relay: Relay, server: ScriptedMx, login: tuple[str, ssl.SSLContext]) -> None:
    _, found = checked(relay, port=server.port, more=login[0])
    assert found["grade"] == "ok"
    assert found["text"] == f"provider: 127.0.0.1[127.0.0.1]:{server.port} takes our login, TLSv1.3 verified"


def test_a_smarthost_without_a_login(relay: Relay) -> None:
    with receiving(Mx()) as plain:
        _, found = checked(relay, port=plain.port, more='security = "none"\n')
    assert found["text"] == f"provider: 127.0.0.1[127.0.0.1]:{plain.port} gives a session, no TLS"


@pytest.mark.parametrize(
    ("verb", "says", "remedy"),
    [
        pytest.param(
            "AUTH",
            "535 5.7.8 Username and Password not accepted",
            "Correct login and secret_file in [smarthost.provider].",
            id="a login that is refused",
        ),
        pytest.param(
            "STARTTLS",
            "454 4.7.0 TLS not available",
            "Correct security in [smarthost.provider]",
            id="TLS that is refused",
        ),
        pytest.param("EHLO", "421 4.3.2 busy", "", id="a server that is busy"),
    ],
)
def test_a_smarthost_that_gives_no_session(
    verb: str, says: str, remedy: str, relay: Relay, login: tuple[str, ssl.SSLContext]
) -> None:
    table, certificate = login
    mx = Mx({verb: f"{says}\r\n".encode()}, extensions=EXTENSIONS, context=certificate)
    with receiving(mx) as server:
        answer, found = checked(relay, port=server.port, more=table)
    assert answer.code == os.EX_CONFIG
    assert found["grade"] == "error"
    assert says in found["text"]
    assert (found["remedy"] or "").startswith(remedy)


def test_a_certificate_that_does_not_verify(relay: Relay, server: ScriptedMx) -> None:
    _, found = checked(relay, port=server.port)
    assert "the certificate does not verify" in found["text"]
    assert "ca names a CA of your own" in found["remedy"]


def test_a_smarthost_that_is_not_there(relay: Relay) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        _, found = checked(relay, port=port)
    assert "Connection refused" in found["text"]
    assert found["remedy"].startswith(f"Is port {port} open outwards?")


def test_a_smarthost_that_no_route_leads_to(relay: Relay) -> None:
    relay.config.write_text(relay.config.read_text() + '[smarthost.spare]\nhost = "127.0.0.1"\n')
    (found,) = [each for each in relay("check", "--json").json["findings"] if each["subject"] == "smarthost"]
    assert found["grade"] == "warning"
    assert found["text"] == "no route leads to [smarthost.spare]"


def test_a_ca_file_that_is_not_there_keeps_the_server_from_starting(relay: Relay) -> None:
    checked(relay, port=25, more='ca = "nowhere.pem"\n')
    (found,) = [each for each in relay("check", "--json").json["findings"] if each["subject"] == "files"]
    assert "[smarthost.provider] ca: " in found["text"]
