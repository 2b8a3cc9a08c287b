"""cli.queue: looking at what waits, and ordering it about, with and without a server that owns the shard."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from relay.log import Log, Output
from relay.mail.event import Kind
from relay.server import operations
from relay.server.control import ControlServer
from relay.spool import Content
from relay.spool.numbering import number_of
from relay.spool.spool import Spool
from tests.cli.conftest import Relay
from tests.spool.letters import deferred, new_message


def fill(relay: Relay, *, shard: int = 0) -> list[str]:
    """Three messages: two recipients queued, one deferred, one held. Their ids."""

    async def work(spool: Spool) -> list[str]:
        now = time.time()
        two = new_message(spool, "a@one.example", "b@two.example", at=now)
        kept = new_message(spool, "d@three.example", at=now, sender="", held=True, content=ODD)
        await spool.accept(two, hand_over=False)
        await spool.accept(kept, hand_over=False)
        return [two.id, late, kept.id]

    late = relay.in_shard(defer_one, shard=shard, ago=7200)
    return relay.in_shard(work, shard=shard)


async def defer_one(spool: Spool) -> str:
    """Accepted two hours ago, due in ten minutes."""
    now = time.time()
    message = new_message(spool, "c@one.example", at=now - 7200, credential="news", sender="news@example.com")
    (recipient,) = await spool.accept(message, hand_over=True)
    await spool.settle(deferred(recipient, until=now + 600, reply="451 4.7.1 \x1b[31mcome back later"))
    return message.id


ODD = Content(head=b"From: \x1b]0;title\x07 <x@example.com>\r\nSubject: odd \xff\r\n\r\n", body=b"Hello.\r\n")


def addresses(value: list[dict[str, Any]]) -> list[str]:
    return sorted(entry["recipient"] for entry in value)


class Owner(threading.Thread):
    """A process's part in owning a shard: its lock and its control socket, in a thread of this one."""

    def __init__(self, relay: Relay, shard: int) -> None:
        super().__init__(daemon=True)
        self.started = threading.Event()
        self.failure: Exception | None = None
        self._relay = relay
        self._shard = shard

    def run(self) -> None:
        try:
            asyncio.run(self._own())
        except Exception as error:  # noqa: BLE001 - told where the test waits for it
            self.failure = error
            self.started.set()

    async def _own(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._spool = await Spool.open(self._relay.spool, shard=self._shard)
        log = Log(Output(self._relay.directory / "owner.log"), now=time.time)
        try:
            async with asyncio.TaskGroup() as tasks:
                directory = self._relay.spool / f"shard-{self._shard}"
                server = ControlServer(directory, self._answer, tasks=tasks, log=log)
                await server.start()
                self.started.set()
                await self._end.wait()
                await server.close()
        finally:
            await self._spool.close()

    async def _answer(self, verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if verb == "status":
            return {
                "in_memory": 0,
                "at_work": 0,
                "sites": [SITE],
                "site_of": {"one.example": SITE["name"]},
                "suspended": [],
            }
        if verb == "why":
            return {"trouble": {"0": SITE}, "suspended": {}, "breakers": {"1": BREAKER}}
        return operations.answer(await operations.change(self._spool, verb, parameters))

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self.join(10)


@contextmanager
def owner(relay: Relay, *, shard: int = 0) -> Iterator[None]:
    owning = Owner(relay, shard)
    owning.start()
    assert owning.started.wait(10)
    assert owning.failure is None, owning.failure
    try:
        yield
    finally:
        owning.end()


SITE = {
    "name": "mx.one.example", "waiting": 2, "couriers": 1, "connections": 1, "limit": 1,
    "in_trouble": True, "next_probe_at": 1_800_000_000.0, "last_error": "connection refused",
}  # fmt: skip
BREAKER = {"scope": "example.com", "until": 1_800_000_900.0, "cause": "550 5.7.515 not authenticated from mx3"}


def test_list_has_every_waiting_recipient_oldest_first(relay: Relay) -> None:
    two, late, kept = fill(relay)
    entries = relay.json("queue", "list")
    assert [entry["id"] for entry in entries] == [late, two, two, kept]
    assert [entry["status"] for entry in entries] == ["deferred", "queued", "queued", "held"]
    first = entries[0]
    assert (first["recipient"], first["sender"], first["credential"]) == ("c@one.example", "news@example.com", "news")
    assert first["attempts"] == 1
    assert first["last_reply"] == "451 4.7.1 \x1b[31mcome back later"
    assert first["next_attempt_at"] > first["accepted_at"]
    assert entries[3]["held_at"] is not None


def test_a_peers_escape_sequence_does_not_reach_the_terminal(relay: Relay) -> None:
    _, late, kept = fill(relay)
    for command in (
        ("queue", "list"),
        ("queue", "show", kept),
        ("queue", "why", late),
        ("status",),
        ("log", "show", late),
    ):
        out = relay(*command).out
        assert "\x1b" not in out
        assert "\x07" not in out
    assert "\\x1b[31mcome back later" in relay("queue", "list").out
    assert "\\x1b]0;title\\x07" in relay("queue", "show", kept).out


FILTERS = [
    pytest.param(("--to-domain", "One.Example"), ["a@one.example", "c@one.example"], id="the recipient's domain"),
    pytest.param(("--from", "shop@example.com"), ["a@one.example", "b@two.example"], id="the sender"),
    pytest.param(("--from", "<>"), ["d@three.example"], id="the null sender"),
    pytest.param(("--credential", "news"), ["c@one.example"], id="the credential"),
    pytest.param(("--status", "queued"), ["a@one.example", "b@two.example"], id="the status"),
    pytest.param(("--status", "held"), ["d@three.example"], id="held"),
    pytest.param(("--older-than", "1h"), ["c@one.example"], id="the age"),
    pytest.param(("--to-domain", "one.example", "--status", "queued"), ["a@one.example"], id="two filters"),
    pytest.param(("--limit", "1"), ["c@one.example"], id="a limit"),
]


@pytest.mark.parametrize(("flags", "found"), FILTERS)
def test_list_filters(relay: Relay, flags: tuple[str, ...], found: list[str]) -> None:
    fill(relay)
    assert addresses(relay.json("queue", "list", *flags)) == found


def test_list_by_id_over_two_shards(relay: Relay) -> None:
    first, second = fill(relay)[0], fill(relay, shard=1)[1]
    assert addresses(relay.json("queue", "list", first, second)) == ["a@one.example", "b@two.example", "c@one.example"]
    assert len(relay.json("queue", "list")) == 8
    assert "5 more; see them with --limit 8" in relay("queue", "list", "--limit", "3").err


def test_show_has_envelope_recipients_and_header(relay: Relay) -> None:
    two, _, _ = fill(relay)
    shown = relay.json("queue", "show", two)
    assert shown["header"] == "From: shop@example.com\r\n\r\n"
    assert addresses(shown["recipients"]) == ["a@one.example", "b@two.example"]
    assert "Hello" not in relay("queue", "show", two).out


def test_why_says_what_was_answered_and_when_it_is_tried_next(relay: Relay) -> None:
    _, late, kept = fill(relay)
    (why,) = relay.json("queue", "why", late)
    assert why["last_reply"].startswith("451 4.7.1")
    assert why["last_attempt_at"] is not None
    text = relay("queue", "why", late).out
    assert "c@one.example" in text
    assert "deferred" in text
    assert "(in 9 min" in text
    assert f"relay queue release {kept}" in relay("queue", "why", kept).out


def test_why_says_that_no_server_runs_that_would_try_it(relay: Relay) -> None:
    two, late, _ = fill(relay)
    first, _ = relay.json("queue", "why", two)
    assert first["server"] == "stopped"
    text = relay("queue", "why", two).out
    assert "held back by  no server has it in hand: it is stopped" in text
    assert "next try      when the server runs\n" in text
    assert "being tried" not in text
    assert ", if the server runs then" in relay("queue", "why", late).out
    with owner(relay):
        first, _ = relay.json("queue", "why", two)
        assert first["server"] == "running"
        assert "no server" not in relay("queue", "why", two).out


@pytest.mark.parametrize("verb", ["show", "why"])
def test_a_message_that_is_not_in_the_queue_is_pointed_to_the_log(relay: Relay, verb: str) -> None:
    fill(relay)
    answer = relay("queue", verb, "0" * 15)
    assert answer.code == os.EX_NOUSER
    assert f"relay log show {'0' * 15}" in answer.err


@dataclass(frozen=True)
class Order:
    """What it changes, and how many are in each status afterwards."""

    verb: str
    flags: tuple[str, ...]
    recipients: int
    messages: int
    held: int
    queued: int
    deferred: int


ORDERS = [
    pytest.param(Order("hold", ("--to-domain", "one.example"), 2, 2, held=3, queued=1, deferred=0), id="hold"),
    pytest.param(Order("release", ("--status", "held"), 1, 1, held=0, queued=3, deferred=1), id="release"),
    pytest.param(Order("retry", ("--credential", "news"), 1, 1, held=1, queued=2, deferred=1), id="retry"),
    pytest.param(Order("cancel", ("--from", "shop@example.com"), 2, 1, held=1, queued=0, deferred=1), id="cancel"),
    pytest.param(Order("cancel", ("--all",), 4, 3, held=0, queued=0, deferred=0), id="cancel all"),
    pytest.param(Order("hold", ("--status", "held"), 0, 0, held=1, queued=2, deferred=1), id="hold what is held"),
]


@pytest.mark.parametrize("served", [False, True], ids=["no server", "a server"])
@pytest.mark.parametrize("order", ORDERS)
def test_an_order_changes_what_its_dry_run_counted(relay: Relay, order: Order, served: bool) -> None:
    fill(relay)
    with owner(relay) if served else nullcontext():
        before = relay.json("queue", "list")
        counted = {"recipients": order.recipients, "messages": order.messages}
        assert relay.json("queue", order.verb, *order.flags, "--dry-run") == {**counted, "dry_run": True}
        assert relay.json("queue", "list") == before
        assert relay.json("queue", order.verb, *order.flags) == {**counted, "dry_run": False}
        statuses = [entry["status"] for entry in relay.json("queue", "list")]
    assert [statuses.count(word) for word in ("held", "queued", "deferred")] == [
        order.held,
        order.queued,
        order.deferred,
    ]


def test_an_order_is_in_the_log_with_who_gave_it(relay: Relay) -> None:
    two, _, _ = fill(relay)
    answer = relay("queue", "cancel", two)
    assert answer.out == "2 recipients of 1 message cancelled\n"
    events = relay.json("log", "show", two)
    assert [event["status"] for event in events if event["status"] == Kind.CANCELLED] == ["cancelled"] * 2
    assert os.environ.get("SUDO_USER", "root") in events[-1]["detail"] or events[-1]["detail"]


@pytest.mark.parametrize("verb", ["hold", "release", "retry", "cancel"])
def test_an_order_for_everything_must_say_so(relay: Relay, verb: str) -> None:
    fill(relay)
    answer = relay("queue", verb)
    assert answer.code == os.EX_USAGE
    assert "--all" in answer.err
    assert relay("queue", verb, "--all", "--status", "held").code == os.EX_USAGE
    assert len(relay.json("queue", "list")) == 4


@pytest.mark.parametrize(
    ("domain", "noted"),
    [
        pytest.param("tow.example", 'Did you mean "two.example"?', id="a domain misspelt"),
        pytest.param("elsewhere.net", "", id="one for which nothing waits"),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("hold", "--dry-run")], ids=" ".join)
def test_a_misspelt_domain_in_a_filter_is_noticed(
    relay: Relay, command: tuple[str, ...], domain: str, noted: str
) -> None:
    fill(relay)
    answer = relay("queue", *command, "--to-domain", domain)
    assert answer.code == 0
    assert noted in answer.err
    assert bool(answer.err) == bool(noted)


def test_a_misspelt_credential_in_a_filter_is_noticed(relay: Relay) -> None:
    relay.json("credential", "add", "news", "--from", "*@example.com")
    answer = relay("queue", "hold", "--credential", "nwes")
    assert answer.code == os.EX_NOUSER
    assert 'Did you mean "news"?' in answer.err


def test_a_credential_that_has_nothing_waiting_is_no_mistake(relay: Relay) -> None:
    relay.json("credential", "add", "news", "--from", "*@example.com")
    assert relay.json("queue", "hold", "--credential", "news")["recipients"] == 0


def test_an_owner_that_does_not_listen_is_not_gone_round(relay: Relay) -> None:
    two, _, _ = fill(relay)
    with owner(relay):
        (relay.spool / "shard-0/control.sock").unlink()
        answer = relay("queue", "cancel", two)
    assert answer.code == os.EX_UNAVAILABLE
    assert len(relay.json("queue", "list")) == 4


def test_holding_a_credential_points_to_its_mail_in_the_queue(relay: Relay) -> None:
    relay.json("credential", "add", "news", "--from", "*@example.com")
    fill(relay)
    assert "relay queue hold --credential news" in relay("credential", "hold", "news").err
    relay("queue", "hold", "--credential", "news")
    assert "relay queue release --credential news" in relay("credential", "release", "news").err


# --- what is damaged


def damage_one(relay: Relay) -> str:
    """The id of a message with two recipients, set aside because its sender is another."""
    two, *_ = fill(relay)
    with closing(sqlite3.connect(relay.spool / "shard-0" / "queue.db")) as connection, connection:
        connection.execute("UPDATE message SET sender = 'x@example.com' WHERE number = ?", (number_of(two, shard=0),))

    async def read(spool: Spool) -> None:
        await spool.due(until=time.time(), limit=10)

    relay.in_shard(read)
    return two


def test_damaged_mail_is_seen_with_its_id_and_reason(relay: Relay) -> None:
    damaged = damage_one(relay)
    reason = "what is kept of its message is damaged"
    entries = relay.json("queue", "list", "--status", "damaged")
    assert [(entry["id"], entry["status"], entry["damage"]) for entry in entries] == [(damaged, "damaged", reason)] * 2
    assert {entry["damage"] for entry in relay.json("queue", "list", "--status", "held")} == {None}
    for command in (("queue", "list"), ("queue", "show", damaged), ("queue", "why", damaged)):
        assert reason in relay(*command).out
    assert f"relay queue release {damaged}" in relay("queue", "why", damaged).out
    assert relay.json("status")["queue"]["damaged"]["recipients"] == 2
    assert "2 recipients" in next(line for line in relay("status").out.splitlines() if line.startswith("damaged"))
    held = [event for event in relay.json("log", "show", damaged) if event["status"] == "held"]
    assert [event["detail"] for event in held] == [f"set aside: {reason}"] * 2


def test_damaged_mail_is_cancelled_or_tried_again_by_an_operator(relay: Relay) -> None:
    damaged = damage_one(relay)
    assert relay.json("queue", "release", "--status", "damaged")["recipients"] == 2
    assert relay.json("queue", "cancel", damaged)["recipients"] == 2
    assert relay("queue", "show", damaged).code == os.EX_NOUSER


def test_a_message_without_content_is_shown_all_the_same(relay: Relay) -> None:
    two, *_ = fill(relay)
    with closing(sqlite3.connect(relay.spool / "shard-0" / "queue.db")) as connection, connection:
        connection.execute("DELETE FROM content WHERE message = ?", (number_of(two, shard=0),))
    assert relay.json("queue", "show", two)["header"] == ""


# --- status


def test_status_without_a_server(relay: Relay) -> None:
    fill(relay)
    fill(relay, shard=1)
    status = relay.json("status")
    assert status["server"] == "stopped"
    assert {word: entry["recipients"] for word, entry in status["queue"].items()} == {
        "queued": 4,
        "deferred": 2,
        "held": 2,
        "damaged": 0,
    }
    assert "damaged" not in relay("status").out
    assert status["queue"]["deferred"]["oldest_at"] is not None
    assert status["domains"][0]["domain"] == "one.example"
    assert status["domains"][0]["recipients"] == 4
    assert status["domains"][0]["last_reply"].startswith("451")
    assert status["disk"]["free"] > 0
    assert [failure["status"] for failure in status["failures"]] == ["deferred", "deferred"]
    assert status["certificates"][0]["error"]
    text = relay("status").out
    assert "stopped" in text
    assert "one.example" in text


def test_status_beside_a_server_names_sites_in_trouble(relay: Relay) -> None:
    fill(relay)
    with owner(relay):
        status = relay.json("status")
        text = relay("status").out
    assert status["server"] == "running"
    assert status["trouble"] == [
        {
            "site": "mx.one.example",
            "source": None,
            "waiting": 2,
            "next_probe_at": "2027-01-15T08:00:00.000Z",
            "last_error": "connection refused",
        }
    ]
    assert status["sites"][0] == {
        "site": "mx.one.example",
        "domains": 1,
        "recipients": 2,
        "why": "connection refused",
    }
    assert "connection refused" in text


def test_why_beside_a_server_names_the_site_in_trouble_and_its_next_probe(relay: Relay) -> None:
    two, _, _ = fill(relay)
    with owner(relay):
        first, second = relay.json("queue", "why", two)
        text = relay("queue", "why", two).out
    assert (first["site_in_trouble"], first["site_error"]) == ("mx.one.example", "connection refused")
    assert first["next_probe_at"] == "2027-01-15T08:00:00.000Z"
    assert second["site_in_trouble"] is None
    assert second["breaker"] == {
        "scope": "example.com",
        "probe_at": "2027-01-15T08:15:00.000Z",
        "cause": "550 5.7.515 not authenticated from mx3",
    }
    assert "queued: a breaker holds it; one message probes, the others wait" in text
    assert "held back by  the breaker: mail of example.com waits for a probe at" in text
    assert "held back by  the site is in trouble: connection refused" in text
    assert "mx.one.example" in text


def test_status_of_an_empty_spool(relay: Relay) -> None:
    status = relay.json("status")
    assert (status["server"], status["domains"], status["failures"]) == ("stopped", [], [])
    assert relay("status").code == 0
