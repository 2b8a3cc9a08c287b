"""Whatever is damaged of a shard, each message of it can then be delivered as it was, is set aside, or is named."""

import asyncio
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.errors import MessageDamaged, SpoolDamaged
from relay.journal.owed import owed
from relay.journal.store import Journal
from relay.mail.event import Kind
from relay.spool import INLINE_OCTETS, Selection, Status, salvage
from relay.spool.database import PAGE_OCTETS
from relay.spool.replacing import Recovery, recover_shard
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, deferred, delivered, new_message

FAR = NOON + 1e8
TOP = Path(__file__).parents[2]


@dataclass(frozen=True)
class Accepted:
    """A shard that was filled and closed, and what is in it: by message and address, sender and content."""

    directory: Path
    mail: dict[tuple[str, str], tuple[str, bytes]]

    @property
    def path(self) -> Path:
        return self.directory / "shard-0" / "queue.db"


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Accepted:
    return asyncio.run(fill(tmp_path_factory.mktemp("accepted")))


async def fill(directory: Path) -> Accepted:
    """Small, larger and large contents, one to forty recipients, in every status; some have ended, all is journaled."""
    spool = await Spool.open(directory, shard=0, now=Clock())
    mail: dict[tuple[str, str], tuple[str, bytes]] = {}
    for n in range(120):
        size = (50, 3000, 9000, INLINE_OCTETS + 5)[n % 4 if n % 8 else 0]
        addresses = [f"user{n}-{m}@domain{m}.example" for m in range(40 if n % 30 == 0 else n % 3 + 1)]
        message = new_message(
            spool, *addresses, body=bytes([65 + n % 26]) * size, sender=f"sender{n}@example.com", held=n % 10 == 9
        )
        claimed = await spool.accept(message, hand_over=n % 5 > 0)
        if n % 7 == 3 and claimed:
            await spool.settle(delivered(claimed[0]))
            addresses = addresses[1:]
        if n % 11 == 5 and len(claimed) > 1:
            await spool.settle(deferred(claimed[-1], until=NOON + 600))
        mail |= {
            (message.id, each): (message.envelope.sender, message.content.head + message.content.body)
            for each in addresses
        }
    journal = await Journal.open(directory / "shard-0", damaged=print)
    await journal.ingest(await spool.events(limit=10_000))
    await spool.forget_events(9000)
    await journal.close()
    await spool.close()
    return Accepted(directory, mail)


def copy(accepted: Accepted, directory: Path) -> Accepted:
    shutil.copytree(accepted.directory, directory, dirs_exist_ok=True)
    return Accepted(directory, accepted.mail)


async def accounted(shard: Accepted, recovery: Recovery) -> None:
    """Nothing is altered, and nothing missing that is not named."""
    named = lost(shard, recovery)
    spool = await Spool.open(shard.directory, shard=0, now=lambda: FAR)
    intact: set[tuple[str, str]] = set()
    async for _ in spool.release(Selection(status=Status.HELD), by="test"):
        pass
    for one in await spool.due(until=FAR, limit=10_000):
        key = one.message.id, one.recipient.address
        try:
            content = await spool.content(one.message.id)
        except MessageDamaged:
            continue
        assert shard.mail[key] == (one.message.sender, content.head + b"".join(content.chunks())), key
        assert key not in intact, "twice"
        intact.add(key)
    damaged = {one.message_id for one in await spool.find(Selection(status=Status.DAMAGED), limit=10_000)}
    missing = [key for key in shard.mail if key not in intact and key[0] not in damaged and key not in named]
    assert missing == []
    await spool.close()


def lost(shard: Accepted, recovery: Recovery) -> set[tuple[str, str]]:
    if recovery.salvaged is None:
        return set()
    known, _ = owed(shard.directory / "shard-0", recovery.salvaged.events)
    fragments = {fragment.message for fragment in recovery.salvaged.fragments}
    named = {key for key in known if key not in recovery.salvaged.owed}
    return named | {key for key in shard.mail if key[0] in fragments}


async def test_a_healthy_shard_is_left_as_it_is(accepted: Accepted, tmp_path: Path) -> None:
    shard = copy(accepted, tmp_path)
    before = shard.path.read_bytes()
    assert recover_shard(shard.directory, shard=0) == Recovery(None, None)
    assert shard.path.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "shard-0").iterdir() if path.is_dir()) == ["content"]


def zeros(path: Path, chance: random.Random) -> None:
    _overwrite(path, chance.randrange(2, _pages(path) + 1), bytes(PAGE_OCTETS))


def garbage(path: Path, chance: random.Random) -> None:
    _overwrite(path, chance.randrange(1, _pages(path) + 1), chance.randbytes(PAGE_OCTETS))


def several(path: Path, chance: random.Random) -> None:
    for _ in range(chance.randrange(2, 12)):
        garbage(path, chance)


def torn(path: Path, chance: random.Random) -> None:
    os.truncate(path, path.stat().st_size - chance.randrange(1, PAGE_OCTETS))


def short(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(PAGE_OCTETS, path.stat().st_size))


def flipped(path: Path, chance: random.Random) -> None:
    at = chance.randrange(PAGE_OCTETS, path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(at)
        octet = file.read(1)[0]
        file.seek(at)
        file.write(bytes([octet ^ 1 << chance.randrange(8)]))


def many_flipped(path: Path, chance: random.Random) -> None:
    for _ in range(50):
        flipped(path, chance)


def swapped(path: Path, chance: random.Random) -> None:
    """A write that went to another place."""
    octets = path.read_bytes()
    source, target = chance.randrange(2, _pages(path)), chance.randrange(2, _pages(path) + 1)
    _overwrite(path, target, octets[source * PAGE_OCTETS : (source + 1) * PAGE_OCTETS])


def _pages(path: Path) -> int:
    return path.stat().st_size // PAGE_OCTETS


def _overwrite(path: Path, page: int, octets: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_OCTETS)
        file.write(octets)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("damage", [zeros, garbage, several, torn, short, flipped, many_flipped, swapped])
async def test_every_message_is_accounted_for(
    accepted: Accepted, tmp_path: Path, damage: Callable[[Path, random.Random], None], seed: int
) -> None:
    shard = copy(accepted, tmp_path)
    damage(shard.path, random.Random(f"{damage.__name__} {seed}"))
    recovery = await asyncio.to_thread(recover_shard, shard.directory, shard=0)
    await accounted(shard, recovery)
    if damage in (zeros, garbage, torn, flipped, swapped):  # one page and what overflows to it
        assert recovery.salvaged is None or recovery.salvaged.set_aside < 60
    assert (await asyncio.to_thread(recover_shard, shard.directory, shard=0)).salvaged is None


async def test_what_only_the_log_has_is_saved_too(accepted: Accepted, tmp_path: Path) -> None:
    """The process was killed before it carried anything over, and the database is garbage but for its log."""
    spool = await Spool.open(tmp_path / "first", shard=0, now=Clock())
    messages = [new_message(spool, f"user{n}@example.org") for n in range(50)]
    await asyncio.gather(*(spool.accept(each, hand_over=False) for each in messages))
    shutil.copytree(tmp_path / "first", tmp_path / "killed")
    await spool.close()
    path = tmp_path / "killed" / "shard-0" / "queue.db"
    assert path.with_name("queue.db-wal").stat().st_size > 0
    path.write_bytes(os.urandom(path.stat().st_size))
    recovery = await asyncio.to_thread(recover_shard, tmp_path / "killed", shard=0)
    assert recovery.salvaged is None or len(recovery.salvaged.owed) == 50
    spool = await Spool.open(tmp_path / "killed", shard=0, now=Clock())
    assert [one.message.id for one in await spool.due(until=NOON, limit=100)] == [each.id for each in messages]
    await spool.close()


async def test_the_damaged_original_and_contents_without_a_row_are_kept(accepted: Accepted, tmp_path: Path) -> None:
    shard = copy(accepted, tmp_path)
    with closing(sqlite3.connect(shard.path)) as connection, connection:
        ((number, file),) = connection.execute("SELECT message, file FROM content WHERE file IS NOT NULL LIMIT 1")
        connection.execute("DELETE FROM content WHERE message = ?", (number,))
    octets = shard.path.read_bytes()
    recovery = await asyncio.to_thread(recover_shard, shard.directory, shard=0, now=Clock())
    assert recovery.original is not None and recovery.original.name == "damaged-20270115T080000Z"
    assert (recovery.original / "queue.db").read_bytes() == octets
    assert [path.name for path in (recovery.original / "content").iterdir()] == [file]
    assert recovery.original.stat().st_mode & 0o777 == 0o700
    spool = await Spool.open(shard.directory, shard=0, now=Clock())
    (entry,) = [one for one in await spool.find(Selection(status=Status.DAMAGED), limit=1) if one.position == 0]
    assert entry.damage == "its content is not in the shard"
    told = [event for _, event in await spool.events(limit=10_000) if event.detail.startswith("set aside")]
    assert {event.message for event in told} == {entry.message_id}
    assert all(event.kind is Kind.HELD for event in told)
    await spool.close()


CUT_SHORT = """
import os, sys
from pathlib import Path
from relay.spool.replacing import recover_shard
left = int(sys.argv[2])
def count(name, arguments):
    global left
    if name in ("os.rename", "os.remove", "shutil.rmtree", "os.link", "os.mkdir", "os.rmdir", "os.unlink"):
        left -= 1
        if left == 0:
            os._exit(9)
sys.addaudithook(count)
recover_shard(Path(sys.argv[1]), shard=0)
"""


async def test_a_recovery_that_is_cut_short_anywhere_is_begun_anew_or_finished(
    accepted: Accepted, tmp_path: Path
) -> None:
    """At every change of a name; meanwhile a start is refused, never done on half of it."""
    damaged = copy(accepted, tmp_path / "damaged")
    _overwrite(damaged.path, 10, bytes(PAGE_OCTETS))
    for nth in range(1, 40):
        shard = copy(damaged, tmp_path / f"cut-{nth}")
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CUT_SHORT, str(shard.directory), str(nth), cwd=TOP
        )
        ended = await program.wait()
        if ended == 0:
            break
        assert ended == 9
        if not shard.path.read_bytes()[:16].strip(b"\0") or not await opens(shard):
            await asyncio.to_thread(recover_shard, shard.directory, shard=0)
        await accounted(shard, Recovery(recovered(copy(damaged, tmp_path / f"whole-{nth}")), None))
    assert nth > 5


async def opens(shard: Accepted) -> bool:
    """Only once it is recovered."""
    try:
        spool = await Spool.open(shard.directory, shard=0, now=Clock())
    except SpoolDamaged:
        return False
    await spool.close()
    assert not (shard.directory / "shard-0" / "recovering" / "complete.db").exists()
    return True


def recovered(shard: Accepted) -> salvage.Salvaged:
    found = recover_shard(shard.directory, shard=0).salvaged
    assert found is not None
    return found
