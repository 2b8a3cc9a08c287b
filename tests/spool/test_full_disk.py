"""A file system that is really full: a small tmpfs, filled to its last page. Mounting it needs root."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.errors import SpoolFull
from relay.spool import INLINE_OCTETS, Content, Selection, Settlement
from relay.spool.spool import Spool
from tests.spool.letters import Clock, addresses_due, deferred, delivered, new_message

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")

LARGE = b"x" * (INLINE_OCTETS * 4)


class Disk:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            for octets in (65536, 4096):
                while self._takes(file.fileno(), octets):
                    pass
        size = self._ballast.stat().st_size
        os.truncate(self._ballast, size - leave)

    def free(self) -> None:
        self._ballast.unlink()

    def _takes(self, descriptor: int, octets: int) -> bool:
        try:
            return os.write(descriptor, b"\0" * octets) == octets
        except OSError:
            return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", directory], check=True)
    yield Disk(directory)
    subprocess.run(["umount", directory], check=True)


@pytest.fixture
async def spool(disk: Disk, clock: Clock) -> AsyncIterator[Spool]:
    opened = await Spool.open(disk.directory, shard=0, now=clock)
    yield opened
    await opened.close()


async def test_nothing_is_acknowledged_while_there_is_no_room_and_all_is_when_there_is(
    spool: Spool, disk: Disk
) -> None:
    disk.fill()
    messages = [new_message(spool, f"user{n}@example.org", body=b"x" * 60_000) for n in range(5)]
    results = await asyncio.gather(
        *(spool.accept(message, hand_over=False) for message in messages), return_exceptions=True
    )
    assert all(isinstance(result, SpoolFull) and "disk is full" in result.text for result in results)
    assert spool.failure is None and not spool.broken.is_set()
    disk.free()
    for message in messages:
        assert await spool.accept(message, hand_over=False) == ()
    assert len(await addresses_due(spool)) == 5


async def refused_again(spool: Spool) -> None:
    before = spool.measures.refused_groups
    async with asyncio.timeout(10):
        while spool.measures.refused_groups == before:
            await spool.count(Selection())


async def accept_on(spool: Spool) -> None:
    while True:
        await spool.accept(new_message(spool, "new@example.org", body=b"x" * 60_000), hand_over=False)


async def test_what_happened_is_recorded_on_a_full_disk_but_nothing_new_is_taken(spool: Spool, disk: Disk) -> None:
    claimed = await spool.accept(new_message(spool, *[f"user{n}@example.org" for n in range(1000)]), hand_over=True)
    disk.fill()
    with pytest.raises(SpoolFull):
        await accept_on(spool)
    async with asyncio.timeout(10):
        await spool.settle(deferred(*claimed, until=1.0))
    assert len(await spool.due(until=1.0, limit=2000)) == 1000
    disk.fill()
    with pytest.raises(SpoolFull):
        await spool.accept(new_message(spool, "new@example.org"), hand_over=False)
    disk.free()
    await spool.accept(new_message(spool, "new@example.org"), hand_over=False)
    assert (disk.directory / "shard-0" / "reserve").exists()


async def test_with_no_room_left_at_all_what_happened_waits_for_some(spool: Spool, disk: Disk) -> None:
    claimed = await spool.accept(new_message(spool, *[f"user{n}@example.org" for n in range(1000)]), hand_over=True)
    (disk.directory / "shard-0" / "reserve").unlink()
    disk.fill()
    settling = spool.settle(deferred(*claimed, until=1.0))
    await refused_again(spool)
    with pytest.raises(SpoolFull):
        await spool.accept(new_message(spool, "new@example.org"), hand_over=False)
    assert not settling.done()
    disk.free()
    async with asyncio.timeout(10):
        await settling
    assert len(await spool.due(until=1.0, limit=2000)) == 1000
    await spool.accept(new_message(spool, "new@example.org"), hand_over=False)


async def test_a_large_content_that_finds_no_room_leaves_nothing(spool: Spool, disk: Disk) -> None:
    contents = disk.directory / "shard-0" / "content"
    disk.fill(leave=INLINE_OCTETS)
    file = spool.incoming()
    with pytest.raises(SpoolFull, match="cannot be written: No space left on device"):
        file.write(LARGE)
    file.discard()
    with pytest.raises(SpoolFull):
        await spool.accept(new_message(spool, "a@example.org", body=LARGE), hand_over=False)
    assert list(contents.iterdir()) == []


async def test_a_large_content_whose_row_finds_no_room_is_removed(spool: Spool, disk: Disk) -> None:
    contents = disk.directory / "shard-0" / "content"
    file = spool.incoming()
    file.write(LARGE)
    addresses = [f"user{n}@example.org" for n in range(1000)]
    message = new_message(spool, *addresses, content=Content(b"head", file=file))
    disk.fill()
    with pytest.raises(SpoolFull):
        await spool.accept(message, hand_over=False)
    disk.free()
    async with asyncio.timeout(10):
        while list(contents.iterdir()):
            await spool.count(Selection())


async def test_a_settlement_with_a_large_report_waits_for_room(spool: Spool, disk: Disk) -> None:
    (one,) = await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    disk.fill()
    report = new_message(spool, "shop@example.com", body=LARGE)
    settlement = Settlement(one.message.id, delivered(one).outcomes, reports=(report,))
    settling = spool.settle(settlement)
    done, _ = await asyncio.wait([settling], timeout=0.1)
    assert not done
    disk.free()
    async with asyncio.timeout(10):
        assert (await settling).missing == ()
    assert await addresses_due(spool) == ["shop@example.com"]


async def test_closing_on_a_full_disk_ends(disk: Disk, clock: Clock) -> None:
    spool = await Spool.open(disk.directory, shard=0, now=clock)
    claimed = await spool.accept(new_message(spool, *[f"user{n}@example.org" for n in range(1000)]), hand_over=True)
    (disk.directory / "shard-0" / "reserve").unlink()
    disk.fill()
    settling = spool.settle(deferred(*claimed, until=1.0))
    await refused_again(spool)
    async with asyncio.timeout(10):
        await spool.close()
    with pytest.raises(SpoolFull):
        await settling
    disk.free()
    spool = await Spool.open(disk.directory, shard=0, now=clock)
    assert spool.requeued == 1000
    await spool.close()


async def test_a_shard_that_cannot_be_made_for_lack_of_room_says_so_and_can_be_made_later(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(SpoolFull):
        await Spool.open(disk.directory, shard=0)
    disk.free()
    await (await Spool.open(disk.directory, shard=0)).close()


async def test_a_shard_on_a_full_disk_loses_nothing(disk: Disk, clock: Clock) -> None:
    spool = await Spool.open(disk.directory, shard=0, now=clock)
    await spool.accept(new_message(spool, *[f"user{n}@example.org" for n in range(500)]), hand_over=True)
    await spool.close()
    disk.fill()
    spool = await Spool.open(disk.directory, shard=0, now=clock)
    assert spool.requeued == 500
    disk.fill()
    with pytest.raises(SpoolFull):
        await spool.accept(new_message(spool, "new@example.org"), hand_over=False)
    await spool.close()
    disk.fill()
    with pytest.raises(SpoolFull, match="the disk is full"):
        await Spool.open(disk.directory, shard=0, now=clock)
    disk.free()
    spool = await Spool.open(disk.directory, shard=0, now=clock)
    assert await spool.count(Selection()) == 500
    await spool.close()
