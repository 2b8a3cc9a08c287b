"""A disk that fails: beyond RLIMIT_FSIZE the kernel refuses a write with EFBIG, which SQLite takes for an I/O error."""

import asyncio
import sys
from pathlib import Path

import pytest

from relay.errors import SpoolError, SpoolFull
from relay.spool import Selection
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, addresses_due, delivered, new_message

BREAKS = """
import asyncio, resource, sys, tempfile
from pathlib import Path
from relay.errors import SpoolError, SpoolFull
from relay.spool import Content, Selection
from relay.spool.spool import Spool
from tests.spool.letters import delivered, kinds, new_message

async def refused(awaitable):
    try:
        await awaitable
    except SpoolError as error:
        assert not isinstance(error, SpoolFull), error
        return error.text
    raise AssertionError("not refused")

async def main(directory):
    spool = await Spool.open(directory, shard=0)
    claimed = await spool.accept(new_message(spool, "kept@example.org"), hand_over=True)
    file = spool.incoming()
    file.write(b"x" * 100_000)
    large = new_message(spool, "lost@example.org", content=Content(b"head", file=file))
    written = (directory / "shard-0" / "queue.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 4096, resource.RLIM_INFINITY))
    group = (
        spool.accept(new_message(spool, "lost@example.org", body=b"x" * 50_000), hand_over=True),
        spool.settle(delivered(*claimed)),
        spool.accept(new_message(spool, "lost@example.org"), hand_over=False),
    )
    texts = await asyncio.gather(*map(refused, group))
    assert all("disk I/O error" in text for text in texts), texts
    assert "can no longer be trusted" in texts[1], "what happened waits for a cure, and there is none"
    assert spool.broken.is_set() and spool.failure is not None
    later = (
        spool.accept(large, hand_over=True),
        spool.settle(delivered(*claimed)),
        spool.due(until=1.0, limit=1),
        spool.count(Selection()),
    )
    for awaitable in later:
        assert "can no longer be trusted" in await refused(awaitable)
    file.discard()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await spool.close()
    assert (directory / "shard-0" / "queue.db-wal").stat().st_size >= written, "nothing is carried over by a broken one"

asyncio.run(main(Path(sys.argv[1])))
"""


async def ends_well(source: str, directory: Path) -> None:
    """A process of its own, with limits of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", source, str(directory))
    try:
        async with asyncio.timeout(40):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


async def test_after_an_io_error_nothing_is_acknowledged_and_a_new_owner_finds_what_was(tmp_path: Path) -> None:
    await ends_well(BREAKS, tmp_path)
    spool = await Spool.open(tmp_path, shard=0)
    (entry,) = await spool.find(Selection())
    assert entry.recipient.address == "kept@example.org"
    await spool.accept(new_message(spool, "new@example.org"), hand_over=False)
    await spool.close()


LARGE_CONTENT_FAILS = """
import asyncio, resource, sys
from pathlib import Path
from relay.errors import SpoolError
from relay.spool import Selection
from relay.spool.spool import Spool
from tests.spool.letters import new_message

async def main(directory):
    spool = await Spool.open(directory, shard=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        await spool.accept(new_message(spool, "a@example.org", body=b"x" * 400_000), hand_over=False)
    except SpoolError as error:
        assert "cannot be written: File too large" in error.text, error.text
    else:
        raise AssertionError("not refused")
    assert not list((directory / "shard-0" / "content").iterdir())
    assert spool.failure is None
    await spool.accept(new_message(spool, "a@example.org"), hand_over=False)
    assert await spool.count(Selection()) == 1
    await spool.close()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_large_content_that_cannot_be_written_concerns_its_message_alone(tmp_path: Path) -> None:
    await ends_well(LARGE_CONTENT_FAILS, tmp_path)


async def test_a_damaged_database_is_refused(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "shard-0" / "queue.db"
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    await spool.accept(new_message(spool, *[f"user{n}@example.org" for n in range(3000)]), hand_over=False)
    await spool.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(SpoolError, match=r"queue\.db is damaged: ") as refused:
        await Spool.open(tmp_path, shard=0, now=clock)
    assert not isinstance(refused.value, SpoolFull)


async def test_a_hook_that_fails_breaks_the_shard_rather_than_stopping_it(tmp_path: Path) -> None:
    def reached(_: object) -> None:
        raise RuntimeError("unforeseen")

    spool = await Spool.open(tmp_path, shard=0, now=Clock(), reached=reached)
    with pytest.raises(SpoolError, match="unforeseen"):
        await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    assert spool.broken.is_set()
    await spool.close()
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    assert await addresses_due(spool) == []
    claimed = await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    await spool.settle(delivered(*claimed))
    assert await addresses_due(spool, until=NOON) == []
    await spool.close()
