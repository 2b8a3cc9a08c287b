"""cli.send_test: through a whole running server to the built-in receiver, and what is said when that does not work."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Relay
from tests.peers.certificates import Authority

ROOT = Path(__file__).parents[2]
STARTED_WITHIN = 20.0
SERVE = "import pathlib, sys; from relay.server.serve import serve; sys.exit(serve(pathlib.Path(sys.argv[1])))"

CONFIG = """\
[server]
hostname = "relay.example.com"
spool = "spool"
workers = 1
[submission]
starttls = [{starttls}]
tls = [{tls}]
[tls]
certificate = "{certificate}"
key = "{key}"
{ca}
[delivery.retry]
ladder = ["1s"]
[dns]
nameservers = ["127.0.0.1:9"]
timeout = "100ms"
[[route]]
recipient_domain = "simulator.test"
via = "simulator"
[http]
listen = "127.0.0.1:{http}"
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def configure(relay: Relay, *, security: str = "starttls", ca_known: bool = True) -> str:
    """The URL that says whether the server is ready."""
    directory = relay.directory / "ca"
    directory.mkdir()
    authority = Authority(directory)
    issued = authority.issue("127.0.0.1")
    port, http = free_ports(2)
    relay.config.write_text(
        CONFIG.format(
            starttls=f'"127.0.0.1:{port}"' if security == "starttls" else "",
            tls=f'"127.0.0.1:{port}"' if security == "tls" else "",
            certificate=issued.certificate,
            key=issued.key,
            ca=f'ca = "{authority.root}"' if ca_known else "",
            http=http,
        )
    )
    return f"http://127.0.0.1:{http}/readyz"


@contextmanager
def serving(relay: Relay, ready: str) -> Iterator[None]:
    """`relay serve` in a process of its own."""
    log = (relay.directory / "log").open("w")
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(relay.config)], cwd=ROOT, stderr=log)
    try:
        wait_until_ready(process, ready, relay.directory / "log")
        yield
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


def first_credential(relay: Relay) -> None:
    relay.json("domain", "add", "shop.example")
    relay.json("credential", "add", "shop", "--from", "orders@shop.example", "--network", "192.0.2.0/24")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_test_message_is_followed_until_it_is_delivered(relay: Relay, security: str) -> None:
    ready = configure(relay, security=security)
    first_credential(relay)
    with serving(relay, ready):
        sent = relay.json("send-test", "delivered@simulator.test", "--credential", "shop")
        assert [event["status"] for event in sent["events"]] == ["accepted", "delivered"]
        assert {event["id"] for event in sent["events"]} == {sent["id"]}
        assert sent["events"][0]["sender"] == "orders@shop.example"
        assert {event["credential"] for event in sent["events"]} == {"shop"}
        answer = relay("send-test", "delivered@simulator.test")
    assert answer.code == 0
    assert "accepted" in answer.out
    assert "250 2.0.0 Taken by the simulator" in answer.out
    assert answer.err == ""
    (shop,) = relay.json("credential", "list")
    assert (shop["name"], len(shop["secrets"]), shop["last_used_at"]) == ("shop", 1, None)


def test_it_is_the_credential_itself_that_is_tested(relay: Relay) -> None:
    ready = configure(relay)
    first_credential(relay)
    relay.json("credential", "set", "shop", "--limit-hour", "1")
    with serving(relay, ready):
        relay.json("credential", "hold", "shop")
        held = relay("send-test", "delivered@simulator.test", "--credential", "shop", "--wait", "0s")
        assert held.code == os.EX_TEMPFAIL
        assert [entry["status"] for entry in relay.json("queue", "list")] == ["held"]
        limited = relay("send-test", "delivered@simulator.test", "--credential", "shop")
        assert limited.code == os.EX_DATAERR
        assert "may send 1 per hour" in limited.err
        relay.json("credential", "revoke", "shop")
        revoked = relay("send-test", "delivered@simulator.test", "--credential", "shop")
        assert revoked.code == os.EX_USAGE
        assert "was revoked" in revoked.err


def test_the_exit_code_says_what_became_of_it(relay: Relay) -> None:
    ready = configure(relay, ca_known=False)
    first_credential(relay)
    with serving(relay, ready):
        bounced = relay("send-test", "bounce@simulator.test")
        assert bounced.code == os.EX_UNAVAILABLE
        assert "550 5.1.1" in bounced.out
        assert "could not be verified" in bounced.err  # nobody was told of the CA
        waiting = relay("send-test", "defer@simulator.test", "--wait", "200ms")
        assert waiting.code == os.EX_TEMPFAIL
        assert "relay queue why" in waiting.err
        assert relay("send-test", "defer@simulator.test", "--wait", "30s").code == 0


def test_without_a_server_it_says_so(relay: Relay) -> None:
    configure(relay)
    first_credential(relay)
    answer = relay("send-test", "delivered@simulator.test")
    assert answer.code == os.EX_UNAVAILABLE
    assert "no server answers at 127.0.0.1 port" in answer.err
    assert "relay serve" in answer.err
    assert len(relay.json("credential", "list")) == 1


def test_where_nobody_can_log_in_it_says_so(relay: Relay) -> None:
    configure(relay)
    first_credential(relay)
    text = relay.config.read_text()
    starttls = next(line for line in text.splitlines() if line.startswith("starttls"))
    relay.config.write_text(text.replace(starttls, "starttls = []"))
    answer = relay("send-test", "delivered@simulator.test")
    assert answer.code == os.EX_CONFIG
    assert "no listener for logins" in answer.err
    assert "[submission]" in answer.err


def test_without_a_credential_it_says_so(relay: Relay) -> None:
    configure(relay)
    answer = relay("send-test", "delivered@simulator.test")
    assert answer.code == os.EX_NOUSER
    assert "relay credential add" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        pytest.param(("nonsense",), os.EX_DATAERR, "is no address", id="no address"),
        pytest.param(("a@x.example", "--credential", "shpo"), os.EX_NOUSER, 'Did you mean "shop"?', id="no credential"),
        pytest.param(("a@x.example", "--wait", "long"), os.EX_USAGE, "is no duration", id="no duration"),
    ],
)
def test_what_cannot_be_sent(relay: Relay, arguments: tuple[str, ...], code: int, text: str) -> None:
    configure(relay)
    first_credential(relay)
    answer = relay("send-test", *arguments)
    assert answer.code == code
    assert text in answer.err


def test_a_refusal_is_told_with_its_reply(relay: Relay) -> None:
    ready = configure(relay)
    relay.json("credential", "add", "shop", "--from", "orders@shop.example")  # and no key for its domain
    with serving(relay, ready):
        answer = relay("send-test", "delivered@simulator.test")
    assert answer.code == os.EX_DATAERR
    assert "550 5.7.1" in answer.err
    assert "relay domain add" in answer.err
