"""peers.failing_disk: a disk whose calls fail, stall or end the process, as told while the process runs.

    disk = FailingDisk(tmp_path)
    process = subprocess.Popen(command, env={**os.environ, **disk.environment})
    disk.follow(Rule("fsync", "queue.db-wal", errno.EIO, times=1))  # for calls from now on; the counts begin anew
    disk.wait_until_met()
    disk.heal()

A call that fails does nothing: what was to be written or synced is not. The kernel's own pages stay as they are, so a
later sync succeeds in earnest; what a real kernel loses is shown by tests/spool/test_lost_writes.py.
failing_disk.c says what the rules mean.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.peers.shared_object import shared_object
from tests.peers.waiting import PATIENCE, eventually

CALLS = ("fsync", "fdatasync", "sync", "write", "open", "rename", "unlink", "ftruncate", "fallocate")
KILL = -1  # an outcome: the process ends there, as by kill -9
LIE = -2  # an outcome of a sync: it says that all is well, and has done nothing


@dataclass(frozen=True, slots=True)
class Rule:
    """call: one of CALLS; "sync" is either sync. path: a part of the file's path (of its new one for rename), with "$"
    its end, "*" for any. outcome: an errno, KILL, LIE, or 0 to go on. after: calls that pass first. times: calls that
    are met then, 0 for all. stall: seconds to wait before the outcome.
    """

    call: str
    path: str
    outcome: int = 0
    after: int = 0
    times: int = 0
    stall: float = 0.0

    def __str__(self) -> str:
        return f"{self.call} {self.outcome} {self.after} {self.times} {self.stall} {self.path}"


def stall(call: str, path: str, *, seconds: float, times: int = 0) -> Rule:
    """The call takes so much longer."""
    return Rule(call, path, times=times, stall=seconds)


@dataclass(frozen=True, slots=True)
class Met:
    """rule: its place among those followed then, from 0."""

    rule: int
    pid: int
    path: str


class FailingDisk:
    """directory: where its two small files lie; not on the disk under test."""

    def __init__(self, directory: Path) -> None:
        self.control = directory / "failing-disk"
        self._met = directory / "failing-disk.met"
        self._seen = 0
        self.heal()

    @property
    def environment(self) -> dict[str, str]:
        """What the process is to be started with."""
        return {"LD_PRELOAD": str(shared_object("failing_disk")), "FAILING_DISK": str(self.control)}

    def follow(self, *rules: Rule) -> None:
        """Instead of those before."""
        for rule in rules:
            if rule.call not in CALLS:
                raise ValueError(f"{rule.call} is none of {CALLS}")
        self._seen = len(self.met())
        new = self.control.with_suffix(".new")
        new.write_text("".join(f"{rule}\n" for rule in rules), encoding="utf-8")
        new.rename(self.control)

    def heal(self) -> None:
        """From now on nothing fails."""
        self.follow()

    def met(self) -> list[Met]:
        """Every call that met a rule so far."""
        if not self._met.exists():
            return []
        words = [line.split(" ", 2) for line in self._met.read_text(encoding="utf-8").splitlines()]
        return [Met(int(rule), int(pid), path) for rule, pid, path in words]

    def wait_until_met(self, *, times: int = 1, within: float = PATIENCE) -> list[Met]:
        """Calls that met one of the rules followed last."""
        return eventually(lambda: self._met_since(times), what=f"{times} calls met a rule", within=within)

    def _met_since(self, times: int) -> list[Met]:
        found = self.met()[self._seen :]
        return found if len(found) >= times else []
