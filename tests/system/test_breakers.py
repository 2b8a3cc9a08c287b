"""Breakers belong to the machine: what one worker finds out all obey, one message probes, and nothing forgets them."""

import json
import os
import signal
import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from relay.mail.event import Kind
from relay.mail.queue_id import shard_of
from relay.server.remembering import FILE
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import Login, RelayProcess, submit

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

LISTED = b"550 5.7.1 Unfortunately, messages from [192.0.2.10] weren't sent. Please contact us. (S3150)\r\n"
UNSIGNED = b"550 5.7.20 No passing DKIM signature found\r\n"  # no rule blocks for it: it is counted
SUSPENDING = b"451 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints\r\n"
NO_REPORT = ["NOTIFY=NEVER"]  # it would be refused too
WORKERS = (0, 1)


def asked_for(mx: Mx) -> int:
    """Recipients that the server was asked to take."""
    return sum(session.verbs.count("RCPT") for session in mx.sessions)


class Mail:
    """Sent to one site until each worker has some."""

    def __init__(self, server: RelayProcess) -> None:
        self.server = server
        self.sent = 0

    def reaches(self, login: Login, *, workers: tuple[int, ...] = WORKERS) -> list[str]:
        """One message to each of them at least; their ids."""
        ids: list[str] = []
        while not set(workers) <= {shard_of(each) for each in ids}:
            assert len(ids) < 200, "the workers take turns"
            self.sent += 1
            ids.append(self.server.send(login, f"{self.sent}@postfix.test"))
        return ids


def started(relay: Make, port: int, *names: str, workers: int = 2) -> tuple[RelayProcess, list[Login]]:
    server = relay(server={"workers": workers}, delivery={"port": port})
    server.add_domain()
    logins = [server.add_credential(name) for name in names]
    server.start()
    return server, logins


def waiting(server: RelayProcess) -> Any:
    done = server.command("site", "show", "postfix.test", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def all_held(server: RelayProcess, *, count: int) -> None:
    """And the report of the first, which goes to the same site."""
    eventually(lambda: waiting(server)["queued"] == count + 1, what=f"{count} wait")
    assert waiting(server)["state"] == "blocked"


def retry_all(server: RelayProcess, *, until: str, times: int = 1) -> None:
    """Again and again: just after a probe was refused, none is made for an order."""
    eventually(lambda: _is_logged_after_retry(server, until, times), what=until, every=1.0)


def _is_logged_after_retry(server: RelayProcess, event: str, times: int) -> bool:
    if len(server.log(event)) < times:
        assert server.command("queue", "retry", "--all").returncode == 0
    return len(server.log(event)) >= times


def test_what_one_worker_finds_out_all_obey_over_kills_and_restarts_until_one_probe_is_taken(relay: Make) -> None:
    mx = Mx({"RCPT": LISTED})
    with receiving(mx) as receiver:
        server, (login,) = started(relay, receiver.port, "app")
        mail = Mail(server)
        server.send(login, "first@postfix.test")
        server.event(Kind.BOUNCED, recipient="first@postfix.test")
        server.logged("breaker tripped")
        held = mail.reaches(login)
        all_held(server, count=len(held))
        assert asked_for(mx) == 1

        for slot in WORKERS:  # whichever has found out
            os.kill(server.workers()[slot], signal.SIGKILL)
            server.logged("worker ready", times=3 + slot)
            held += mail.reaches(login, workers=(slot,))
        all_held(server, count=len(held))
        assert asked_for(mx) == 1

        server.stop()
        server.start()
        held += mail.reaches(login)
        all_held(server, count=len(held))
        assert asked_for(mx) == 1
        assert server.metric("relay_breakers_open") == 1

        retry_all(server, until="breaker tripped", times=2)
        assert server.logged("breaker tripped", times=2)["probe_in"] == 1800

        mx.be_orderly("RCPT")
        retry_all(server, until="breaker closed")
        eventually(lambda: waiting(server)["queued"] == 0, what="all is delivered")
        assert asked_for(mx) == 2 + len(mx.messages)  # the first, and one probe for all that two workers had
        assert (len(server.log("breaker tripped")), len(server.log("breaker closed"))) == (2, 1)
        of_breakers = [each for each in happened(server) if each.startswith("breaker")]
        assert of_breakers == ["breaker tripped", "breaker tripped", "breaker closed"]
        assert server.metric("relay_breakers_open") == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_breaker_outlives_a_kill_of_the_whole_server_a_moment_after_it_tripped(relay: Make, workers: int) -> None:
    mx = Mx({"RCPT": LISTED})
    with receiving(mx) as receiver:
        server, (login,) = started(relay, receiver.port, "app", workers=workers)
        server.send(login, "first@postfix.test")
        server.logged("breaker tripped")
        server.send(login, "second@postfix.test")
        all_held(server, count=1)
        kept = server.spool / FILE
        eventually(lambda: kept.exists() and "S3150" in kept.read_text(), what="it is on the disk", within=10.0)

        server.kill()
        server.start()
        server.send(login, "third@postfix.test")
        all_held(server, count=2)
        assert asked_for(mx) == 1


def happened(server: RelayProcess, *words: str) -> list[str]:
    done = server.command("site", "log", "postfix.test", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [each["what"] for each in json.loads(done.stdout)]


def test_what_happened_at_a_site_is_told_by_the_server_and_without_it(relay: Make) -> None:
    mx = Mx({"RCPT": [SUSPENDING]})
    with receiving(mx) as receiver:
        server, (login,) = started(relay, receiver.port, "app")
        assert server.command("site", "suspend", "postfix.test", "--reason", "their request").returncode == 0
        assert server.command("site", "resume", "postfix.test").returncode == 0
        server.send(login, "a@postfix.test")
        eventually(lambda: "slowed" in happened(server), what="it is slowed")
        eventually(lambda: happened(server).count("suspended") == 2, what="a rule suspends it")
        assert sorted(happened(server)) == ["resumed", "slowed", "suspended", "suspended"]
        assert happened(server, "--since", "2099-01-01") == []
        shown = waiting(server)["log"]
        assert [each["what"] for each in shown] == happened(server)
        text = " ".join(server.command("site", "show", "postfix.test").stdout.split())
        assert "until it is resumed: their request" in text
        assert "[TSS04]" in next(each["detail"] for each in shown if each["what"] == "slowed")
        server.stop()
        done = server.command("site", "log", "mx.postfix.test")  # by its name: no server knows the domain
        assert "their request" in " ".join(done.stdout.split())


def test_refusals_are_counted_over_all_workers(relay: Make) -> None:
    mx = Mx()
    with receiving(mx) as receiver, ExitStack() as opened:
        server, logins = started(relay, receiver.port, "shop", "blog")
        sessions = [opened.enter_context(session_at(server, login, slot)) for slot in WORKERS for login in logins]
        mx.answer("RCPT", UNSIGNED)
        for number, session in enumerate(sessions):  # two of each worker's
            submit(session, f"{number}@postfix.test", rcpt_options=NO_REPORT)
            server.event(Kind.BOUNCED, recipient=f"{number}@postfix.test")
        assert not server.log("breaker tripped")
        submit(sessions[0], "last@postfix.test", rcpt_options=NO_REPORT)
        assert server.logged("breaker tripped")["scope"] == "sender.example"


@contextmanager
def session_at(server: RelayProcess, login: Login, slot: int) -> Iterator[smtplib.SMTP]:
    """An authenticated session with that worker."""
    with ExitStack() as opened:
        while True:
            session = opened.enter_context(server.session(login))
            message = submit(session, "somebody@postfix.test")
            server.event(Kind.DELIVERED, message=message)
            if shard_of(message) == slot:
                yield session
                return
