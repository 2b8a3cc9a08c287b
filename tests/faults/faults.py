"""faults.faults: what is done to a server under load, each with its rounds and with what it may cost."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from tests.faults import disk, peers, processes
from tests.faults.house import House


class Where(Enum):
    """The file system the spool lies on."""

    PLAIN = auto()
    SMALL = auto()
    CUT = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """short, long: rounds. in_flight: seconds, as the ledger takes it; below zero, nothing may come twice. orderly:
    every client hears what became of its message. shim: whether system calls are to be tampered with.
    damages: what was on the disk is not any more, so what cannot be saved is to be named, and events may be missing.
    """

    name: str
    words: str
    round: Callable[[House, int], Awaitable[None]]
    short: int
    long: int
    workers: int = 2
    where: Where = Where.PLAIN
    in_flight: float = 1.0
    at_most_once: bool = False
    orderly: bool = False
    shim: bool = False
    damages: bool = False


FAULTS = (
    Fault("kill-worker", "`kill -9` of a worker", processes.kill_worker, 2, 100),
    Fault("kill-supervisor", "`kill -9` of the supervisor", processes.kill_supervisor, 2, 30),
    Fault("kill-all", "`kill -9` of all processes at once", processes.kill_all, 4, 200),
    Fault("kill-sending", "`kill -9` of all, messages half sent", processes.kill_while_sending, 2, 30),
    Fault("kill-only", "`kill -9` of the only process (`workers = 1`)", processes.kill_all, 3, 50, workers=1),
    Fault("hang", "a worker stopped for good (SIGSTOP)", processes.hang, 1, 3),
    Fault("pause", "a worker stopped for some seconds", processes.pause, 1, 10),
    Fault("terminate", "SIGTERM", processes.terminate, 2, 30, in_flight=-1.0, orderly=True),
    Fault("reload", "SIGHUP", processes.reload, 3, 50, in_flight=-1.0, orderly=True),
    Fault("power", "power cut", disk.cut_power, 4, 200, where=Where.CUT),
    Fault("tear", "a torn page in the log, half a body", disk.tear, 2, 30),
    Fault("damage", "a flipped bit, a garbled page, a torn end", disk.damage, 3, 60, damages=True),
    Fault(
        "full-accept", "disk full while accepting", disk.fill_while_accepting, 2, 20, where=Where.SMALL, in_flight=-1.0
    ),
    Fault(
        "full-settle", "disk full while settling", disk.fill_while_settling, 2, 20, where=Where.SMALL, in_flight=-1.0
    ),
    Fault("full-kill", "disk full, then `kill -9` of all", disk.kill_while_full, 1, 20, where=Where.SMALL),
    Fault(
        "full-roll",
        "disk full while the journal begins a day",
        disk.fill_while_rolling,
        1,
        20,
        where=Where.SMALL,
        in_flight=-1.0,
        shim=True,
    ),
    Fault("calls", "a call of the disk fails: EIO, ENOSPC", disk.fail_calls, 6, 140, shim=True),
    Fault("stall", "a sync takes 5 s", disk.stall_disk, 1, 10, in_flight=-1.0, shim=True),
    Fault("clock", "the clock jumps by a day", disk.jump, 4, 40, in_flight=-1.0, shim=True),
    Fault("receiver", "receiver closes, resets, stalls, garbles, says 421", peers.receiver_misbehaves, 6, 90),
    Fault(
        "once",
        "receiver closes after the dot, at-most-once stream",
        peers.receiver_loses_the_reply,
        2,
        20,
        in_flight=-1.0,
        at_most_once=True,
    ),
    Fault(
        "once-kill",
        "the same, and `kill -9` of all",
        peers.receiver_loses_the_reply_and_all_are_killed,
        2,
        20,
        in_flight=-1.0,
        at_most_once=True,
    ),
    Fault("half-close", "clients half-close after the dot", peers.clients_half_close, 1, 10, in_flight=-1.0),
    Fault("bdat-drop", "clients drop in BDAT", peers.clients_drop_in_bdat, 1, 10, in_flight=-1.0),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
