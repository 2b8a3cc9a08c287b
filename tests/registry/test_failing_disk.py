"""The disk fails a change: it is refused, and the next begins with every page written anew, beside whoever reads."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers.failing_disk import FailingDisk, Rule

CHILD = """
import asyncio, sys
from pathlib import Path
from relay.errors import SpoolError
from relay.registry.database import Database

SCRIPT = "CREATE TABLE t (name TEXT PRIMARY KEY, octets BLOB) STRICT;"

async def main(path):
    database = Database(path, scripts=(SCRIPT,))
    await database.open()
    reader = database.reader()  # as every worker has one
    while name := sys.stdin.readline().strip():
        try:
            await database.write(lambda c: c.execute("INSERT INTO t VALUES (?, randomblob(5000))", (name,)))
            print("done", flush=True)
        except SpoolError as error:
            print("refused", flush=True)
    assert reader.execute("SELECT count(*) FROM t").fetchone()[0] > 0
    reader.close()
    await database.close()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_a_change_that_fails_is_not_there_and_the_next_is(call: str, error: int, tmp_path: Path) -> None:
    path, disk = tmp_path / "some.db", FailingDisk(tmp_path)
    environment = {**os.environ, **disk.environment}
    command, pipe = [sys.executable, "-c", CHILD, str(path)], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:

        def change(name: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert change("first") == "done"
        disk.follow(Rule(call, "some.db-wal", error, times=1))
        assert change("second") == "refused"
        assert disk.wait_until_met()
        marked = Path(f"{path}.lock").stat().st_size > 0
        assert marked == ((call, error) != ("write", errno.ENOSPC)), "for lack of room nothing is in doubt"
        assert change("third") == "done"
        assert Path(f"{path}.lock").stat().st_size == 0
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [name for (name,) in connection.execute("SELECT name FROM t ORDER BY name")] == ["first", "third"]
    connection.close()
