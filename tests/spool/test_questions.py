"""What an operator sees, from inside and from another process."""

import asyncio
import sys
from pathlib import Path

import pytest

from relay.errors import NotFound, SpoolError
from relay.mail.suppression import Cause, Suppression
from relay.spool import DomainTotal, Selection, Settlement, SpoolReader, Status, StatusTotal, Totals, shards_in
from relay.spool.spool import Spool
from tests.spool.letters import FIVE_DAYS, NOON, Clock, deferred, delivered, new_message


async def some_mail(spool: Spool, clock: Clock) -> None:
    """Two deferred in one domain, one queued, one held; accepted ten seconds apart."""
    one, two = await spool.accept(new_message(spool, "a@slow.example", "b@slow.example"), hand_over=True)
    await spool.settle(deferred(one, until=NOON + 60, reply="451 4.7.1 later"))
    await spool.settle(deferred(two, until=NOON + 90, reply="421 4.3.2 busy"))
    clock.pass_by(10)
    await spool.accept(new_message(spool, "c@fast.example", at=clock()), hand_over=False)
    clock.pass_by(10)
    await spool.accept(new_message(spool, "d@held.example", at=clock(), held=True), hand_over=False)


async def test_an_entry_says_what_became_of_a_recipient(spool: Spool, clock: Clock) -> None:
    await some_mail(spool, clock)
    entry = (await spool.find(Selection(), limit=1, offset=1))[0]
    assert (entry.recipient.address, entry.status, entry.attempts) == ("b@slow.example", Status.DEFERRED, 1)
    assert (entry.accepted_at, entry.due_at, entry.held_at) == (NOON, NOON + 90, 0.0)
    assert (entry.expires_at, entry.last_reply) == (NOON + FIVE_DAYS, "421 4.3.2 busy")
    assert (entry.sender, entry.credential, entry.stream) == ("shop@example.com", "shop", "transactional")
    assert entry.subject == "Your order"


async def test_entries_come_page_by_page_oldest_first(spool: Spool, clock: Clock) -> None:
    await some_mail(spool, clock)
    pages = [await spool.find(Selection(), limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [[entry.recipient.address[0] for entry in page] for page in pages] == [["a", "b", "c"], ["d"], []]


async def test_totals_count_by_status_with_the_oldest(spool: Spool, clock: Clock) -> None:
    assert await spool.totals() == Totals()
    await some_mail(spool, clock)
    assert await spool.totals() == Totals(
        queued=StatusTotal(1, NOON + 10), deferred=StatusTotal(2, NOON), held=StatusTotal(1, NOON + 20)
    )


async def test_domains_are_those_most_wait_for_with_the_reason(spool: Spool, clock: Clock) -> None:
    await some_mail(spool, clock)
    assert await spool.domains() == [
        DomainTotal("slow.example", 2, "421 4.3.2 busy"),
        DomainTotal("fast.example", 1, ""),
    ]
    assert len(await spool.domains(1)) == 1


async def test_what_waits_is_counted_by_domain_also_what_was_never_tried(
    tmp_path: Path, spool: Spool, clock: Clock
) -> None:
    await some_mail(spool, clock)
    await spool.accept(new_message(spool, "e@fresh.example", at=NOON + 20), hand_over=True)
    with SpoolReader(tmp_path, shard=0, now=clock) as reader:
        assert reader.waiting() == {
            "slow.example": StatusTotal(2, NOON),
            "fast.example": StatusTotal(1, NOON + 10),
            "fresh.example": StatusTotal(1, NOON + 20),
        }


async def test_another_process_sees_the_same_while_the_owner_runs_and_afterwards(
    tmp_path: Path, spool: Spool, clock: Clock
) -> None:
    await some_mail(spool, clock)
    claimed = await spool.accept(new_message(spool, "e@fast.example"), hand_over=True)
    evidence = Suppression("e@fast.example", Cause.MANUAL, NOON)
    await spool.settle(Settlement(claimed[0].message.id, delivered(*claimed).outcomes, suppressions=(evidence,)))
    expected = (
        await spool.find(Selection()),
        await spool.count(Selection(sender="shop@example.com")),
        await spool.totals(),
        await spool.domains(),
        await spool.events(),
        await spool.suppressions(),
        await spool.content((await spool.find(Selection()))[0].message_id),
    )
    for owner_runs in (True, False):
        if not owner_runs:
            await spool.close()
        with SpoolReader(tmp_path, shard=0, now=clock) as reader:
            assert expected == (
                reader.find(Selection()),
                reader.count(Selection(sender="shop@example.com")),
                reader.totals(),
                reader.domains(),
                reader.events(),
                reader.suppressions(),
                reader.content(expected[0][0].message_id),
            )


LOOK = """
import sys
from pathlib import Path
from relay.spool import Selection, SpoolReader
with SpoolReader(Path(sys.argv[1]), shard=0) as reader:
    print(reader.count(Selection()))
"""


async def test_a_look_from_another_process_neither_needs_nor_disturbs_the_owner(tmp_path: Path, spool: Spool) -> None:
    for expected in (1, 2):
        await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
        look = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LOOK, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await look.communicate()
        assert output == f"{expected}\n".encode()
    assert await spool.count(Selection()) == 2


async def test_a_reader_sees_what_is_committed_after_it_was_opened(tmp_path: Path, spool: Spool) -> None:
    with SpoolReader(tmp_path, shard=0) as reader:
        await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
        assert reader.count(Selection()) == 1


async def test_a_reader_says_what_is_missing(tmp_path: Path, spool: Spool) -> None:
    with pytest.raises(SpoolError, match="does not exist"):
        SpoolReader(tmp_path, shard=7)
    with SpoolReader(tmp_path, shard=0) as reader, pytest.raises(NotFound):
        reader.content(spool.next_id())


async def test_the_shards_of_a_directory_are_found(tmp_path: Path) -> None:
    assert shards_in(tmp_path) == ()
    for shard in (10, 2):
        await (await Spool.open(tmp_path, shard=shard)).close()
    (tmp_path / "shard-x").mkdir()
    assert shards_in(tmp_path) == (2, 10)
