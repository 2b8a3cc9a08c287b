"""Processes come and go, and nothing that was acknowledged is lost: kills, drains, reloads, more and fewer workers."""

import asyncio
import os
import signal
import smtplib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from relay.mail.event import Kind
from relay.mail.queue_id import shard_of
from tests.peers.mx import Message, Mx, Peer
from tests.peers.receiving import receiving
from tests.peers.waiting import PATIENCE, eventually
from tests.system.relay_process import (
    DOMAIN,
    HOST,
    Login,
    RelayProcess,
    is_running,
    letter,
    queue_id,
    submit,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
SIMULATOR = [{"recipient_domain": "simulator.test", "via": "simulator"}]
RECIPIENT = "someone@postfix.test"


class TestKilled:
    """SIGKILL, at any moment."""

    def test_a_killed_worker_is_replaced_and_what_it_acknowledged_is_delivered(self, relay: Make) -> None:
        mx = Mx()
        with receiving(mx) as receiver:
            server = relay(server={"workers": 2}, delivery={"port": receiver.port})
            login = started(server)
            with Crowd(server, login, clients=4) as crowd:
                for kills in (1, 2, 3):
                    crowd.sends(100)
                    accepted = server.metric("relay_messages_accepted_total")
                    slot, pid = sorted(server.workers().items())[kills % 2]
                    os.kill(pid, signal.SIGKILL)
                    server.logged("worker ended", times=kills)
                    eventually(lambda: len(server.workers()) == 2, what=f"worker {slot} is there again")
                    assert server.metric("relay_messages_accepted_total") >= accepted
                    assert server.metric("relay_worker_restarts_total") == kills
                crowd.sends(100)
            nothing_is_lost(server, crowd.acknowledged, mx)

    def test_workers_end_when_their_supervisor_is_killed_and_a_new_start_takes_over(self, relay: Make) -> None:
        mx = Mx()
        with receiving(mx) as receiver:
            server = relay(server={"workers": 2}, delivery={"port": receiver.port})
            login = started(server)
            with Crowd(server, login, clients=4) as crowd:
                crowd.sends(40)
                workers = list(server.workers().values())
                server.kill()
                killed = time.monotonic()
                eventually(lambda: not any(map(is_running, workers)), what="the workers end", within=10)
                assert time.monotonic() - killed < 10
                server.start()
                crowd.sends(40)
            nothing_is_lost(server, crowd.acknowledged, mx)

    def test_orphaned_workers_finish_the_message_they_are_being_sent(self, relay: Make) -> None:
        server = relay(server={"workers": 2}, route=SIMULATOR)
        login = started(server)
        with server.session(login) as client:
            in_the_middle_of_data(client)
            server.kill()
            say(client, b"the end\r\n.\r\n")
            code, text = client.getreply()
        assert code == 250
        server.start()
        server.event(Kind.DELIVERED, message=queue_id(text))
        server.stop()

    def test_the_only_process_killed_loses_nothing(self, relay: Make) -> None:
        mx = Mx()
        with receiving(mx) as receiver:
            server = relay(delivery={"port": receiver.port})
            login = started(server)
            with Crowd(server, login, clients=4) as crowd:
                crowd.sends(40)
                server.kill()
                server.start()
            nothing_is_lost(server, crowd.acknowledged, mx)


class TestDrain:
    """SIGTERM."""

    @WORKERS
    def test_messages_under_way_are_finished_and_idle_sessions_are_told(self, relay: Make, workers: int) -> None:
        server = relay(server={"workers": workers}, route=SIMULATOR)
        login = started(server)
        with server.session(login) as busy, server.session(login) as idle:
            stranger = socket.create_connection(("127.0.0.1", server.starttls_port))
            stranger.recv(1000)
            in_the_middle_of_data(busy)
            server.signal(signal.SIGTERM)
            assert idle.getreply()[0] == 421
            assert stranger.recv(1000).startswith(b"421 ")
            stranger.close()
            eventually(lambda: refuses_connections(server), what="new connections are refused")
            say(busy, b"the end\r\n.\r\n")
            code, text = busy.getreply()
            assert code == 250
            assert busy.getreply()[0] == 421
        server.ended()
        server.start()
        server.event(Kind.DELIVERED, message=queue_id(text))
        server.stop()

    def test_a_delivery_under_way_is_finished(self, relay: Make) -> None:
        mx = Slow()
        with receiving(mx) as receiver:
            server = relay(server={"workers": 2}, delivery={"port": receiver.port})
            login = started(server)
            sent = server.send(login, RECIPIENT)
            eventually(mx.at_the_dot.is_set, what="the message is being delivered")
            server.signal(signal.SIGTERM)
            server.logged("worker draining", times=2)
            mx.go_on.set()
            server.ended()
            (event,) = server.events(message=sent, kind=Kind.DELIVERED)
            assert event.attempt == 1
            assert len(mx.messages) == 1

    def test_what_takes_longer_than_the_drain_is_cut_short_told_as_unknown_and_tried_again(self, relay: Make) -> None:
        mx = Slow()
        with receiving(mx) as receiver:
            delivery = {"port": receiver.port, "retry": {"ladder": ["1s"]}}
            server = relay(server={"workers": 2, "drain": "1s"}, delivery=delivery)
            login = started(server)
            with server.session(login) as endless:
                in_the_middle_of_data(endless)
                sent = server.send(login, RECIPIENT)
                eventually(mx.at_the_dot.is_set, what="the message is being delivered")
                began = time.monotonic()
                server.stop()
                assert time.monotonic() - began < 8
            (unknown,) = server.events(message=sent, kind=Kind.UNKNOWN)
            assert "the relay ended before the server answered" in unknown.detail
            mx.go_on.set()
            server.start()
            server.event(Kind.DELIVERED, message=sent)
            server.stop()


class TestReload:
    """SIGHUP, and what needs none."""

    @WORKERS
    def test_routes_limits_and_the_log_level_change_without_dropping_a_session(self, relay: Make, workers: int) -> None:
        server = relay(server={"workers": workers}, route=[{"recipient_domain": "a.test", "via": "simulator"}])
        login = started(server)
        with server.session(login) as client:
            server.configure(
                route=[{"recipient_domain": "b.test", "via": "discard"}], submission={"limits": {"recipients": 100}}
            )
            reload(server)
            server.event(Kind.DELIVERED, message=submit(client, "someone@b.test"))
        with server.session(login) as client:
            client.mail(f"app@{DOMAIN}")
            answers = [client.rcpt(f"person{number}@b.test")[0] for number in range(101)]
            assert answers == [250] * 100 + [452]
        server.configure(log={"level": "warning"}, delivery={"window": 10_000})
        server.signal(signal.SIGHUP)
        server.logged("a changed key takes effect at the next start")
        silent = server.send(login, "someone@b.test")
        server.event(Kind.DELIVERED, message=silent)
        assert silent not in server.output
        server.stop()

    @WORKERS
    def test_a_mistake_changes_nothing_and_is_told(self, relay: Make, workers: int) -> None:
        server = relay(server={"workers": workers}, route=SIMULATOR)
        login = started(server)
        right = server.config_path.read_text()
        server.config_path.write_text(right + "\n[delivary]\nport = 26\n")
        server.signal(signal.SIGHUP)
        told = server.logged("config not reloaded")
        assert "delivary" in told["error"] and "line" in told["error"]
        server.event(Kind.DELIVERED, message=server.send(login, "delivered@simulator.test"))
        server.config_path.write_text(right)
        reload(server)
        server.event(Kind.DELIVERED, message=server.send(login, "delivered@simulator.test"))
        server.stop()

    def test_what_only_a_start_can_change_is_named(self, relay: Make) -> None:
        server = relay(server={"workers": 2})
        started(server)
        server.configure(server={"workers": 3}, dns={"timeout": "3s"})
        server.signal(signal.SIGHUP)
        server.logged("config reloaded", times=2)
        named = {line["key"] for line in server.log("a changed key takes effect at the next start")}
        assert named == {"server.workers", "dns"}
        server.stop()

    def test_a_new_certificate_is_served_soon_and_drops_nobody(self, relay: Make) -> None:
        server = relay(server={"workers": 2}, route=SIMULATOR)
        login = started(server)
        with server.session(login, implicit=True) as before:
            old = serial_of(before)
            fresh = server.authority.issue(HOST)
            for new, current in ((fresh.key, server.issued.key), (fresh.certificate, server.issued.certificate)):
                Path(f"{current}.new").write_bytes(new.read_bytes())
                Path(f"{current}.new").chmod(0o600)
                Path(f"{current}.new").rename(current)

            def served() -> set[str]:
                with sessions(server, login, count=6) as opened:
                    return {serial_of(client) for client in opened}

            eventually(lambda: old not in served(), what="the new certificate is served", within=15)
            assert len(server.log("certificate reloaded")) == 2
            submit(before, "delivered@simulator.test")
        server.stop()


class TestCredentials:
    """The registry is changed by another process."""

    @WORKERS
    def test_a_new_credential_works_within_a_second(self, relay: Make, workers: int) -> None:
        server = relay(server={"workers": workers}, route=SIMULATOR)
        started(server)
        login = server.add_credential("late")
        for _ in range(4):  # whichever worker answers; seldom enough to be no guessing
            eventually(lambda: logs_in(server, login), what="the new login works", within=1, every=0.3)
        server.stop()

    @WORKERS
    def test_a_revoked_one_ends_its_open_sessions_within_a_second_and_no_others(
        self, relay: Make, workers: int
    ) -> None:
        server = relay(server={"workers": workers}, route=SIMULATOR)
        login = started(server)
        leaked = server.add_credential("leaked")
        for _ in range(4):
            eventually(lambda: logs_in(server, leaked), what="the login works", every=0.3)
        with server.session(login) as other, sessions(server, leaked, count=6) as revoked:
            server.change(lambda registry: registry.revoke("leaked"))
            began = time.monotonic()
            for client in revoked:
                assert client.getreply()[0] == 421
            assert time.monotonic() - began < 1
            assert other.noop()[0] == 250
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"), server.session(leaked):
            pass
        server.stop()


class TestShards:
    """Each worker has its own."""

    def test_fewer_workers_adopt_the_shards_left_behind(self, relay: Make) -> None:
        mx = Mx({"RCPT": [b"451 4.7.1 Later\r\n"] * 16})
        with receiving(mx) as receiver:
            retry = {"ladder": ["4s"], "jitter": 0}
            server = relay(server={"workers": 4}, delivery={"port": receiver.port, "retry": retry})
            login = started(server)
            waiting = sent_one_by_one(server, login, count=16)
            for each in waiting:
                server.event(Kind.DEFERRED, message=each)
            assert len({shard_of(each) for each in waiting}) > 1
            server.stop()

            server.configure(server={"workers": 1})
            server.start()
            assert server.log("worker ready")[-1]["shards"] == [0, 1, 2, 3]
            waiting.append(server.send(login, RECIPIENT))
            nothing_is_lost(server, waiting, mx)

    def test_orders_reach_an_adopted_shard(self, relay: Make) -> None:
        server = relay(server={"workers": 4}, route=SIMULATOR)
        login = started(server)
        waiting = sent_one_by_one(server, login, count=8, to="defer+{}@simulator.test")
        for each in waiting:
            server.event(Kind.DEFERRED, message=each)
        server.stop()
        server.configure(server={"workers": 2})
        server.start()
        done = server.command("queue", "cancel", *waiting, "--json")
        assert done.returncode == 0, done.stderr
        for each in waiting:
            server.event(Kind.CANCELLED, message=each)
        server.stop()


@dataclass
class Crowd:
    """Clients that send one message after the other and come again when they lose their session."""

    server: RelayProcess
    login: Login
    clients: int
    acknowledged: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def sends(self, count: int) -> None:
        """Wait until it has sent so many more."""
        enough = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= enough, what=f"{count} messages are taken")

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._work) for _ in range(self.clients)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def _work(self) -> None:
        while not self._over.is_set():
            with suppress(OSError, smtplib.SMTPException), self.server.session(self.login) as client:
                self._send(client)

    def _send(self, client: smtplib.SMTP) -> None:
        """Until it is over or something goes wrong."""
        while not self._over.is_set():
            if client.mail(f"app@{DOMAIN}")[0] != 250 or client.rcpt(RECIPIENT)[0] != 250:
                return
            code, text = client.data(letter("one of many"))
            if code == 250:
                self.acknowledged.append(queue_id(text))
            self._over.wait(0.01)


class Slow(Mx):
    """Answers the first final dot when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.at_the_dot = threading.Event()
        self.go_on = threading.Event()

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        message = Message(mail, recipients, await peer.content())
        self.at_the_dot.set()
        await asyncio.to_thread(self.go_on.wait, PATIENCE)
        if await self._answer(peer, "END", b"250 2.0.0 Queued\r\n") < 300:
            self.messages.append(message)


def started(server: RelayProcess) -> Login:
    server.add_domain()
    login = server.add_credential()
    server.start()
    return login


def sent_one_by_one(server: RelayProcess, login: Login, *, count: int, to: str = RECIPIENT) -> list[str]:
    """Each in a session of its own, so that every worker gets some."""
    return [server.send(login, to.format(number)) for number in range(count)]


def nothing_is_lost(server: RelayProcess, acknowledged: list[str], mx: Mx) -> None:
    """Each arrives, and the journal says of each that it was delivered, once; a kill may make it arrive twice."""
    eventually(lambda: not set(acknowledged) - delivered(server).keys(), what="all of them are delivered")
    server.stop()
    assert max(delivered(server).values()) == 1
    arrived = b"\n".join(message.wire for message in mx.messages)
    assert not [each for each in acknowledged if each.encode() not in arrived]


def delivered(server: RelayProcess) -> Counter[str]:
    """How often, by message."""
    return Counter(event.message for event in server.events(kind=Kind.DELIVERED))


def in_the_middle_of_data(client: smtplib.SMTP) -> None:
    client.mail(f"app@{DOMAIN}")
    client.rcpt("delivered@simulator.test")
    assert client.docmd("DATA")[0] == 354
    say(client, letter("in the middle"))


def say(client: smtplib.SMTP, octets: bytes) -> None:
    assert client.sock is not None
    client.sock.sendall(octets)


def refuses_connections(server: RelayProcess) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.starttls_port), timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


def reload(server: RelayProcess) -> None:
    """By SIGHUP, in every worker."""
    before = len(server.log("config reloaded"))
    server.signal(signal.SIGHUP)
    server.logged("config reloaded", times=before + server.tables["server"]["workers"])


@contextmanager
def sessions(server: RelayProcess, login: Login, *, count: int) -> Iterator[list[smtplib.SMTP]]:
    """As many as it takes to meet every worker."""
    with ExitStack() as opened:
        yield [opened.enter_context(server.session(login, implicit=True)) for _ in range(count)]


def serial_of(client: smtplib.SMTP) -> str:
    certificate = client.sock.getpeercert()  # type: ignore[union-attr]
    return str(certificate["serialNumber"])


def logs_in(server: RelayProcess, login: Login) -> bool:
    try:
        with server.session(login):
            return True
    except smtplib.SMTPAuthenticationError:
        return False
