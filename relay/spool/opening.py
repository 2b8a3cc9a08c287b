"""spool.opening: put a shard together, and take it apart in the right order.

A shard that is broken is taken apart so that nothing is carried over from its log: what the kernel shows of it may
never have reached the disk, and only a recovery that checks its sums may decide. (The last connection that closes
carries the log over if it may write; so the one that may not is closed last.)
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relay.errors import SpoolDamaged, SpoolFull, SpoolLocked
from relay.spool import integrity, recovery
from relay.spool.checkpoint import Checkpoints
from relay.spool.committer import Committer
from relay.spool.disk import Disk, DiskThread
from relay.spool.inline import InlineDisk, forget_durability, standing_still
from relay.spool.keeper import Keeper
from relay.spool.lock import Lock
from relay.spool.measures import Measures
from relay.spool.numbering import Numbering
from relay.spool.reads import Reads
from relay.spool.recent import RecentContents
from relay.spool.recovery import CONTENT, DATABASE, Recovered
from relay.spool.reserve import Reserve
from relay.spool.steps import Reached
from relay.spool.tables import Tables

LOCK_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Parts:
    """reads: for deliveries; looks: for operators' looks through the whole queue, which take long."""

    recovered: Recovered
    numbering: Numbering
    measures: Measures
    committer: Committer
    keeper: Keeper
    recent: RecentContents
    reads: Reads
    looks: Reads
    disk: Disk

    async def close(self) -> None:
        await self.committer.close()
        await self.keeper.close()
        if self.committer.failure is None:
            await self._close_reads()
            await self._close_writer()
        else:
            if isinstance(self.committer.failure, SpoolDamaged):
                integrity.suspect(self.recovered.directory)
            await self._close_writer()
            await self._close_reads()
        self.disk.stop()
        self.recovered.lock.release()

    async def _close_reads(self) -> None:
        await self.reads.close()
        await self.looks.close()

    async def _close_writer(self) -> None:
        await self.disk.run(self.recovered.connection.close)


async def opened(
    directory: Path,
    *,
    shard: int,
    now: Callable[[], float],
    random: Callable[[int], int],
    wait: bool,
    gap: float,
    still: float,
    observe: Callable[[float, int], None],
    reached: Reached,
    inline: bool,
) -> Parts:
    """Raises SpoolLocked, SpoolVersion, SpoolFull, SpoolError."""
    own = recovery.shard_directory(directory, shard)
    await asyncio.to_thread(recovery.make_directory, own)
    lock = await _locked(own, wait=wait)
    reserve = Reserve(own / "reserve")
    try:
        recovered = await asyncio.to_thread(_recovered, own, lock, reserve, now)
    except BaseException:
        lock.release()
        raise
    try:
        reads, looks = [await Reads.open(own / DATABASE, inline=inline) for _ in range(2)]
    except BaseException:
        recovered.connection.close()
        lock.release()
        raise
    measures = Measures()
    reserve.restore_if_possible()
    numbering = Numbering(shard=shard, now=now, random=random, last=recovered.last_number)
    disk = _disk(f"{own.name} commits", inline=inline)
    if inline:
        forget_durability(recovered.connection)
    committer = Committer(
        recovered.connection,
        Tables(
            recovered.connection,
            event_sequence=recovered.event_sequence,
            suppression_sequence=recovered.suppression_sequence,
        ),
        disk,
        Checkpoints(recovered.connection, log=own / f"{DATABASE}-wal", measures=measures),
        reserve,
        gap=gap,
        still=still,
        measures=measures,
        clock=standing_still if inline else time.perf_counter,
        queued=reads.queued,
        observe=observe,
        reached=reached,
    )
    return Parts(
        recovered=recovered,
        numbering=numbering,
        measures=measures,
        committer=committer,
        keeper=Keeper(
            own / CONTENT,
            new_name=numbering.next_id,
            disk=_disk(f"{own.name} contents", inline=inline),
            reached=reached,
        ),
        recent=RecentContents(),
        reads=reads,
        looks=looks,
        disk=disk,
    )


def _disk(name: str, *, inline: bool) -> Disk:
    loop = asyncio.get_running_loop()
    return InlineDisk(loop) if inline else DiskThread(loop, name=name)


def _recovered(directory: Path, lock: Lock, reserve: Reserve, now: Callable[[], float]) -> Recovered:
    """On a full disk the reserve is what a shard is opened with: what is owed goes on being delivered."""
    try:
        return recovery.recover(directory, lock, now=now)
    except SpoolFull:
        if not reserve.give_up():
            raise
    return recovery.recover(directory, lock, now=now)


async def _locked(directory: Path, *, wait: bool) -> Lock:
    while True:
        try:
            return Lock(directory / "lock")
        except SpoolLocked:
            if not wait:
                raise
        await asyncio.sleep(LOCK_POLL_SECONDS)
