"""The tests' own failing disk: what it fails really fails, in a process that knows nothing of it."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.failing_disk import KILL, FailingDisk, Rule, stall

CHILD = """
import os, sys
descriptor = os.open("here", os.O_RDWR | os.O_CREAT)
calls = {
    "fsync": lambda: os.fsync(descriptor),
    "fdatasync": lambda: os.fdatasync(descriptor),
    "write": lambda: (os.write(descriptor, b"x"), os.pwrite(descriptor, b"x", 0)),
    "open": lambda: os.close(os.open("here-too", os.O_RDWR | os.O_CREAT, 0o600)),
    "rename": lambda: (open("old", "w").close(), os.rename("old", "here-new")),
    "unlink": lambda: (open("here-gone", "w").close(), os.unlink("here-gone")),
    "ftruncate": lambda: os.ftruncate(descriptor, 0),
    "fallocate": lambda: os.posix_fallocate(descriptor, 0, 10),
}
print("ready", flush=True)
for line in sys.stdin:
    try:
        calls[line.strip()]()
        print("done", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


class Child:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def does(self, call: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{call}\n")
        self.process.stdin.flush()
        return self.says()

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def child(disk: FailingDisk, directory: Path) -> Iterator[Child]:
    command = [sys.executable, "-c", CHILD]
    environment = {**os.environ, **disk.environment}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=directory, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        started = Child(process)
        assert started.says() == "ready"
        yield started


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=lambda error: f"with {errno.errorcode[error]}")
@pytest.mark.parametrize(
    "call",
    ["fsync", "fdatasync", "write", "open", "rename", "unlink", "ftruncate", "fallocate"],
    ids=lambda call: f"{call} fails",
)
def test_a_call_fails_as_often_as_it_is_told_to(call: str, error: int, tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    with child(disk, tmp_path) as process:
        disk.follow(Rule(call, "here", error, after=2, times=1))
        # Writing is two calls here: one of a file at its end, one at a place.
        needed = 2 if call == "write" else 3
        assert [process.does(call) for _ in range(needed + 1)] == ["done"] * (needed - 1) + [str(error), "done"]
        assert [each.rule for each in disk.wait_until_met()] == [0]
        disk.follow(Rule(call, "elsewhere", error), Rule(call, "her$", error))
        assert process.does(call) == "done"


def test_a_call_stalls_and_the_disk_heals(tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    with child(disk, tmp_path) as process:
        disk.follow(stall("sync", "here", seconds=0.3))
        began = time.monotonic()
        assert process.does("fdatasync") == "done"
        assert time.monotonic() - began >= 0.3
        disk.heal()
        assert process.does("fsync") == "done"
        assert len(disk.met()) == 1


def test_a_process_ends_in_a_call(tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    with child(disk, tmp_path) as process:
        disk.follow(Rule("write", "here", KILL, after=1))
        assert process.does("write") == ""
        assert process.process.wait(10) == -9
