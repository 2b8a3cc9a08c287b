import sqlite3
from pathlib import Path

import pytest

from relay.mail.event import Kind
from relay.mail.suppression import Cause, Strike, Suppression
from relay.spool import INLINE_OCTETS, Content, Outcome, QueuedRecipient, Selection, Settlement, Status
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, addresses_due, deferred, delivered, event_of, kinds, new_message

HARD = Suppression("a@example.org", Cause.HARD_BOUNCE, NOON, message="m", reply="550 5.1.1")
STRIKE = Strike("a@example.org", Cause.MAILBOX_FULL, NOON, needed=3, over=10.0, suppress_for=20.0)


async def claimed(spool: Spool, *addresses: str) -> tuple[QueuedRecipient, ...]:
    return await spool.accept(new_message(spool, *addresses), hand_over=True)


async def test_a_delivered_recipient_leaves_and_the_message_goes_with_the_last(tmp_path: Path, spool: Spool) -> None:
    first, second = await claimed(spool, "a@example.org", "b@example.net")
    assert (await spool.settle(delivered(first))).missing == ()
    assert await spool.count(Selection()) == 1
    await spool.settle(delivered(second))
    assert await spool.count(Selection()) == 0
    with sqlite3.connect(f"file:{tmp_path}/shard-0/queue.db?mode=ro", uri=True) as database:
        for table in ("message", "content", "recipient"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    database.close()


async def test_a_deferred_recipient_is_due_when_said(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    await spool.settle(deferred(one, until=NOON + 60, reply="451 4.7.1 greylisted"))
    assert await addresses_due(spool, until=NOON + 59) == []
    (again,) = await spool.due(until=NOON + 60, limit=10)
    assert (again.attempts, again.due_at, again.last_reply) == (1, NOON + 60, "451 4.7.1 greylisted")
    assert again.expires_at == one.expires_at and again.message == one.message


async def test_an_internal_delay_does_not_climb_the_ladder(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    await spool.settle(deferred(one, until=NOON, climbs=False))
    (again,) = await spool.due(until=NOON, limit=10)
    assert again.attempts == 0


async def test_a_delay_once_reported_stays_reported(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    event = event_of(one, Kind.DEFERRED)
    for reported in (True, False):
        outcome = Outcome(0, event, final=False, due_at=NOON, delay_reported=reported)
        await spool.settle(Settlement(one.message.id, (outcome,)))
    (again,) = await spool.due(until=NOON, limit=10)
    assert again.delay_reported


async def test_recipients_of_one_attempt_end_each_in_their_own_way(spool: Spool) -> None:
    one, two, three = await claimed(spool, "a@example.org", "b@example.org", "c@example.org")
    outcomes = (
        Outcome(0, event_of(one, Kind.DELIVERED), final=True),
        Outcome(1, event_of(two, Kind.DEFERRED, reply="452"), final=False, due_at=NOON + 1),
        Outcome(2, event_of(three, Kind.BOUNCED, reply="550"), final=True),
    )
    await spool.settle(Settlement(one.message.id, outcomes))
    assert (await kinds(spool))[3:] == [
        (Kind.DELIVERED, "a@example.org"),
        (Kind.DEFERRED, "b@example.org"),
        (Kind.BOUNCED, "c@example.org"),
    ]
    assert await addresses_due(spool, until=NOON + 1) == ["b@example.org"]


async def test_what_is_settled_twice_is_settled_once(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    settlement = Settlement(
        one.message.id,
        (Outcome(0, event_of(one, Kind.BOUNCED), final=True),),
        reports=(new_message(spool, "shop@example.com", sender=""),),
        suppressions=(HARD,),
    )
    assert (await spool.settle(settlement)).missing == ()
    assert (await spool.settle(settlement)).missing == (0,)
    assert await kinds(spool) == [
        (Kind.ACCEPTED, "a@example.org"),
        (Kind.BOUNCED, "a@example.org"),
        (Kind.ACCEPTED, "shop@example.com"),
    ]
    assert await addresses_due(spool) == ["shop@example.com"]
    assert await spool.suppressions() == [(1, HARD)]


async def test_those_that_are_gone_are_left_out_and_named(spool: Spool) -> None:
    recipients = await claimed(spool, "a@example.org", "b@example.org", "c@example.org")
    await spool.settle(delivered(recipients[1]))
    assert (await spool.settle(delivered(*recipients))).missing == (1,)
    assert [recipient for kind, recipient in await kinds(spool) if kind is Kind.DELIVERED] == [
        "b@example.org",
        "a@example.org",
        "c@example.org",
    ]


@pytest.mark.parametrize(
    "message_id", [pytest.param("garbage", id="no id"), pytest.param("01j00000001zzzz", id="another shard's id")]
)
async def test_a_message_that_is_not_here_settles_nothing(spool: Spool, message_id: str) -> None:
    (one,) = await claimed(spool, "a@example.org")
    settled = await spool.settle(Settlement(message_id, (Outcome(4, event_of(one, Kind.DELIVERED), final=True),)))
    assert settled.missing == (4,)
    assert await spool.count(Selection()) == 1


async def test_suppressions_and_strikes_wait_in_order_until_they_are_carried_over(spool: Spool) -> None:
    one, two = await claimed(spool, "a@example.org", "b@example.org")
    for recipient, evidence in ((one, HARD), (two, STRIKE)):
        outcome = Outcome(recipient.position, event_of(recipient, Kind.BOUNCED), final=True)
        await spool.settle(Settlement(recipient.message.id, (outcome,), suppressions=(evidence,)))
    assert await spool.suppressions() == [(1, HARD), (2, STRIKE)]
    await spool.forget_suppressions(1)
    assert await spool.suppressions() == [(2, STRIKE)]


async def test_a_large_report_is_a_file_like_any_large_content(tmp_path: Path, spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    report = new_message(spool, "shop@example.com", body=b"x" * (INLINE_OCTETS + 1))
    outcome = Outcome(0, event_of(one, Kind.BOUNCED), final=True)
    settlement = Settlement(one.message.id, (outcome,), reports=(report,))
    await spool.settle(settlement)
    await spool.settle(settlement)
    content = await spool.content(report.id)
    assert content.path is not None and content.path.stat().st_size == INLINE_OCTETS + 1


async def test_a_report_in_a_file_is_refused(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    file = spool.incoming()
    report = new_message(spool, "shop@example.com", content=Content(b"h", file=file))
    with pytest.raises(ValueError, match="in memory"):
        await spool.settle(Settlement(one.message.id, (), reports=(report,)))
    file.discard()


async def test_given_back_recipients_are_due_now(spool: Spool, clock: Clock) -> None:
    recipients = await claimed(spool, "a@example.org", "b@example.org")
    clock.pass_by(10)
    await spool.give_back(recipients[:1])
    (one,) = await spool.due(until=NOON + 10, limit=10)
    assert (one.recipient.address, one.due_at, one.attempts) == ("a@example.org", NOON + 10, 0)
    await spool.give_back(())


async def test_giving_back_what_is_settled_does_nothing(spool: Spool) -> None:
    recipients = await claimed(spool, "a@example.org")
    await spool.settle(delivered(*recipients))
    await spool.give_back(recipients)
    assert await spool.count(Selection()) == 0


async def test_what_was_about_to_be_sent_at_most_once_is_in_doubt_after_a_crash(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    one, two, _ = await claimed(spool, "a@example.org", "b@example.org", "c@example.org")
    assert await spool.intend(one.message.id, (0, 1, 7)) == (7,)
    assert await spool.in_doubt(limit=10) == [], "the attempt is under way, nothing is in doubt"
    await spool.settle(deferred(two, until=NOON + 5))
    await spool.close()
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert await addresses_due(spool, until=NOON + 5) == ["c@example.org", "b@example.org"]
    (doubtful,) = await spool.in_doubt(limit=10)
    assert doubtful.recipient.address == "a@example.org"
    outcome = Outcome(0, event_of(doubtful, Kind.UNKNOWN, reply=""), final=True)
    await spool.settle(Settlement(doubtful.message.id, (outcome,)))
    assert await spool.in_doubt(limit=10) == []
    await spool.close()


async def test_what_was_held_or_cancelled_may_not_be_intended(spool: Spool) -> None:
    one, _ = await claimed(spool, "a@example.org", "b@example.net")
    async for _batch in spool.hold(Selection(recipient_domain="example.org"), by="test"):
        pass
    async for _batch in spool.cancel(Selection(recipient_domain="example.net"), by="test"):
        pass
    assert await spool.intend(one.message.id, (0, 1)) == (0, 1)
    assert await spool.intend("garbage", (0,)) == (0,)


async def test_a_recipient_held_during_its_attempt_stays_held_when_it_is_deferred(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    async for _batch in spool.hold(Selection(), by="test"):
        pass
    await spool.settle(deferred(one, until=NOON))
    assert await addresses_due(spool) == []
    (entry,) = await spool.find(Selection())
    assert (entry.status, entry.attempts, entry.last_reply) == (Status.HELD, 1, "451 4.7.1 greylisted")


async def test_a_recipient_held_during_its_attempt_is_delivered_all_the_same(spool: Spool) -> None:
    (one,) = await claimed(spool, "a@example.org")
    async for _batch in spool.hold(Selection(), by="test"):
        pass
    assert (await spool.settle(delivered(one))).missing == ()
    assert await spool.count(Selection()) == 0
