"""Processes that come, hang, die and are told things, under the real supervisor."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from tests.peers.ports import Reserved
from tests.peers.waiting import eventually
from tests.server import supervised as program
from tests.server.tables import write

PROCESSES = multiprocessing.get_context("forkserver")  # has imported everything, and no threads
PROCESSES.set_forkserver_preload(["tests.server.supervised"])
QUICK = {"beat": 0.05, "hung_after": 5.0, "settled_after": 60.0, "first_wait": 0.1, "fork_again": 0.05, "grace": 0.3}


class Supervised:
    """One supervisor with its workers; `environment` may name a service manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: ForkServerProcess | None = None
        self.environment: dict[str, str] = {}
        self.configure()

    def configure(self, **tables: Any) -> None:
        write(self.directory / "relay.toml", self.directory, **({"server": {"drain": "500ms"}} | tables))

    def start(self, *lives: str | Sequence[str], forks: Sequence[int] = (), **patience: float) -> None:
        """One worker for each; a list: its lives one after the other."""
        script = {
            "lives": {slot: [each] if isinstance(each, str) else list(each) for slot, each in enumerate(lives)},
            "patience": QUICK | patience,
            "forks": list(forks),
        }
        (self.directory / "script.json").write_text(json.dumps(script))
        self.process = PROCESSES.Process(target=program.run, args=(self.directory, self.environment))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process is not None
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self.process is not None
        self.process.join(20)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def lines(self, event: str) -> list[dict[str, Any]]:
        path = self.directory / "relay.log"
        text = path.read_text() if path.exists() else ""
        return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]

    def logged(self, event: str, *, times: int = 1) -> dict[str, Any]:
        """Wait for it; the last of so many."""
        found = eventually(lambda: len(self.lines(event)) >= times and self.lines(event), what=f"{event} in the log")
        assert found
        return found[times - 1]

    def met(self, slot: int, what: str) -> list[dict[str, Any]]:
        path = self.directory / f"worker-{slot}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [fact for fact in map(json.loads, lines) if fact["what"] == what]

    def meets(self, slot: int, what: str, *, times: int = 1) -> dict[str, Any]:
        found = eventually(
            lambda: len(self.met(slot, what)) >= times and self.met(slot, what), what=f"worker {slot}: {what}"
        )
        assert found
        return found[times - 1]

    def pids(self, slot: int) -> list[int]:
        return [line["pid"] for line in self.lines("worker started") if line["worker"] == slot]

    def takes_mail(self, slot: int, *, life: int) -> int:
        """Wait until this place's nth worker (from 1) is told how many take mail; its process id."""

        def look() -> int | None:
            told = {fact["pid"] for fact in self.met(slot, "workers")}
            started = self.pids(slot)
            return started[life - 1] if len(started) >= life and started[life - 1] in told else None

        found = eventually(look, what=f"worker {slot}, life {life}, takes mail")
        assert found
        return found

    @property
    def output(self) -> str:
        """What landed on the terminal."""
        path = self.directory / "output"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    made = Supervised(tmp_path)
    yield made
    if made.process is not None and made.process.is_alive():
        made.process.kill()
        made.process.join()
    assert made.output == ""


@pytest.fixture
def manager(tmp_path: Path, supervised: Supervised) -> Iterator[socket.socket]:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        supervised.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        yield listening


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# From start to end.


def test_all_workers_are_started_told_of_and_drained(supervised: Supervised, manager: socket.socket) -> None:
    supervised.start("work", "work")
    assert manager.recv(4096).startswith(b"READY=1\nSTATUS=2 workers\nMAINPID=")
    supervised.logged("told that all are ready")
    supervised.meets(0, "workers")
    assert supervised.stop() == 0
    assert manager.recv(4096).startswith(b"STOPPING=1")
    assert [len(supervised.met(slot, "ended")) for slot in (0, 1)] == [1, 1]
    assert supervised.lines("worker ended") == []


def test_it_ends_with_its_last_worker(supervised: Supervised) -> None:
    supervised.start("work", "work", beat=300.0, hung_after=900.0)
    supervised.logged("server ready")
    assert supervised.stop() == 0


def test_each_worker_is_told_how_many_take_mail(supervised: Supervised) -> None:
    supervised.start("work", ["start", "work"])
    assert supervised.meets(0, "workers")["arguments"] == [1]
    os.kill(supervised.meets(1, "began")["pid"], signal.SIGKILL)
    supervised.meets(0, "workers", times=3)
    assert [fact["arguments"] for fact in supervised.met(0, "workers")] == [[1], [1], [2]]
    assert supervised.meets(1, "workers")["arguments"] == [2]
    supervised.stop()


def test_a_worker_that_had_not_begun_when_the_server_stops_is_no_failure(supervised: Supervised) -> None:
    supervised.start("work", "sleep")
    supervised.meets(0, "workers")
    supervised.meets(1, "began")
    assert supervised.stop() == 0


def test_sigterm_during_the_start_ends_those_that_are_not_ready(supervised: Supervised) -> None:
    supervised.start("work", "start")
    for slot in (0, 1):
        supervised.meets(slot, "began")
    assert supervised.stop() == 0
    assert supervised.lines("server ready") == []


def test_sigterm_before_anything_else_ends_it_too(supervised: Supervised) -> None:
    supervised.start("work", forks=[errno.EAGAIN] * 1000)
    supervised.logged("worker not started yet")
    assert supervised.stop() == 0
    assert supervised.lines("worker started") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_the_same_as_one(supervised: Supervised, number: signal.Signals) -> None:
    supervised.start("work", "stubborn")
    supervised.logged("server ready")
    supervised.signal(number)
    supervised.meets(1, "ignored")
    supervised.signal(number)
    assert supervised.wait() == os.EX_TEMPFAIL
    assert len(supervised.lines("server draining")) == 1
    assert len(supervised.met(1, "ignored")) == 1
    assert len(supervised.met(0, "ended")) == 1


def test_one_that_does_not_drain_is_killed_when_its_time_is_over(supervised: Supervised) -> None:
    supervised.start("stubborn", "work")
    supervised.logged("server ready")
    began = time.monotonic()
    assert supervised.stop() == os.EX_TEMPFAIL
    assert time.monotonic() - began >= 0.8  # the drain and the grace
    (killed,) = supervised.lines("worker killed")
    assert (killed["worker"], killed["why"]) == (0, "does not end")


def test_listeners_are_closed_when_the_drain_begins(supervised: Supervised) -> None:
    with Reserved() as reserved:
        supervised.configure(http={"listen": f"127.0.0.1:{reserved.port}"})
        supervised.start("stubborn", grace=30.0)
        supervised.logged("server ready")
        socket.create_connection(("127.0.0.1", reserved.port)).close()
        supervised.signal(signal.SIGTERM)
        pid = supervised.meets(0, "ignored")["pid"]
        os.kill(pid, signal.SIGKILL)  # it holds its inherited copy
        supervised.wait()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", reserved.port))


def test_workers_notice_a_killed_supervisor_each_for_itself(supervised: Supervised) -> None:
    supervised.start("work", "work", "work")
    supervised.logged("server ready")
    supervised.signal(signal.SIGKILL)
    for slot in range(3):
        supervised.meets(slot, "orphaned")
        supervised.meets(slot, "ended")


def test_a_worker_has_none_of_the_supervisors_ends(supervised: Supervised) -> None:
    """Its own two, the listener, and what its event loop and the supervisor's wake themselves with: the same for the
    first as for the last that was forked.
    """
    supervised.start("work", "work", "work")
    supervised.logged("server ready")
    assert len({supervised.met(slot, "began")[0]["descriptors"] for slot in range(3)}) == 1
    supervised.stop()


# Dying and being started again.


def test_a_killed_worker_is_replaced_at_once(supervised: Supervised) -> None:
    supervised.start("work", "work")
    os.kill(supervised.takes_mail(1, life=1), signal.SIGKILL)
    assert supervised.logged("worker ended")["code"] == -signal.SIGKILL
    supervised.takes_mail(1, life=2)
    assert len(supervised.pids(1)) == 2
    assert len(supervised.pids(0)) == 1
    supervised.stop()


def test_one_that_dies_again_and_again_is_waited_with_longer_and_longer(supervised: Supervised) -> None:
    supervised.start("work", ["die:-9"] * 5 + ["work"])
    supervised.logged("server ready")
    starts = [_seconds(line["time"]) for line in supervised.lines("worker started") if line["worker"] == 1]
    ends = [_seconds(line["time"]) for line in supervised.lines("worker ended")]
    waits = [start - end for start, end in zip(starts[1:], ends, strict=True)]
    for wait, least in zip(waits, (0.0, 0.1, 0.2, 0.4, 0.8), strict=True):
        assert wait >= least - 0.01
    assert len(supervised.pids(0)) == 1
    supervised.stop()


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.removesuffix("Z").partition("T")[2].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_a_worker_that_is_stopped_is_killed_and_replaced(supervised: Supervised) -> None:
    supervised.start("work", "work", hung_after=0.5)
    supervised.logged("server ready")
    (pid,) = supervised.pids(0)
    os.kill(pid, signal.SIGSTOP)
    killed = supervised.logged("worker killed")
    assert (killed["worker"], killed["pid"], killed["why"]) == (0, pid, "does not answer")
    supervised.logged("worker started", times=3)
    assert not is_running(pid)
    supervised.stop()


def test_one_that_hangs_before_it_is_ready_is_killed_too(supervised: Supervised) -> None:
    supervised.start(["start", "work"], hung_after=0.5)
    os.kill(supervised.meets(0, "began")["pid"], signal.SIGSTOP)
    supervised.logged("worker killed")
    supervised.logged("server ready")
    supervised.stop()


def test_a_pause_of_the_whole_machine_is_no_workers_fault(supervised: Supervised) -> None:
    supervised.start("work", "work", hung_after=1.0)
    supervised.logged("server ready")
    everybody = [supervised.pid, *supervised.pids(0), *supervised.pids(1)]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.5)  # what is tested is that time passes
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    met = len(supervised.met(0, "workers"))
    os.kill(supervised.pids(1)[0], signal.SIGKILL)  # something to wait for
    supervised.meets(0, "workers", times=met + 2)
    assert supervised.lines("worker killed") == []
    supervised.stop()


def test_a_fork_that_fails_is_tried_again(supervised: Supervised) -> None:
    supervised.start("work", "work", forks=[0, errno.EAGAIN, errno.ENOMEM, 0])
    supervised.logged("server ready")
    errors = [line["error"] for line in supervised.lines("worker not started yet")]
    assert errors == ["[Errno 11] EAGAIN", "[Errno 12] ENOMEM"]
    assert supervised.stop() == 0


# Errors that no restart cures.


def test_an_error_of_the_first_start_ends_the_server_with_its_words_and_exit_code(supervised: Supervised) -> None:
    supervised.start("work", f"refuse:{os.EX_CONFIG}")
    assert supervised.wait() == os.EX_CONFIG
    told = supervised.logged("the command ends")
    assert (told["error"], told["remedy"]) == ("this worker cannot run", "do something")
    supervised.meets(0, "ended")
    assert [line["worker"] for line in supervised.lines("worker started")].count(1) == 1


def test_the_same_error_later_is_tried_again(supervised: Supervised) -> None:
    supervised.start(["work", f"refuse:{os.EX_CONFIG}", f"refuse:{os.EX_IOERR}", "work"])
    os.kill(supervised.takes_mail(0, life=1), signal.SIGKILL)
    supervised.takes_mail(0, life=4)
    assert [line["code"] for line in supervised.lines("worker ended")] == [-9, os.EX_CONFIG, os.EX_IOERR]
    assert supervised.stop() == 0


def test_an_error_in_the_drain_is_the_exit_code(supervised: Supervised) -> None:
    supervised.start("work", f"weary:{os.EX_IOERR}")
    supervised.logged("server ready")
    assert supervised.stop() == os.EX_IOERR


# What it is told.


def test_sighup_hands_every_worker_all_listeners_and_closes_what_is_gone(
    supervised: Supervised, manager: socket.socket
) -> None:
    with Reserved() as first, Reserved() as second:
        for reserved in (first, second):
            supervised.configure(http={"listen": f"127.0.0.1:{reserved.port}"})
            if supervised.process is None:
                supervised.start("work", "work")
                assert manager.recv(4096).startswith(b"READY=1")
        supervised.signal(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        for slot in (0, 1):
            assert supervised.meets(slot, "reloaded")["listens"] == [f"127.0.0.1:{second.port}"]
        assert manager.recv(4096).startswith(b"READY=1")
        socket.create_connection(("127.0.0.1", second.port)).close()
        supervised.stop()


def test_a_mistake_in_the_file_reaches_no_worker_and_a_worker_started_later_is_the_same(
    supervised: Supervised, manager: socket.socket
) -> None:
    supervised.start("work", "work")
    assert manager.recv(4096).startswith(b"READY=1")
    (supervised.directory / "relay.toml").write_text("[server]\nhostnam = 1\n")
    supervised.signal(signal.SIGHUP)
    assert manager.recv(4096).startswith(b"RELOADING=1")
    assert manager.recv(4096).startswith(b"READY=1")
    assert 'did you mean "hostname"' in supervised.logged("config not reloaded")["error"]
    for slot in (0, 1):
        assert supervised.meets(slot, "reopen")["arguments"] == []
        assert supervised.met(slot, "reloaded") == []
    os.kill(supervised.pids(0)[0], signal.SIGKILL)
    supervised.meets(0, "began", times=2)
    assert supervised.stop() == 0


def test_a_worker_that_is_stopped_holds_a_reload_up_no_longer_than_allowed(
    supervised: Supervised, manager: socket.socket
) -> None:
    supervised.start("work", "work", reload_within=0.2, hung_after=30.0)
    assert manager.recv(4096).startswith(b"READY=1")
    os.kill(supervised.pids(1)[0], signal.SIGSTOP)
    supervised.signal(signal.SIGHUP)
    assert manager.recv(4096).startswith(b"RELOADING=1")
    assert manager.recv(4096).startswith(b"READY=1")
    assert supervised.logged("worker has not reloaded yet")["worker"] == 1
    supervised.meets(0, "reloaded")
    os.kill(supervised.pids(1)[0], signal.SIGCONT)
    supervised.meets(1, "reloaded")
    supervised.stop()


def test_a_hangup_of_the_terminal_reaches_the_supervisor_alone(supervised: Supervised) -> None:
    """SIGHUP and SIGINT go to the whole group there."""
    supervised.start("work")
    supervised.logged("server ready")
    (pid,) = supervised.pids(0)
    for number in (signal.SIGHUP, signal.SIGINT):
        os.kill(pid, number)
    supervised.signal(signal.SIGHUP)
    supervised.meets(0, "reloaded")
    assert is_running(pid)
    supervised.stop()


def test_the_watchdog_is_fed_twice_as_often_as_it_must(supervised: Supervised, manager: socket.socket) -> None:
    supervised.environment["WATCHDOG_USEC"] = "1000000"
    supervised.start("work")
    manager.settimeout(0.9)
    words = [manager.recv(4096) for _ in range(1 + 4)]
    assert sum(word == b"WATCHDOG=1" for word in words) >= 4
    supervised.stop()


def test_what_credentials_sent_is_written_through_a_worker(supervised: Supervised) -> None:
    supervised.start("work", save_every=0.05)
    rows = supervised.meets(0, "usage")["arguments"][0]
    assert {(name, window, count) for name, window, _, count in rows} == {("shop", "hour", 1), ("shop", "day", 1)}
    assert supervised.lines("what was sent not saved yet") == [], "nobody was there to write yet"
    supervised.stop()
