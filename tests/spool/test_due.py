import asyncio
import random
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from relay.spool import QueuedRecipient, Selection, queries
from relay.spool.reads import Reads
from relay.spool.spool import FIRST, Spool
from tests.spool.letters import FIVE_DAYS, NOON, Clock, addresses_due, deferred, delivered, new_message


async def deferred_at(spool: Spool, *times: float, domain: str = "example.org") -> None:
    addresses = [f"at{time:g}@{domain}" for time in times]
    for one in await spool.accept(new_message(spool, *addresses), hand_over=True):
        await spool.settle(deferred(one, until=NOON + times[one.position]))


async def test_the_earliest_comes_first(spool: Spool) -> None:
    await deferred_at(spool, 30, 10, 20)
    assert await addresses_due(spool, until=NOON + 25) == ["at10@example.org", "at20@example.org"]


async def test_a_walk_by_cursor_meets_everything_once(spool: Spool) -> None:
    generator = random.Random(1)
    times = [generator.choice((1.0, 2.0, 3.0, generator.random() * 100)) for _ in range(200)]
    await deferred_at(spool, *times)
    for limit in (1, 7, 1000):
        walked: list[QueuedRecipient] = []
        while batch := await spool.due(after=walked[-1].cursor if walked else None, until=NOON + 50, limit=limit):
            assert len(batch) <= limit
            walked += batch
        assert [one.due_at for one in walked] == sorted(NOON + time for time in times if time <= 50)
        assert len({one.position for one in walked}) == len(walked)


async def test_who_walks_on_meets_what_was_queued_behind_him(spool: Spool, clock: Clock) -> None:
    await deferred_at(spool, 10, 20)
    clock.pass_by(30)
    (*_, last) = await spool.due(until=clock(), limit=10)
    assert await spool.due(after=last.cursor, until=clock(), limit=10) == []
    await spool.accept(new_message(spool, "slow@example.org", at=NOON + 15), hand_over=False)
    again = await spool.due(after=last.cursor, until=clock(), limit=10)
    assert [one.recipient.address for one in again] == ["slow@example.org", "at20@example.org"]
    assert await spool.due(after=again[-1].cursor, until=clock(), limit=10) == []


async def test_what_was_queued_during_a_walk_is_met_by_the_next(spool: Spool, clock: Clock) -> None:
    await deferred_at(spool, 10)
    clock.pass_by(30)
    accepting = asyncio.create_task(spool.accept(new_message(spool, "slow@example.org", at=NOON + 5), hand_over=False))
    walked: list[QueuedRecipient] = []
    while not accepting.done():
        walked += await spool.due(after=walked[-1].cursor if walked else None, until=clock(), limit=10)
    walked += await spool.due(after=walked[-1].cursor, until=clock(), limit=10)
    assert {one.recipient.address for one in walked} == {"at10@example.org", "slow@example.org"}


async def test_a_walk_that_is_given_up_forgets_nothing(spool: Spool, clock: Clock) -> None:
    await deferred_at(spool, 20)
    clock.pass_by(30)
    (last,) = await spool.due(until=clock(), limit=10)
    await spool.accept(new_message(spool, "slow@example.org", at=NOON + 15), hand_over=False)
    given_up = asyncio.create_task(spool.due(after=last.cursor, until=clock(), limit=10))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    found = await spool.due(after=last.cursor, until=clock(), limit=10)
    assert found[0].recipient.address == "slow@example.org"


async def test_what_a_credential_sent_to_one_domain_is_walked_alone(spool: Spool) -> None:
    await deferred_at(spool, 3, 1, 2, domain="example.org")
    await deferred_at(spool, 1, 2, domain="example.net")
    walk = partial(spool.due_in, "example.org", "shop", until=NOON + 9, limit=2)
    first, read_to = await walk()
    assert [one.due_at - NOON for one in first] == [1, 2]
    rest, read_to = await walk(after=read_to)
    assert [one.due_at - NOON for one in rest] == [3]
    assert await walk(after=read_to) == ([], None)
    assert await spool.due_in("example.com", "shop", until=NOON + 9, limit=2) == ([], None)
    assert await spool.due_in("example.org", "other", until=NOON + 9, limit=2) == ([], None)


async def test_all_that_a_credential_sent_is_walked_alone(spool: Spool) -> None:
    for number in range(4):
        credential = "shop" if number % 2 else "news"
        letter = new_message(spool, f"x@{number}.example", at=NOON + number, credential=credential)
        await spool.accept(letter, hand_over=False)
    walk = partial(spool.due_in, "", "shop", until=NOON + 9, limit=1, length=3)
    first, read_to = await walk()
    rest, read_to = await walk(after=read_to)
    assert [one.recipient.domain for one in (*first, *rest)] == ["1.example", "3.example"]
    assert await walk(after=read_to) == ([], None)


async def test_what_others_sent_to_the_domain_is_passed_over_slice_by_slice(spool: Spool) -> None:
    for number in range(7):
        credential = "shop" if number == 5 else "news"
        letter = new_message(spool, f"{number}@example.org", at=NOON + number, credential=credential)
        await spool.accept(letter, hand_over=False)
    walk = partial(spool.due_in, "example.org", "shop", until=NOON + 9, limit=10, length=2)
    found, read_to = await walk()
    assert not found
    for _ in range(2):
        assert read_to is not None
        found, read_to = await walk(after=read_to)
    assert [one.recipient.address for one in found] == ["5@example.org"]


async def test_what_is_left_out_of_a_page_tells_how_far_it_was_read(tmp_path: Path, spool: Spool) -> None:
    await spool.accept(new_message(spool, *(f"{number}@example.org" for number in range(3))), hand_over=False)
    first, read_to = await spool.due_in("example.org", "shop", until=NOON, limit=2)
    reads = await Reads.open(tmp_path / "shard-0" / "queue.db")
    query = queries.due_in("example.org", "shop", after=None, to=None, until=NOON, limit=2, shard=spool.shard)
    question = asyncio.create_task(reads.ask_due(query))
    await asyncio.sleep(0)
    reads.note([one.cursor[1:] for one in first])
    found = await question
    assert (found.recipients, found.read_to) == ([], read_to)
    await reads.close()


async def test_recipients_of_one_message_share_it(spool: Spool) -> None:
    await spool.accept(new_message(spool, "a@example.org", "b@example.org"), hand_over=False)
    one, two = await spool.due(until=NOON, limit=10)
    assert one.message is two.message


async def test_the_next_time_is_the_first_after_the_one_asked_about(spool: Spool) -> None:
    assert await spool.next_due_at(NOON) is None
    await deferred_at(spool, 10, 20)
    assert await spool.next_due_at(NOON) == NOON + 10
    assert await spool.next_due_at(NOON + 10) == NOON + 20
    assert await spool.next_due_at(NOON + 20) is None


async def test_who_looks_through_the_queue_slice_by_slice_finds_all_whose_time_is_over_or_cannot_be_meant(
    spool: Spool,
) -> None:
    for number in range(5):
        lifetime = FIVE_DAYS if number % 2 else 1.0
        letter = new_message(spool, f"a{number}@example.org", f"b{number}@example.org", held=number == 4)
        await spool.accept(replace(letter, expires_at=NOON + lifetime), hand_over=number < 2)
    await deferred_at(spool, 100, 200)
    expected = ["a0@example.org", "b0@example.org", "a2@example.org", "b2@example.org", "at200@example.org"]
    for length, limit in ((1, 10), (3, 10), (100, 10), (100, 1)):
        look = partial(spool.out_of_time, expired_at=NOON + 2, due_after=NOON + 150, limit=limit, length=length)
        found, looked_to = await look()
        while looked_to != FIRST:
            more, looked_to = await look(after=looked_to)
            found += more
        assert [one.recipient.address for one in found] == expected


async def test_held_and_fresh_recipients_are_never_due(spool: Spool) -> None:
    await spool.accept(new_message(spool, "fresh@example.org"), hand_over=True)
    await spool.accept(new_message(spool, "held@example.org", held=True), hand_over=False)
    assert await addresses_due(spool) == []
    assert await spool.due_in("example.org", "shop", until=NOON, limit=10) == ([], None)


async def test_what_was_settled_while_a_question_was_under_way_is_left_out(tmp_path: Path, spool: Spool) -> None:
    await spool.accept(new_message(spool, "a@example.org", "b@example.org"), hand_over=False)
    one, two = await spool.due(until=NOON, limit=10)
    reads = await Reads.open(tmp_path / "shard-0" / "queue.db")
    question = asyncio.create_task(
        reads.ask_due(queries.due(after=None, until=NOON, limit=10, shard=spool.shard))
    )
    await asyncio.sleep(0)
    reads.note([one.cursor[1:]])
    assert (await question).recipients == [two]
    assert not reads.any_under_way
    await reads.close()


async def test_nothing_settled_is_ever_given_out_again(spool: Spool) -> None:
    addresses = [f"user{n}@example.org" for n in range(300)]
    await spool.accept(new_message(spool, *addresses), hand_over=False)
    waiting = await spool.due(until=NOON, limit=1000)
    settled: set[int] = set()
    over = asyncio.Event()

    async def settle_all() -> None:
        for start in range(0, len(waiting), 3):
            batch = waiting[start : start + 3]
            await spool.settle(delivered(*batch))
            settled.update(one.position for one in batch)
        over.set()

    async def ask_on() -> None:
        while not over.is_set():
            found = await spool.due(until=NOON, limit=1000)
            assert settled.isdisjoint(one.position for one in found)

    await asyncio.gather(settle_all(), ask_on(), ask_on())
    assert await spool.count(Selection()) == 0
