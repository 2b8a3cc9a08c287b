from pathlib import Path

from relay.mail.event import Event, Kind
from relay.mail.suppression import Cause, Suppression
from relay.spool import Settlement
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, delivered, new_message

REJECTED = Event(
    at=NOON, kind=Kind.REJECTED, message="", sender="x@example.com", recipient="", credential="shop", reply="550 5.7.1"
)


async def sequences(spool: Spool) -> list[int]:
    return [sequence for sequence, _ in await spool.events()]


async def deliver_one(spool: Spool) -> None:
    evidence = Suppression("a@example.org", Cause.MANUAL, NOON)
    claimed = await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    await spool.settle(Settlement(claimed[0].message.id, delivered(*claimed).outcomes, suppressions=(evidence,)))


async def test_events_are_numbered_in_order_and_read_in_pieces(spool: Spool) -> None:
    await deliver_one(spool)
    await deliver_one(spool)
    assert await sequences(spool) == [1, 2, 3, 4]
    piece = await spool.events(after=1, limit=2)
    assert [(sequence, event.kind) for sequence, event in piece] == [(2, Kind.DELIVERED), (3, Kind.ACCEPTED)]


async def test_what_was_forgotten_is_gone_and_its_number_is_never_given_again(tmp_path: Path, clock: Clock) -> None:
    given: list[int] = []
    for _ in range(3):
        spool = await Spool.open(tmp_path, shard=0, now=clock)
        await deliver_one(spool)
        given += await sequences(spool)
        await spool.forget_events(given[-1])
        assert await spool.events() == []
        await spool.close()
    assert given == [1, 2, 3, 4, 5, 6]


async def test_numbers_go_on_after_what_is_still_there(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    await deliver_one(spool)
    await spool.forget_events(1)
    await spool.close()
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    await deliver_one(spool)
    assert await sequences(spool) == [2, 3, 4]
    assert [sequence for sequence, _ in await spool.suppressions()] == [1, 2]
    await spool.forget_suppressions(2)
    await spool.close()
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    await deliver_one(spool)
    assert [sequence for sequence, _ in await spool.suppressions()] == [3]
    await spool.close()


async def test_many_events_are_forgotten_at_once(spool: Spool) -> None:
    await spool.record([REJECTED] * 1000)
    await spool.forget_events(999)
    assert await sequences(spool) == [1000]
    await spool.forget_events(5000)
    await spool.forget_events(5000)
    assert await sequences(spool) == []


async def test_an_event_without_a_change_is_recorded(spool: Spool) -> None:
    await spool.record([REJECTED])
    assert await spool.events() == [(1, REJECTED)]
