"""What a log holds is written anew, whatever an earlier owner had begun to carry over and whoever still looks at it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.errors import Unavailable
from relay.wal import log_of, write_anew

# Writes, has a reader pin the log in the middle, carries over what it may (SQLite does not sync such a part), and dies.
OWNER = """
import os, signal, sqlite3, sys
def say(word): print(word, flush=True); sys.stdin.readline()
c = sqlite3.connect(sys.argv[1], isolation_level=None)
for word in ("journal_mode = WAL", "wal_autocheckpoint = 0", "synchronous = FULL"):
    c.execute(f"PRAGMA {word}")
c.execute("CREATE TABLE t (a)")
c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
for _ in range(20):
    c.execute("INSERT INTO t VALUES (randomblob(3000))")
say("half")
for _ in range(20):
    c.execute("INSERT INTO t VALUES (randomblob(3000))")
say("whole")
_, frames, carried = c.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
say(f"carried {carried} of {frames}")
os.kill(os.getpid(), signal.SIGKILL)
"""

READER = """
import sqlite3, sys
c = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
c.execute("BEGIN")
print(c.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
sys.stdin.readline()
"""


@contextmanager
def running(program: str, path: Path) -> Iterator["subprocess.Popen[str]"]:
    command, pipe = [sys.executable, "-c", program, str(path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def count(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(connection.execute("SELECT count(*) FROM t").fetchone()[0])
    finally:
        connection.close()


def test_pages_that_were_carried_over_and_then_lost_are_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with running(OWNER, path) as owner:
        assert hear(owner) == "half"
        with running(READER, path) as reader:
            assert hear(reader) == "20"
            go_on(owner)
            assert hear(owner) == "whole"
            before = path.read_bytes()
            go_on(owner)
            carried, _, frames = hear(owner).removeprefix("carried ").split()
            assert 0 < int(carried) < int(frames)
            go_on(owner)
            assert owner.wait(10) == -9
            lose(path, before)
            # The reader keeps SQLite's memory of what was carried over: to go on from there would miss what was lost.
            with pytest.raises(Unavailable, match="is open in another process"):
                write_anew(path, within=0.1)
            assert log_of(path).stat().st_size > 0
    write_anew(path)
    assert not log_of(path).exists() or log_of(path).stat().st_size == 0
    assert count(path) == 40


def lose(path: Path, before: bytes) -> None:
    """What the kernel wrote back never arrived."""
    with path.open("r+b") as file:
        file.write(before)
        file.truncate(len(before))
        os.fsync(file.fileno())


def test_it_waits_for_who_looks(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with running(OWNER, path) as owner:
        assert hear(owner) == "half"
        owner.kill()
    with running(READER, path) as reader:
        assert hear(reader) == "20"
        with ThreadPoolExecutor(1) as beside:
            waiting = beside.submit(write_anew, path)
            reader.kill()
            waiting.result(20)
    assert count(path) == 20


def test_an_empty_log_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with running(OWNER, path) as owner:
        assert hear(owner) == "half"
        owner.kill()
    write_anew(path)
    with running(READER, path) as reader:
        assert hear(reader) == "20"
        write_anew(path, within=0)


def test_without_a_log_there_is_nothing_to_do(tmp_path: Path) -> None:
    write_anew(tmp_path / "none.db", within=0)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("harm", "behind", "rows"),
    [
        pytest.param(lambda octets: octets, 0, 20, id="as it was written"),
        pytest.param(lambda octets: octets[:-1000], 0, 19, id="torn in its last frame"),
        pytest.param(lambda octets: octets + octets[32:2000], 0, 20, id="with a torn frame behind its end"),
        pytest.param(lambda octets: flipped(octets, at=0.5), 10, 10, id="with a bit flipped in its middle"),
    ],
)
def test_commits_behind_the_end_of_a_log_are_told_and_kept(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[bytes], bytes],
    behind: int,
    rows: int,
) -> None:
    path = tmp_path / "x.db"
    with running(OWNER, path) as owner:
        assert hear(owner) == "half"
        owner.kill()
    harmed = harm(log_of(path).read_bytes())
    log_of(path).write_bytes(harmed)
    write_anew(path)
    assert count(path) == pytest.approx(rows, abs=1)
    told = [record for record in caplog.records if record.message == "write-ahead log ends early"]
    assert [record.__dict__["commits_behind"] for record in told] == ([pytest.approx(behind, abs=1)] if behind else [])
    kept = [file.read_bytes() for file in tmp_path.glob("*.unread-*")]
    assert kept == ([harmed] if behind else [])


def flipped(octets: bytes, *, at: float) -> bytes:
    changed = bytearray(octets)
    changed[int(len(octets) * at)] ^= 1
    return bytes(changed)
