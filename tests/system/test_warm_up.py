"""Warm-ups, blocklists and rests as an operator sees them, with one worker and with two."""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.mail.event import Kind
from tests.peers.mx import Mx, Peer
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import Login, RelayProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
ONE, TWO = "127.0.0.4", "127.0.0.5"
PLAN = {"first": 3, "growth": 2, "until": 1000, "hours": 1}


class Counting(Mx):
    """Knows from which address each message came."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: Counter[str] = Counter()

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        await super()._take(peer, mail, recipients)
        self.taken[peer.writer.get_extra_info("peername")[0]] += 1


def source(address: str, **keys: Any) -> dict[str, Any]:
    return {"address": address, "hostname": f"out{address[-1]}.relay.example.com", **keys}


def today(*, later: int = 0) -> str:
    """UTC's, so many days later."""
    return (datetime.now(UTC).date() + timedelta(days=later)).isoformat()


def told(server: RelayProcess, *words: str) -> Any:
    """What a command says with --json."""
    done = server.command(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text(server: RelayProcess, *words: str) -> str:
    """... and without, on one line."""
    done = server.command(*words)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


@contextmanager
def running(relay: Make, mx: Mx, *sources: dict[str, Any], **tables: Any) -> Iterator[tuple[RelayProcess, Login]]:
    with receiving(mx) as receiver:
        server = relay(delivery={"port": receiver.port}, source=list(sources), **tables)
        server.add_domain()
        login = server.add_credential()
        server.start()
        yield server, login


@WORKERS
def test_a_days_number_holds_for_the_machine_and_over_a_restart(relay: Make, workers: int) -> None:
    mx = Counting()
    sources = source(ONE, weight=9, warm_up=today()), source(TWO, weight=0)
    with running(relay, mx, *sources, server={"workers": workers}, warm_up=PLAN) as (server, login):
        for number in range(12):
            server.send(login, f"{number}@postfix.test")
        eventually(lambda: mx.taken.total() == 12, what="all is delivered")
        assert mx.taken == {ONE: 3, TWO: 9}
        assert not server.events(kind=Kind.DEFERRED)
        server.stop()
        server.start()
        for number in range(6):
            server.send(login, f"again{number}@postfix.test")
        eventually(lambda: mx.taken.total() == 18, what="all is delivered")
        assert mx.taken[ONE] == 3
        shown = told(server, "source", "show", ONE)
        assert (shown["warm_up"]["state"], shown["warm_up"]["day"], shown["warm_up"]["per_day"]) == ("warming", 1, 3)
        (provider,) = shown["providers"]
        assert (provider["provider"], provider["used_in_day"], provider["per_day"]) == ("mx.postfix.test", 3, 3)
        assert "3 of 3" in text(server, "source", "show", ONE)
        assert "day 1 of 9: 3 messages to each provider" in text(server, "source", "list")
        assert server.metric("relay_source_warm_up_day", f'source="{ONE}"') == 1.0
        assert server.metric("relay_warm_up_waiting_domains") == 0.0


def test_where_all_addresses_are_in_their_warm_up_mail_waits_and_commands_say_so(relay: Make) -> None:
    mx = Counting()
    with running(relay, mx, source(ONE, warm_up=today()), warm_up=PLAN) as (server, login):
        for number in range(3):
            server.event(Kind.DELIVERED, message=server.send(login, f"{number}@postfix.test"))
        message = server.send(login, "x@postfix.test")
        eventually(lambda: told(server, "queue", "why", message)[0]["site_error"], what="it is known")
        (why,) = told(server, "queue", "why", message)
        words = f"{ONE} is in day 1 of its warm-up: its 3 messages per day to mx.postfix.test are used up"
        assert (why["attempts"], why["site_error"], why["site_source"]) == (0, words, ONE)
        assert why["next_probe_at"] > datetime.now(UTC).isoformat()[:16]
        said = text(server, "queue", "why", message)
        assert f"held back by {words}" in said
        assert "the numbers of our address's warm-up are used up" in said
        assert told(server, "site", "show", "postfix.test")["state"] == "out_of_quota"
        eventually(lambda: server.metric("relay_warm_up_waiting_domains") == 1.0, what="the metric says so")


def test_a_setback_is_kept_and_shown(relay: Make) -> None:
    too_much = b"421 4.7.28 Gmail has detected an unusual rate of unsolicited mail\r\n"
    mx = Counting()
    mx.answer("RCPT", [too_much])
    with running(relay, mx, source(ONE, warm_up=today()), warm_up=PLAN) as (server, login):
        server.send(login, "first@postfix.test")
        server.event(Kind.DEFERRED, recipient="first@postfix.test")
        assert server.logged("warm-up set back")["provider"] == "mx.postfix.test"
        server.event(Kind.DELIVERED, message=server.send(login, "second@postfix.test"))
        (provider,) = told(server, "source", "show", ONE)["providers"]
        (setback,) = provider["setbacks"]
        assert (setback["day"], "4.7.28" in setback["reply"]) == (today(), True)


@WORKERS
def test_an_address_is_put_to_rest_and_resumed_whether_a_server_runs_or_not(relay: Make, workers: int) -> None:
    mx = Counting()
    with running(relay, mx, source(ONE), source(TWO), server={"workers": workers}) as (server, login):
        rested = told(server, "source", "rest", ONE, "--for", "2h", "--reason", "new cable")
        assert (rested["address"], rested["in_force"], rested["reason"]) == (ONE, True, "new cable")
        for number in range(6):
            server.send(login, f"{number}@postfix.test")
        eventually(lambda: mx.taken.total() == 6, what="all is delivered")
        assert set(mx.taken) == {TWO}
        first, second = told(server, "source", "list")
        assert (first["state"], first["until"], second["state"]) == (
            "resting",
            rested["until"][:19] + first["until"][19:],
            "ready",
        )
        assert first["reason"].endswith(": new cable")
        assert any("new cable" in each for each in told(server, "status")["our_addresses"])
        server.stop()
        assert told(server, "source", "resume", ONE) == {"address": ONE, "in_force": True}
        told(server, "source", "rest", TWO)
        server.start()
        for number in range(6):
            server.send(login, f"again{number}@postfix.test")
        eventually(lambda: mx.taken.total() == 12, what="all is delivered")
        assert mx.taken == {TWO: 6, ONE: 6}
        assert f"{TWO} was put to rest" in text(server, "source", "show", TWO)
        assert told(server, "source", "resume", TWO)["in_force"]
        assert server.command("source", "resume", TWO).returncode != 0
        first, second = told(server, "source", "log", ONE)
        assert (first["what"], first["site"], second["what"]) == ("put to rest", None, "resumed")
        assert f"until {rested['until'][:10]}" in first["detail"]
        assert first["detail"].endswith(": new cable")
        assert told(server, "source", "show", ONE)["log"] == [first, second]
        assert "new cable" in text(server, "source", "show", ONE)
        assert [each["what"] for each in told(server, "source", "log", TWO)] == ["put to rest", "resumed"]


def test_what_a_site_refuses_an_address_is_in_the_log_of_the_address(relay: Make) -> None:
    mx = Counting()
    mx.answer("RCPT", [b"550 5.7.1 Unfortunately, messages from [192.0.2.10] weren't sent. (S3150)\r\n"])
    with running(relay, mx, source(ONE), source(TWO, weight=0)) as (server, login):
        server.event(Kind.DELIVERED, message=server.send(login, "x@postfix.test"))
        server.logged("breaker tripped")
        (event,) = told(server, "source", "log", ONE)
        assert (event["site"], event["what"], "(S3150)" in event["detail"]) == (
            "mx.postfix.test",
            "breaker tripped",
            True,
        )
        assert "for a probe: 550 5.7.1" in text(server, "source", "show", ONE)
        assert told(server, "source", "log", TWO) == []
        assert f"Nothing is known to have kept {TWO} from sending" in text(server, "source", "log", TWO)


def test_queue_why_says_that_an_operator_put_the_only_address_to_rest(relay: Make) -> None:
    with running(relay, Counting(), source(ONE)) as (server, login):
        told(server, "source", "rest", ONE)
        message = server.send(login, "x@postfix.test")
        eventually(lambda: told(server, "queue", "why", message)[0]["source_error"], what="it is known")
        said = text(server, "queue", "why", message)
        assert f"held back by {ONE} was put to rest by" in said
        assert f"next try when {ONE} sends again, or another of its pool: relay source show {ONE}" in said
        told(server, "source", "resume", ONE)
        assert server.event(Kind.DELIVERED, message=message).attempt == 1


@WORKERS
def test_a_listed_address_rests_and_is_told_of(relay: Make, workers: int) -> None:
    mx = Counting()
    lists = [{"zone": "list.test"}, {"zone": "broken.test"}]
    with running(relay, mx, source(ONE), source(TWO), server={"workers": workers}, blocklist=lists) as (server, login):
        eventually(lambda: told(server, "source", "list")[0]["state"] == "resting", what="the list was asked")
        for number in range(6):
            server.send(login, f"{number}@postfix.test")
        eventually(lambda: mx.taken.total() == 6, what="all is delivered")
        assert set(mx.taken) == {TWO}
        shown = told(server, "source", "show", ONE)
        assert shown["reason"] == f"{ONE} is listed by list.test (127.0.0.3)"
        assert [(each["zone"], each["codes"]) for each in shown["listed"]] == [("list.test", ["127.0.0.3"])]
        assert shown["blocklists"]["list.test"] is None
        assert "SERVFAIL" in shown["blocklists"]["broken.test"]
        said = text(server, "source", "show", ONE)
        assert "listed by list.test (127.0.0.3), seen since" in said
        assert "broken.test says nothing" in said
        assert server.metric("relay_source_listed", f'source="{ONE}"', 'blocklist="list.test"') == 1.0
        assert server.metric("relay_source_listed", f'source="{TWO}"', 'blocklist="list.test"') == 0.0
        assert server.metric("relay_blocklist_answers", 'blocklist="broken.test"') == 0.0
        assert server.metric("relay_blocklist_answers", 'blocklist="list.test"') == 1.0
        assert server.log("source listed")[0]["codes"] == ["127.0.0.3"]
        (event,) = told(server, "source", "log", ONE)  # one worker tells it
        assert (event["what"], event["detail"]) == ("rests", shown["reason"])
        assert any("broken.test" in each for each in told(server, "status")["our_addresses"])
        server.configure(source=[source(ONE), source(TWO)], blocklist=[])
        server.signal(signal.SIGHUP)
        eventually(lambda: len(told(server, "source", "log", ONE)) == 2, what="it rests no longer")
        event = told(server, "source", "log", ONE)[-1]
        assert (event["what"], event["detail"]) == ("rests no longer", f"it is over that {shown['reason']}")


@WORKERS
def test_an_address_that_a_reload_adds_sends_nothing_before_its_warm_up_begins(relay: Make, workers: int) -> None:
    mx = Counting()
    with running(relay, mx, source(ONE, warm_up=today()), server={"workers": workers}, warm_up=PLAN) as (server, login):
        for number in range(20):
            server.send(login, f"{number}@postfix.test")
        eventually(lambda: mx.taken.total() == 3, what="the numbers of the first day are used up")
        sources = [source(ONE, warm_up=today())]
        for times, address in enumerate((TWO, "127.0.0.6", "127.0.0.7", "127.0.0.8"), start=1):
            sources.append(source(address, warm_up=today(later=2)))
            server.configure(source=sources)
            server.signal(signal.SIGHUP)
            server.logged("config reloaded", times=times * workers)
            assert told(server, "source", "list")[times]["state"] == "resting"
        server.configure(source=[*sources, source("127.0.0.9")])
        server.signal(signal.SIGHUP)
        eventually(lambda: mx.taken.total() == 20, what="all is delivered")
        assert mx.taken == {ONE: 3, "127.0.0.9": 17}


def test_an_address_whose_warm_up_begins_tomorrow_is_shown(relay: Make) -> None:
    with running(relay, Counting(), source(ONE, warm_up=today(later=2)), source(TWO)) as (server, _):
        (first, _) = told(server, "source", "list")
        assert (first["state"], first["warm_up"]["state"]) == ("resting", "later")
        assert f"begins {today(later=2)}" in text(server, "source", "list")
