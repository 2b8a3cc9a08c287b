import asyncio
from pathlib import Path

from relay.spool import Selection
from relay.spool.spool import Spool
from tests.spool.letters import Clock, delivered, new_message

SECRET = b"what nobody shall find " * 100


async def until_smaller(spool: Spool, path: Path, octets: int) -> None:
    async with asyncio.timeout(10):
        while (await asyncio.to_thread(path.stat)).st_size >= octets:
            await spool.count(Selection())


async def test_what_was_delivered_is_nowhere_on_disk_once_the_shard_is_still(tmp_path: Path) -> None:
    directory = tmp_path / "shard-0"
    spool = await Spool.open(tmp_path, shard=0, now=Clock(), still=0.05)
    for body in (SECRET, SECRET * 20):
        claimed = await spool.accept(new_message(spool, "a@example.org", body=body), hand_over=True)
        await spool.settle(delivered(*claimed))
    await until_smaller(spool, directory / "queue.db-wal", 1)
    # In a process of its own: closing a database's file lets go of all locks its process has on it.
    search = await asyncio.create_subprocess_exec("grep", "-rqF", SECRET[:200].decode(), str(directory))
    assert await search.wait() == 1, "found"
    await spool.close()


async def test_the_database_shrinks_again_once_the_shard_is_still(tmp_path: Path) -> None:
    database = tmp_path / "shard-0" / "queue.db"
    spool = await Spool.open(tmp_path, shard=0, now=Clock(), still=0.05)
    messages = [new_message(spool, "a@example.org", body=b"x" * 60_000) for _ in range(200)]
    claimed = [await spool.accept(message, hand_over=True) for message in messages]
    await until_smaller(spool, database.with_name("queue.db-wal"), 1)
    large = database.stat().st_size
    assert large > 200 * 60_000
    for one in claimed:
        await spool.settle(delivered(*one))
    await until_smaller(spool, database, large // 4)
    await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    await spool.close()


async def test_a_long_look_does_not_keep_the_log_from_being_used_anew(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    over = asyncio.Event()

    async def look_on() -> None:
        while not over.is_set():
            await spool.find(Selection(), limit=1000)

    looking = asyncio.create_task(look_on())
    for _ in range(40):
        messages = [new_message(spool, "a@example.org", body=b"x" * 60_000) for _ in range(10)]
        claimed = await asyncio.gather(*(spool.accept(message, hand_over=True) for message in messages))
        await asyncio.gather(*(spool.settle(delivered(*one)) for one in claimed))
    over.set()
    await looking
    assert (tmp_path / "shard-0" / "queue.db-wal").stat().st_size < 400 * 60_000
    await spool.close()
