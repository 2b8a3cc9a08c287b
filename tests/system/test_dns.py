"""What a real nameserver says decides where mail goes: one message to eight domains, through the whole process."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from relay.mail.event import Kind
from tests.peers.certificates import Authority
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import RelayProcess

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("dns")]

PEOPLE = [
    "a@backup.test",
    "b@implicit.test",
    "c@www.alias.test",
    "d@null.test",
    "e@nothing.null.test",
    "f@broken.test",
    "g@dead.test",
    "h@postfix.test",
]


@pytest.fixture(scope="module")
def sent(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, nameserver: str
) -> Iterator[tuple[RelayProcess, str, int]]:
    """The relay, the message's id, and the port of the receiver at 127.0.0.1."""
    with receiving(Mx()) as receiver:
        directory = tmp_path_factory.mktemp("relay")
        relay = RelayProcess(directory, authority, nameserver=nameserver, delivery={"port": receiver.port})
        relay.add_domain()
        login = relay.add_credential()
        relay.start()
        yield relay, relay.send(login, *PEOPLE), receiver.port
        try:
            relay.stop()
        finally:
            relay.close()


@pytest.mark.parametrize(
    ("recipient", "server"),
    [
        pytest.param("h@postfix.test", "mx.postfix.test", id="the MX host"),
        pytest.param("a@backup.test", "live.backup.test", id="the next MX host when the preferred one is dead"),
        pytest.param("b@implicit.test", "implicit.test", id="the domain itself when it has no MX"),
        pytest.param("c@www.alias.test", "mx.postfix.test", id="the MX of what a CNAME leads to"),
    ],
)
def test_mail_goes_to(recipient: str, server: str, sent: tuple[RelayProcess, str, int]) -> None:
    relay, message, port = sent
    event = relay.event(Kind.DELIVERED, message=message, recipient=recipient)
    assert event.mx == f"{server}[127.0.0.1]:{port}"


@pytest.mark.parametrize(
    ("recipient", "words"),
    [
        pytest.param("d@null.test", "5.1.10", id="a null MX"),
        pytest.param("e@nothing.null.test", "5.1.2", id="no such domain"),
    ],
)
def test_mail_bounces_at_once_and_the_address_is_suppressed_for_a_week(
    recipient: str, words: str, sent: tuple[RelayProcess, str, int]
) -> None:
    relay, message, _ = sent
    event = relay.event(Kind.BOUNCED, message=message, recipient=recipient)
    assert words in event.detail
    (found,) = [row for row in suppressions(relay) if row["address"] == recipient]
    assert found["cause"] == "bad_domain"
    assert found["expires_at"] is not None


@pytest.mark.parametrize(
    ("recipient", "words"),
    [
        pytest.param("f@broken.test", "SERVFAIL", id="the nameserver fails"),
        pytest.param("g@dead.test", "refused", id="no host takes connections"),
    ],
)
def test_mail_waits_when(recipient: str, words: str, sent: tuple[RelayProcess, str, int]) -> None:
    relay, message, _ = sent
    event = relay.event(Kind.DEFERRED, message=message, recipient=recipient)
    assert words in event.detail
    assert event.next_attempt_at > event.at


def test_a_nameserver_that_never_answers_holds_up_nobody_else(relay: Callable[..., RelayProcess]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = relay(
            dns={"nameservers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": "1s"},
            route=[{"recipient_domain": "simulator.test", "via": "simulator"}],
        )
        server.add_domain()
        login = server.add_credential()
        server.start()
        waiting = server.send(login, "someone@postfix.test")
        prompt = server.send(login, "delivered@simulator.test")
        assert server.event(Kind.DELIVERED, message=prompt).attempt == 1
        assert not server.events(message=waiting, kind=Kind.DELIVERED)
        deferred = server.event(Kind.DEFERRED, message=waiting)
        assert deferred.detail.startswith("MX of postfix.test: no answer within 1 s from 127.0.0.1:")
        server.stop()


def suppressions(relay: RelayProcess) -> list[dict[str, str]]:
    eventually(lambda: not relay.suppressions_to_come(), what="suppressions are carried over")
    listed: list[dict[str, str]] = json.loads(relay.command("suppression", "list", "--json").stdout)
    return listed
