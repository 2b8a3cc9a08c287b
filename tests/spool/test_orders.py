import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relay.mail.event import Kind
from relay.spool import INLINE_OCTETS, Change, Selection, Status
from relay.spool.spool import Spool
from tests.spool.letters import FIVE_DAYS, NOON, Clock, addresses_due, deferred, delivered, kinds, new_message

Order = Callable[[Spool, Selection], AsyncIterator[tuple[Change, ...]]]

ORDERS: dict[str, Order] = {
    "hold": lambda spool, selection: spool.hold(selection, by="ops"),
    "release": lambda spool, selection: spool.release(selection, by="ops"),
    "retry": lambda spool, selection: spool.retry(selection, by="ops"),
    "cancel": lambda spool, selection: spool.cancel(selection, by="ops"),
}


async def ordered(spool: Spool, verb: str, selection: Selection | None = None) -> list[Change]:
    return [change async for batch in ORDERS[verb](spool, selection or Selection()) for change in batch]


async def queue_of_each(spool: Spool) -> None:
    """One fresh, one queued, one deferred until later, one held."""
    await spool.accept(new_message(spool, "fresh@example.org"), hand_over=True)
    await spool.accept(new_message(spool, "queued@example.org"), hand_over=False)
    (one,) = await spool.accept(new_message(spool, "deferred@example.org"), hand_over=True)
    await spool.settle(deferred(one, until=NOON + 600))
    await spool.accept(new_message(spool, "held@example.org", held=True), hand_over=False)
    await spool.forget_events(10_000)


@pytest.mark.parametrize(
    ("verb", "changed", "kind"),
    [
        pytest.param("hold", ["fresh", "queued", "deferred"], Kind.HELD, id="hold takes all that are not held"),
        pytest.param("release", ["held"], Kind.RELEASED, id="release takes the held"),
        pytest.param("retry", ["deferred"], Kind.DEFERRED, id="retry takes those that wait for their time"),
        pytest.param("cancel", ["fresh", "queued", "deferred", "held"], Kind.CANCELLED, id="cancel takes all"),
    ],
)
async def test_an_order_changes_what_it_applies_to_and_says_so(
    spool: Spool, clock: Clock, verb: str, changed: list[str], kind: Kind
) -> None:
    await queue_of_each(spool)
    clock.pass_by(60)
    changes = await ordered(spool, verb)
    assert [change.domain for change in changes] == ["example.org"] * len(changed)
    assert await kinds(spool) == [(kind, f"{name}@example.org") for name in changed]
    events = [event for _, event in await spool.events()]
    assert all(event.at == NOON + 60 and event.detail.endswith("by ops") for event in events)
    assert {event.message for event in events} == {change.message_id for change in changes}
    assert await ordered(spool, verb) == [], "the same order again finds nothing to do"


async def test_what_was_held_and_released_is_due_and_expires_later(spool: Spool, clock: Clock) -> None:
    await spool.accept(new_message(spool, "a@example.org"), hand_over=False)
    clock.pass_by(100)
    await ordered(spool, "hold")
    assert await addresses_due(spool, until=NOON + 1000) == []
    clock.pass_by(500)
    await ordered(spool, "release")
    (one,) = await spool.due(until=NOON + 600, limit=10)
    assert (one.due_at, one.expires_at) == (NOON + 600, NOON + FIVE_DAYS + 500)


async def test_a_clock_set_back_during_a_hold_takes_nothing_off_the_expiry(spool: Spool, clock: Clock) -> None:
    await spool.accept(new_message(spool, "a@example.org", held=True), hand_over=False)
    clock.pass_by(-500)
    await ordered(spool, "release")
    (one,) = await spool.due(until=NOON, limit=10)
    assert one.expires_at == NOON + FIVE_DAYS


async def test_retry_makes_due_now_without_counting_an_attempt(spool: Spool, clock: Clock) -> None:
    await queue_of_each(spool)
    clock.pass_by(5)
    await ordered(spool, "retry")
    one = (await spool.due(until=NOON + 5, limit=10))[-1]
    assert (one.recipient.address, one.attempts, one.due_at) == ("deferred@example.org", 1, NOON + 5)


async def test_a_cancelled_recipient_cannot_be_settled_any_more(spool: Spool) -> None:
    one, two = await spool.accept(new_message(spool, "a@example.org", "b@example.net"), hand_over=True)
    await ordered(spool, "cancel", Selection(recipient_domain="example.org"))
    assert (await spool.settle(delivered(one, two))).missing == (0,)
    assert (Kind.DELIVERED, "a@example.org") not in await kinds(spool)


async def test_content_goes_with_the_last_cancelled_recipient(tmp_path: Path, spool: Spool) -> None:
    body = b"x" * (INLINE_OCTETS + 1)
    message = new_message(spool, "a@example.org", "b@example.net", body=body)
    await spool.accept(message, hand_over=True)
    await ordered(spool, "cancel", Selection(recipient_domain="example.org"))
    assert (await spool.content(message.id)).body_size == len(body)
    await ordered(spool, "cancel")
    await spool.close()
    assert list((tmp_path / "shard-0" / "content").iterdir()) == []


async def test_what_is_about_to_be_sent_at_most_once_is_not_held(spool: Spool) -> None:
    (one,) = await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    await spool.intend(one.message.id, (0,))
    assert await ordered(spool, "hold") == []
    assert await ordered(spool, "retry") == []
    assert len(await ordered(spool, "cancel")) == 1


async def test_an_order_over_many_goes_in_batches_and_meets_each_once(spool: Spool) -> None:
    addresses = [f"user{n}@example.org" for n in range(700)]
    for _ in range(2):
        await spool.accept(new_message(spool, *addresses), hand_over=False)
    batches = [batch async for batch in spool.hold(Selection(), by="ops")]
    assert len(batches) == 3 and sum(map(len, batches)) == 1400
    assert len({(change.message_id, change.position) for batch in batches for change in batch}) == 1400
    assert (await spool.totals()).held.count == 1400


async def test_mail_settled_while_an_order_is_carried_out_is_left_alone(spool: Spool) -> None:
    claimed = await spool.accept(new_message(spool, *[f"user{n}@example.org" for n in range(200)]), hand_over=True)
    order = asyncio.create_task(ordered(spool, "cancel"))
    settled = [await spool.settle(delivered(one)) for one in reversed(claimed)]
    cancelled = {change.position for change in await order}
    delivered_ones = {
        one.position for one, result in zip(reversed(claimed), settled, strict=True) if not result.missing
    }
    assert cancelled | delivered_ones == set(range(200)) and not cancelled & delivered_ones
    assert await spool.count(Selection()) == 0


SELECTIONS = [
    pytest.param(Selection(), {"a", "b", "c", "d"}, id="nothing said selects all"),
    pytest.param(Selection(recipient_domain="example.net"), {"b"}, id="a recipient domain"),
    pytest.param(Selection(sender="news@example.com"), {"c"}, id="a sender"),
    pytest.param(Selection(sender=""), {"d"}, id="the null sender"),
    pytest.param(Selection(credential="blog"), {"c"}, id="a credential"),
    pytest.param(Selection(status=Status.HELD), {"d"}, id="held ones"),
    pytest.param(Selection(status=Status.DEFERRED), {"b"}, id="deferred ones"),
    pytest.param(Selection(status=Status.QUEUED), {"a", "c"}, id="queued ones, fresh or not"),
    pytest.param(Selection(older_than=50), {"a", "b"}, id="older than"),
    pytest.param(Selection(older_than=50, status=Status.QUEUED), {"a"}, id="all that is said must agree"),
    pytest.param(Selection(recipient_domain="example.com"), set(), id="a domain nobody waits in"),
    pytest.param(Selection(ids=("garbage",)), set(), id="an id that is none selects nothing"),
]


@pytest.mark.parametrize(("selection", "names"), SELECTIONS)
async def test_a_selection_means_the_same_to_questions_and_orders(
    spool: Spool, clock: Clock, selection: Selection, names: set[str]
) -> None:
    (_, two) = await spool.accept(new_message(spool, "a@example.org", "b@example.net"), hand_over=True)
    await spool.settle(deferred(two, until=NOON + 1))
    clock.pass_by(100)
    for message in (
        new_message(spool, "c@example.org", sender="news@example.com", credential="blog"),
        new_message(spool, "d@example.org", sender="", held=True),
    ):
        await spool.accept(message, hand_over=False)
    found = {entry.recipient.address[0] for entry in await spool.find(selection)}
    assert found == names and await spool.count(selection) == len(names)
    assert len(await ordered(spool, "cancel", selection)) == len(names)
    assert await spool.count(Selection()) == 4 - len(names)


async def test_ids_select_their_messages(spool: Spool) -> None:
    messages = [new_message(spool, "a@example.org", "b@example.org") for _ in range(3)]
    for message in messages:
        await spool.accept(message, hand_over=False)
    selection = Selection(ids=(messages[0].id, messages[2].id, "garbage"))
    assert [entry.message_id for entry in await spool.find(selection)] == [messages[0].id] * 2 + [messages[2].id] * 2
