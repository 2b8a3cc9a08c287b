"""A database whose structure is damaged is refused at start and left as it is; found later, it breaks the shard."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from relay.errors import SpoolDamaged, SpoolError
from relay.spool import INLINE_OCTETS, integrity
from relay.spool.database import PAGE_OCTETS
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, addresses_due, delivered, new_message


async def filled(directory: Path, *, messages: int = 200) -> Path:
    """A closed shard of some hundred pages; its database."""
    spool = await Spool.open(directory, shard=0, now=Clock())
    letters = [new_message(spool, f"user{n}@example.org", f"user{n}@example.net") for n in range(messages)]
    await asyncio.gather(*(spool.accept(each, hand_over=False) for each in letters))
    await spool.close()
    return directory / "shard-0" / "queue.db"


def root_of(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        page: int = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()[0]
        return page


def overwrite(path: Path, page: int, octets: bytes, *, at: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_OCTETS + at)
        file.write(octets)


def flip_in_index(path: Path) -> None:
    """One letter of a domain in recipient_domain, in a page that is a leaf."""
    octets = bytearray(path.read_bytes())
    root = root_of(path, "recipient_domain")
    child = int.from_bytes(octets[(root - 1) * PAGE_OCTETS + 8 : (root - 1) * PAGE_OCTETS + 12], "big")
    at = octets.rindex(b"example.org", 0, child * PAGE_OCTETS)
    overwrite(path, 1, b"f", at=at)


DAMAGES = [
    pytest.param(lambda path: overwrite(path, root_of(path, "recipient"), b"\0" * PAGE_OCTETS), id="a page of zeros"),
    pytest.param(
        lambda path: overwrite(path, root_of(path, "message"), os.urandom(PAGE_OCTETS)), id="a page of garbage"
    ),
    pytest.param(lambda path: os.truncate(path, path.stat().st_size - 2048), id="a torn last page"),
    pytest.param(lambda path: os.truncate(path, 20 * PAGE_OCTETS), id="a file that is cut short"),
    pytest.param(lambda path: overwrite(path, 1, b"\xff" * 8, at=100), id="a damaged list of tables"),
    pytest.param(flip_in_index, id="an index that disagrees with its table"),
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_database_is_refused_with_what_to_do_and_left_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = await filled(tmp_path)
    damage(path)
    octets = path.read_bytes()
    with pytest.raises(SpoolError, match=r"queue\.db") as refused:
        await Spool.open(tmp_path, shard=0, now=Clock())
    assert isinstance(refused.value, SpoolDamaged) and "relay spool recover" in refused.value.remedy
    assert str(path) in refused.value.text
    assert path.read_bytes() == octets


async def test_damage_that_is_met_later_breaks_the_shard_and_is_refused_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await filled(tmp_path)
    monkeypatch.setattr(integrity, "THOROUGH_OCTETS", 0)
    flip_in_index(path)
    spool = await Spool.open(tmp_path, shard=0, now=Clock())  # the tables are well
    due = await spool.due(until=NOON, limit=1000)
    ended = await asyncio.gather(*(spool.settle(delivered(one)) for one in due), return_exceptions=True)
    assert any("malformed" in str(each) for each in ended if isinstance(each, SpoolError))
    assert isinstance(spool.failure, SpoolDamaged)
    await spool.close()
    with pytest.raises(SpoolDamaged, match=r"queue\.db is damaged"):
        await Spool.open(tmp_path, shard=0, now=Clock())


async def test_a_false_alarm_is_forgotten(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    integrity.suspect(path.parent)
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    assert not (path.parent / integrity.SUSPECT).exists()
    assert len(await addresses_due(spool)) == 400
    await spool.close()


async def test_no_file_is_taken_for_a_leftover_while_a_row_misses_its_own(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    await spool.accept(new_message(spool, "a@example.org", body=b"x" * (INLINE_OCTETS + 1)), hand_over=False)
    await spool.close()
    (file,) = (tmp_path / "shard-0" / "content").iterdir()
    with closing(sqlite3.connect(tmp_path / "shard-0" / "queue.db")) as connection, connection:
        connection.execute("UPDATE content SET file = 'another'")
    await (await Spool.open(tmp_path, shard=0, now=Clock())).close()
    assert file.exists()
