"""From the shard to the journal: nothing lost and nothing doubled, also when the process dies in between."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.errors import RelayError, SpoolError
from relay.journal.mover import BATCH, FIRST_PAUSE, Mover
from relay.journal.query import Query
from relay.journal.search import Search
from relay.journal.store import Journal
from relay.mail.event import Event
from tests.journal.stories import NOW, event, refuse_damage


class Shard:
    """Events in memory as a shard keeps them."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.rows = list(enumerate(events, start=1))
        self.changed = asyncio.Event()
        self.emptied = asyncio.Event()
        self.asked = 0

    async def events(self, limit: int, /) -> Sequence[tuple[int, Event]]:
        self.asked += 1
        return self.rows[:limit]

    async def forget_events(self, upto: int, /) -> None:
        self.rows = [row for row in self.rows if row[0] > upto]
        if not self.rows:
            self.emptied.set()

    def add(self, number: int, new: Event) -> None:
        self.rows.append((number, new))
        self.emptied.clear()
        self.changed.set()

    async def wait(self) -> None:
        await self.changed.wait()
        self.changed.clear()


async def times_in(spool: Path) -> list[float]:
    found = await Search(spool).search(Query(limit=100_000))
    return [each.at for each in found.events][::-1]


async def test_everything_is_moved_in_batches(tmp_path: Path) -> None:
    (tmp_path / "shard-0").mkdir()
    shard = Shard([event(NOW + number) for number in range(2 * BATCH + 1)])
    journal = await Journal.open(tmp_path / "shard-0", damaged=refuse_damage)
    mover = Mover(shard, journal, wait=shard.wait, failed=fail, sleep=asyncio.sleep)
    assert await mover.drain() == 2 * BATCH + 1
    assert (shard.rows, shard.asked) == ([], 4)
    assert await mover.drain() == 0
    assert await times_in(tmp_path) == [NOW + number for number in range(2 * BATCH + 1)]
    await journal.close()


async def test_it_waits_while_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "shard-0").mkdir()
    shard = Shard([])
    journal = await Journal.open(tmp_path / "shard-0", damaged=refuse_damage)
    mover = Mover(shard, journal, wait=shard.wait, failed=fail, sleep=asyncio.sleep)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(mover.run())
        for number in (1, 2):
            shard.add(number, event(NOW + number))
            await shard.emptied.wait()
        task.cancel()
    assert await times_in(tmp_path) == [NOW + 1, NOW + 2]
    assert shard.asked <= 6
    await journal.close()


async def test_a_failure_is_told_and_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    directory = tmp_path / "shard-0"
    directory.mkdir()
    shard = Shard([event()])
    journal = await Journal.open(directory, damaged=refuse_damage)
    directory.rmdir()
    failures: list[RelayError] = []
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            directory.mkdir()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        mover = Mover(shard, journal, wait=shard.wait, failed=failures.append, sleep=pause)
        task = group.create_task(mover.run())
        await shard.emptied.wait()
        task.cancel()
    assert len(failures) == 3 and pauses == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert await times_in(tmp_path) == [NOW]
    await journal.close()


CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from relay.journal.mover import Mover
from relay.journal.store import Journal
from tests.journal.stories import refuse_damage
from tests.journal.test_mover import some_events, Shard, fail

class Killed(Shard):
    async def forget_events(self, upto, /):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    journal = await Journal.open(Path(sys.argv[1]), damaged=refuse_damage)
    shard = Killed(some_events())
    await Mover(shard, journal, wait=shard.wait, failed=fail, sleep=asyncio.sleep).drain()

asyncio.run(main())
"""


def some_events() -> list[Event]:
    """Of several days, more than a batch."""
    return [event(NOW + number / 10 - number % 3 * 86400) for number in range(BATCH + 500)]


def fail(error: RelayError) -> None:
    raise error


async def test_killed_between_committing_and_forgetting(tmp_path: Path) -> None:
    directory = tmp_path / "shard-0"
    directory.mkdir()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(directory))
    assert await child.wait() == -signal.SIGKILL
    assert len(await times_in(tmp_path)) == BATCH
    journal = await Journal.open(directory, damaged=refuse_damage)
    shard = Shard(some_events())
    assert await Mover(shard, journal, wait=shard.wait, failed=fail, sleep=asyncio.sleep).drain() == BATCH + 500
    assert await times_in(tmp_path) == sorted(each.at for each in some_events())
    await journal.close()


async def test_not_forgotten_when_not_committed(tmp_path: Path) -> None:
    directory = tmp_path / "shard-0"
    directory.mkdir()
    journal = await Journal.open(directory, damaged=refuse_damage)
    directory.rmdir()
    shard = Shard([event()])
    with pytest.raises(SpoolError):
        await Mover(shard, journal, wait=shard.wait, failed=fail, sleep=asyncio.sleep).drain()
    assert len(shard.rows) == 1
    await journal.close()
