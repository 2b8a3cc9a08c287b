"""The final dot was sent and no reply came: an event of its own, and what the stream's policy says follows from it."""

import re
import threading
from collections.abc import Callable

import pytest

from relay.mail.event import Kind
from tests.peers.mx import Act, Message, Mx, Peer
from tests.peers.receiving import receiving
from tests.peers.waiting import PATIENCE, eventually
from tests.system.relay_process import DOMAIN, RelayProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

Make = Callable[..., RelayProcess]

SOON = {"ladder": ["1s"], "jitter": 0}
RECIPIENT = "someone@postfix.test"
SENDER = f"app@{DOMAIN}"

POLICIES = pytest.mark.parametrize(
    "policy", [pytest.param("retry", id="at least once"), pytest.param("end", id="at most once")]
)


class Taking(Mx):
    """Takes the first message's octets and then does `act`; takes every later one as usual."""

    def __init__(self, act: Callable[[Peer], None]) -> None:
        super().__init__()
        self.taken: list[Message] = []
        self._act = act

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        message = Message(mail, recipients, await peer.content())
        self.taken.append(message)
        if len(self.taken) == 1:
            self._act(peer)
        await peer.say(b"250 2.0.0 Queued\r\n")
        self.messages.append(message)

    def came(self, recipient: str) -> int:
        return sum(f"<{recipient}>".encode() in b"".join(message.recipients) for message in self.taken)


def drop(peer: Peer) -> None:
    peer.drop()


def answers_and_resets(peer: Peer) -> None:
    peer.writer.write(b"250 2.0.0 Queued\r\n")
    peer.drop()


def configured(relay: Make, port: int, policy: str) -> RelayProcess:
    return relay(
        server={"workers": 1},
        stream={"transactional": {"unknown_outcome": policy}},
        delivery={"port": port, "retry": SOON},
    )


def kinds(server: RelayProcess, recipient: str) -> list[Kind]:
    return [event.kind for event in server.events(recipient=recipient) if event.kind is not Kind.ACCEPTED]


@POLICIES
def test_a_connection_dropped_after_the_dot_is_told_and_tried_again_or_not(relay: Make, policy: str) -> None:
    mx = Taking(drop)
    with receiving(mx) as receiver:
        server = configured(relay, receiver.port, policy)
        server.add_domain()
        login = server.add_credential()
        server.start()
        message = server.send(login, RECIPIENT)
        if policy == "retry":
            server.event(Kind.DELIVERED, recipient=RECIPIENT)
            assert kinds(server, RECIPIENT) == [Kind.UNKNOWN, Kind.DELIVERED]
            assert mx.came(RECIPIENT) == 2
        else:
            server.event(Kind.DELIVERED, recipient=SENDER)
            assert kinds(server, RECIPIENT) == [Kind.UNKNOWN]
            assert mx.came(RECIPIENT) == 1
            assert_reported(mx)
        assert_shown(server, message)
        server.stop()


@POLICIES
def test_a_relay_killed_while_it_waits_for_the_reply_to_the_dot(relay: Make, policy: str) -> None:
    at_the_dot = threading.Event()
    killed = threading.Event()

    def wait(peer: Peer) -> None:
        at_the_dot.set()
        killed.wait(PATIENCE)

    mx = Taking(wait)
    with receiving(mx) as receiver:
        server = configured(relay, receiver.port, policy)
        server.add_domain()
        login = server.add_credential()
        server.start()
        message = server.send(login, RECIPIENT)
        assert at_the_dot.wait(PATIENCE)
        server.kill()
        killed.set()
        server.start()
        if policy == "retry":
            server.event(Kind.DELIVERED, recipient=RECIPIENT)
            assert kinds(server, RECIPIENT) == [Kind.DELIVERED]
            assert mx.came(RECIPIENT) == 2
        else:
            server.event(Kind.DELIVERED, recipient=SENDER)
            assert kinds(server, RECIPIENT) == [Kind.UNKNOWN]
            assert mx.came(RECIPIENT) == 1
            assert_reported(mx)
            assert_shown(server, message)
        server.stop()


@POLICIES
def test_a_connection_reset_behind_the_reply_is_no_doubt_where_the_reply_was_read(relay: Make, policy: str) -> None:
    mx = Taking(answers_and_resets)
    with receiving(mx) as receiver:
        server = configured(relay, receiver.port, policy)
        server.add_domain()
        login = server.add_credential()
        server.start()
        server.send(login, RECIPIENT)
        first = eventually(lambda: kinds(server, RECIPIENT), what="its outcome is known")[0]
        # The reset may overtake the reply, and takes it away then; either is told as it was seen.
        assert first in (Kind.DELIVERED, Kind.UNKNOWN)
        if first is Kind.UNKNOWN and policy == "retry":
            server.event(Kind.DELIVERED, recipient=RECIPIENT)
        assert mx.came(RECIPIENT) == (2 if first is Kind.UNKNOWN and policy == "retry" else 1)
        server.stop()


def test_a_connection_found_dead_before_anything_was_sent_is_no_reason_to_end_what_is_sent_at_most_once(
    relay: Make,
) -> None:
    mx = Mx({"MAIL": [b"250 2.1.0 Ok\r\n", Act.DROP]})
    with receiving(mx) as receiver:
        server = configured(relay, receiver.port, "end")
        server.add_domain()
        login = server.add_credential()
        server.start()
        server.send(login, "first@postfix.test")
        server.event(Kind.DELIVERED, recipient="first@postfix.test")
        server.send(login, RECIPIENT)  # over the connection left open, which ends as it is used
        server.event(Kind.DELIVERED, recipient=RECIPIENT)
        assert Kind.UNKNOWN not in kinds(server, RECIPIENT)
        server.stop()


def assert_reported(mx: Taking) -> None:
    """To the sender, once, in words that do not claim too much."""
    reports = [each for each in mx.messages if b"multipart/report" in each.content]
    assert len(reports) == 1
    words = re.sub(rb"\s+", b" ", reports[0].content)
    assert b"at most once" in words
    assert b"Action: failed" in words


def assert_shown(server: RelayProcess, message: str) -> None:
    shown = server.command("log", "show", message)
    assert shown.returncode == 0, shown.stderr
    assert "unknown" in shown.stdout
