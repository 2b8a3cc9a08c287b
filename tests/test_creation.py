"""Whoever dies while a database is made leaves none, or a whole one: the next start goes on.

The process ends at each write, sync, renaming and removal in turn.
"""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.peers.failing_disk import KILL, FailingDisk, Rule

CALLS = ("write", "sync", "rename", "unlink", "ftruncate")
LEAST = 20  # deaths, or the calls have not been met

JOURNAL = """
from relay.journal.store import Journal
from tests.journal.stories import NOW, event, refuse_damage

async def make(directory):
    journal = await Journal.open(directory, damaged=refuse_damage)
    await journal.ingest([(1, event(NOW))])
    await journal.close()
"""

REGISTRY = """
from relay.registry.database import Database, schema

async def make(directory):
    database = Database(directory / "registry.db", scripts=schema("registry"))
    await database.open()
    await database.close()
"""

SHARD = """
from relay.spool import recovery
from relay.spool.lock import Lock

async def make(directory):
    own = recovery.shard_directory(directory, 0)
    recovery.make_directory(own)
    recovery.recover(own, Lock(own / "lock"), now=lambda: 1e9).connection.close()
"""

AS_IN_0_1_0 = """
import sqlite3

async def make(directory):
    path = directory / NAME
    path.parent.mkdir(exist_ok=True)
    sqlite3.connect(path, isolation_level=None).execute("PRAGMA journal_mode = WAL")
"""

EACH_IN_A_PROCESS = """
import asyncio, os, sys, traceback
from pathlib import Path

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            asyncio.run(make(Path(line.strip())))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def maker(program: str, disk: FailingDisk) -> Iterator[Callable[[Path], int]]:
    """Makes the database of a directory in a process of its own; the exit code of that."""
    command, environment = [sys.executable, "-c", program + EACH_IN_A_PROCESS], {**os.environ, **disk.environment}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        asks, answers = process.stdin, process.stdout
        assert asks is not None and answers is not None

        def make(directory: Path) -> int:
            print(directory, file=asks, flush=True)
            return int(answers.readline())

        yield make


def die_at_each(make: Callable[[Path], int], directory: Path, disk: FailingDisk) -> Iterator[Path]:
    """Each time in an empty directory, until it gets through."""
    for call in CALLS:
        for after in count():
            own = directory / f"{call}-{after}"
            own.mkdir()
            disk.follow(Rule(call, str(own), KILL, after=after, times=1))
            code = make(own)
            disk.heal()
            if code == 0:
                break
            assert code == -signal.SIGKILL
            yield own


@pytest.mark.parametrize("program", [JOURNAL, REGISTRY, SHARD], ids=["a day of the journal", "the registry", "a shard"])
def test_a_process_dies_while_a_database_is_made(program: str, tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    with maker(program, disk) as make:
        deaths = list(die_at_each(make, tmp_path, disk))
        assert len(deaths) >= LEAST
        assert [each.name for each in deaths if make(each) != 0] == []


@pytest.mark.parametrize(
    ("program", "name"),
    [(JOURNAL, "journal-2027-01-15.db"), (REGISTRY, "registry.db"), (SHARD, "shard-0/queue.db")],
    ids=["a day of the journal", "the registry", "a shard"],
)
def test_what_0_1_0_left_half_made_is_made(program: str, name: str, tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir()
    with maker(f"NAME = {name!r}\n{AS_IN_0_1_0}", disk) as make:
        disk.follow(Rule("unlink", f"{name}-journal$", KILL))
        assert make(spool) == -signal.SIGKILL
        disk.heal()
    reading = closing(sqlite3.connect(f"file:{spool / name}?mode=ro", uri=True))
    with reading as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("PRAGMA user_version").fetchone()
    with maker(program, disk) as make:
        assert make(spool) == 0
    with closing(sqlite3.connect(spool / name)) as made:
        assert made.execute("PRAGMA user_version").fetchone()[0] > 0
