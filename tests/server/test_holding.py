"""A shard as a worker owns it: delivered from, recorded, commanded, and let go of."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relay.errors import SpoolError, SpoolLocked, Unavailable, UsageError
from relay.journal.query import Query
from relay.journal.search import Search
from relay.mail.event import Event, Kind
from relay.mail.suppression import Cause, Suppression
from relay.registry.suppression_rows import Filter
from relay.server.bookkeeping import MOST_REFUSALS
from relay.server.control import SOCKET, call
from relay.server.holding import Holding
from relay.server.upkeep import works
from relay.spool import Outcome, Selection, Settlement
from relay.spool.spool import Spool
from tests.journal import stories
from tests.server.household import household, leave, post
from tests.server.logbook import Logbook
from tests.server.tables import config

DISCARD = [{"via": "discard"}]
WITHIN = 10.0


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """The first true value; something else moves meanwhile."""
    async with asyncio.timeout(WITHIN):
        while not (found := await holds()):  # noqa: ASYNC110  a disk is looked at; nobody tells of changes
            await asyncio.sleep(0.01)
    return found


async def journaled(directory: Path, kind: Kind) -> list[Event]:
    found = await Search(directory).search(Query(status=kind, limit=100))
    return list(found.events)


async def attempted(directory: Path, times: int) -> bool:
    """An order to try again is journaled as well."""
    return sum("asked by" not in event.detail for event in await journaled(directory, Kind.DEFERRED)) >= times


def refusal(message: str) -> Event:
    return stories.event(time.time(), Kind.REJECTED, message=message)


# Delivery and what is recorded of it.


async def test_what_is_due_is_delivered_and_its_story_carried_to_the_journal(tmp_path: Path, logbook: Logbook) -> None:
    message = await leave(tmp_path, 0, "a@dest.example", "b@dest.example")
    async with household(config(tmp_path, route=DISCARD), logbook) as house:
        (holding,) = house.parts.holdings
        await holding.start()
        await until(holding.is_empty)
        delivered = await journaled(tmp_path, Kind.DELIVERED)
        assert sorted((event.message, event.recipient) for event in delivered) == [
            (message, "a@dest.example"),
            (message, "b@dest.example"),
        ]


async def test_what_the_shard_proved_about_addresses_is_carried_to_the_list(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        (holding,) = house.parts.holdings
        message = await post(holding.spool, "gone@dest.example")
        (recipient,) = await holding.spool.due(until=time.time() + 1, limit=10)
        bounced = stories.event(time.time(), Kind.BOUNCED, message=message, recipient="gone@dest.example")
        proved = Suppression("gone@dest.example", Cause.HARD_BOUNCE, created_at=time.time(), message=message)
        outcome = Outcome(recipient.position, bounced, final=True)
        await holding.spool.settle(Settlement(message, (outcome,), suppressions=(proved,)))
        await holding.start()
        assert await until(lambda: house.stores.suppressions.find(Filter())) == [proved]
        await until(holding.is_empty)


async def test_refusals_are_journaled_and_what_waits_at_the_end_too(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        (holding,) = house.parts.holdings
        await holding.start()
        holding.books.refused(refusal("first"))
        assert [event.message for event in await until(lambda: journaled(tmp_path, Kind.REJECTED))] == ["first"]
        holding.books.refused(refusal("last"))
    again = await Spool.open(tmp_path, shard=0)
    waiting = [event.message for _, event in await again.events()]
    await again.close()
    assert {*waiting, *(event.message for event in await journaled(tmp_path, Kind.REJECTED))} == {"first", "last"}


async def test_refusals_that_come_too_fast_are_left_out_and_told(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        (holding,) = house.parts.holdings
        for number in range(MOST_REFUSALS + 1):
            holding.books.refused(refusal(f"r{number}"))
        (line,) = logbook.lines("refusal not journaled")
        assert line["id"] == f"r{MOST_REFUSALS}"


async def test_a_disk_that_failed_ends_the_worker(tmp_path: Path, logbook: Logbook) -> None:
    with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012  it ends the TaskGroup, whatever runs in it
        async with household(config(tmp_path), logbook) as house:
            (holding,) = house.parts.holdings
            await holding.start()
            holding.spool._committer.failure = SpoolError("the disk is broken")
            holding.spool.broken.set()
            await asyncio.Event().wait()
    assert any(str(error) == "the disk is broken" for error in raised.value.exceptions)


# Orders.


async def order(house_directory: Path, verb: str, selection: Selection, *, shard: int = 0) -> list[str]:
    answer = await call(house_directory, shard, verb, {"selection": asdict(selection), "by": "ops"})
    return [change["message_id"] for change in answer["changed"]]


async def test_orders_come_by_the_control_socket_and_reach_what_is_in_memory(tmp_path: Path, logbook: Logbook) -> None:
    first = await leave(tmp_path, 0, "a@dest.example", held=True)
    second = await leave(tmp_path, 0, "b@dest.example", held=True)
    async with household(config(tmp_path, route=DISCARD), logbook) as house:
        (holding,) = house.parts.holdings
        await holding.start()
        assert await order(tmp_path, "hold", Selection()) == []
        assert await order(tmp_path, "release", Selection(ids=(second,))) == [second]
        await until(lambda: journaled(tmp_path, Kind.DELIVERED))
        assert await order(tmp_path, "cancel", Selection()) == [first]
        await until(holding.is_empty)
        (cancelled,) = await journaled(tmp_path, Kind.CANCELLED)
        assert cancelled.recipient == "a@dest.example"
        assert "ops" in cancelled.detail


async def test_retry_now_does_not_wait_for_the_time_nor_for_a_site_in_trouble(tmp_path: Path, logbook: Logbook) -> None:
    """Its port answers nobody; each order leads to one more attempt."""
    message = await leave(tmp_path, 0, "a@dest.example")
    dead = {"via": "smtp://127.0.0.1:9", "security": "none"}
    async with household(config(tmp_path, route=[dead]), logbook) as house:
        (holding,) = house.parts.holdings
        await holding.start()
        for attempts in (1, 2, 3):
            await until(partial(attempted, tmp_path, attempts))
            status = await call(tmp_path, 0, "status", {})
            assert status["sites"][0]["in_trouble"]
            assert await order(tmp_path, "retry", Selection()) == [message]
        await until(partial(attempted, tmp_path, 4))


async def test_what_waits_only_for_a_site_in_trouble_is_probed_by_an_order(tmp_path: Path, logbook: Logbook) -> None:
    dead = {"via": "smtp://127.0.0.1:9", "security": "none"}
    async with household(config(tmp_path, route=[dead]), logbook) as house:
        (holding,) = house.parts.holdings
        await leave_in(holding, "a@dest.example")
        await holding.start()
        await until(partial(attempted, tmp_path, 1))
        await leave_in(holding, "b@dest.example")  # due, and parked
        await order(tmp_path, "retry", Selection(recipient_domain="dest.example"))
        await until(partial(attempted, tmp_path, 2))


async def test_what_waits_for_a_site_in_trouble_is_told(tmp_path: Path, logbook: Logbook) -> None:
    dead = {"via": "smtp://127.0.0.1:9", "security": "none"}
    async with household(config(tmp_path, route=[dead]), logbook) as house:
        (holding,) = house.parts.holdings
        await leave_in(holding, "a@dest.example")
        await holding.start()
        await until(partial(attempted, tmp_path, 1))
        waiting = await post(holding.spool, "b@dest.example")
        site = (await call(tmp_path, 0, "why", {"message": waiting}))["trouble"]["0"]
        assert site["name"] == "127.0.0.1:9"
        assert "refused" in site["last_error"]
        assert site["next_probe_at"] > time.time()
        assert (await call(tmp_path, 0, "status", {}))["site_of"] == {"dest.example": "127.0.0.1:9"}
        (named,) = (await call(tmp_path, 0, "sites", {"name": "dest.example"}))["sites"]
        assert (named["mx"], named["in_trouble"], named["profile"]) == (["127.0.0.1"], True, "default")
        assert (await call(tmp_path, 0, "sites", {"name": "other.example"})) == {
            "sites": [],
            "site_of": {},
            "suspended": [],
        }
        (looked_up,) = (await call(tmp_path, 0, "look up", {"name": "other.example"}))["sites"]
        assert looked_up["name"] == "127.0.0.1:9"


async def leave_in(holding: Holding, recipient: str) -> None:
    await post(holding.spool, recipient)
    holding.shard.scheduler.released({("dest.example", "app")})


async def test_status_tells_what_is_only_in_memory(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        await house.parts.holdings[0].start()
        assert await call(tmp_path, 0, "status", {}) == {
            "in_memory": 0,
            "at_work": 0,
            "cures": 0,
            "sites": [],
            "outcomes": {},
            "site_of": {},
            "suspended": [],
            "our_addresses": [],
        }


async def test_an_order_nobody_knows_is_the_askers_mistake(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        await house.parts.holdings[0].start()
        with pytest.raises(Exception, match='"burn" is no command for the queue') as refused:
            await call(tmp_path, 0, "burn", {"selection": {}, "by": "ops"})
        assert refused.value.exit_code == UsageError.exit_code  # type: ignore[attr-defined]


# Letting go.


async def test_an_adopted_shard_is_let_go_of_when_it_is_empty_and_its_journal_is_still_looked_after(
    tmp_path: Path, logbook: Logbook
) -> None:
    await leave(tmp_path, 1, "a@dest.example")
    settings = config(tmp_path, route=DISCARD)
    async with household(settings, logbook, shards=(0, 1)) as house:
        own, adopted = house.parts.holdings
        for holding in (own, adopted):
            await holding.start()
        beside = works(house.stores, house.parts, log=logbook.log, empty_every=0.01)
        upkeep = [house.tasks.create_task(work) for work in beside]
        await until(lambda: _is(not adopted.is_held))
        await until(lambda: _is(logbook.lines("adopted shard is empty")))
        assert house.parts.held == (own,)
        assert not (tmp_path / "shard-1" / SOCKET).exists()
        with pytest.raises(Unavailable, match="no server owns"):
            await call(tmp_path, 1, "status", {})
        taken = await Spool.open(tmp_path, shard=1)  # by somebody else
        await taken.close()
        assert [event.recipient for event in await journaled(tmp_path, Kind.DELIVERED)] == ["a@dest.example"]
        await stories.write(tmp_path / "shard-1", [stories.event(time.time() - 40 * stories.DAY)])
        await adopted._retention.look()
        assert len(logbook.lines("journal day deleted")) == 1
        assert own.is_held
        for task in upkeep:
            task.cancel()


async def _is(value: object) -> object:
    return value


async def test_what_is_held_keeps_an_adopted_shard(tmp_path: Path, logbook: Logbook) -> None:
    await leave(tmp_path, 1, "a@dest.example", held=True)
    async with household(config(tmp_path, route=DISCARD), logbook, shards=(0, 1)) as house:
        _, adopted = house.parts.holdings
        await adopted.start()
        assert not await adopted.is_empty()
        await order(tmp_path, "release", Selection(), shard=1)
        await until(adopted.is_empty)


async def test_letting_go_twice_at_once_is_once(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook, shards=(0, 1)) as house:
        adopted: Holding = house.parts.holdings[1]
        await adopted.start()
        await asyncio.gather(adopted.let_go(), adopted.let_go(), adopted.let_go())
        assert not adopted.is_held


async def test_a_shard_is_its_owners_until_it_is_let_go_of(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        with pytest.raises(SpoolLocked):
            await Spool.open(tmp_path, shard=0)
        assert house.parts.held
    await (await Spool.open(tmp_path, shard=0)).close()
