"""server.supervisor: starts the workers, restarts them, passes signals on, speaks to the service manager. It does no
mail.

It opens the listening sockets, then forks; a worker's end of the socket pair is its tie to life: at EOF a worker
drains and ends, so no worker outlives a killed supervisor, and a new owner waits for the shard's lock. A worker that
dies is started again (its shard recovers at start), at once if it had run well, after a growing wait if not. A worker
that says nothing for `HUNG_AFTER` is killed. An error that no restart can cure, at the first start (a config error, a
spool of a newer version), ends the whole server with that error's exit code.

The event loop polls with poll(2): its state is the process's own, so a fork between two runs of the loop leaves the
child nothing of the parent's that a close could disturb. No thread runs here and no database is open here, for the
same reason.
"""

import asyncio
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from relay.log import Log
from relay.server.channel import Channel
from relay.server.notify import Notifier
from relay.server.switchboard import Switchboard

HUNG_AFTER = 30.0
BEAT = 1.0
SETTLED_AFTER = 10.0  # a worker that ran so long is restarted at once
LONGEST_WAIT = 30.0
SYSEXITS = range(64, 79)
STARTED_WITHIN = 60.0

WorkerMain = Callable[[int, socket.socket], int]


@dataclass(slots=True)
class Worker:
    """One worker's life. Times are monotonic seconds."""

    slot: int
    pid: int
    channel: Channel
    started_at: float
    last_beat: float
    ready: bool = False


@dataclass(slots=True)
class Slot:
    """One shard's place: `worker` while one runs, else `start_at` says when the next is started."""

    number: int
    start_at: float = 0.0
    failures: int = 0
    ever_ready: bool = False
    worker: Worker | None = None


@dataclass(slots=True)
class Supervisor:
    """`run()` returns the exit code. worker_main is called in the child and returns the worker's exit code."""

    worker_main: WorkerMain
    workers: int
    switchboard: Switchboard
    notifier: Notifier
    log: Log
    drain: float
    reload: Callable[[], bool]
    restarted: Callable[[], None]
    ready: Callable[[], None] | None = None
    _slots: list[Slot] = field(default_factory=list)
    _stopping_since: float = 0.0
    _exit_code: int = os.EX_OK
    _announced: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _tasks: asyncio.TaskGroup | None = None
    _last_fed: float = 0.0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _fork_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _parent_ends: dict[int, socket.socket] = field(default_factory=dict)

    def run(self) -> int:
        self._slots = [Slot(number) for number in range(self.workers)]
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        asyncio.set_event_loop(self._loop)
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._reload),
        ):
            self._loop.add_signal_handler(number, handler)
        self._loop.add_signal_handler(signal.SIGCHLD, self._wake.set)
        tending = self._loop.create_task(self._tend())
        tending.add_done_callback(lambda _: self._fork_wanted.set())
        while not tending.done():
            self._loop.run_until_complete(self._fork_wanted.wait())
            self._fork_wanted.clear()
            for slot in self._due_to_start():
                self._start(slot)
        self._loop.close()
        tending.result()
        return self._exit_code

    def _due_to_start(self) -> list[Slot]:
        if self._stopping_since:
            return []
        now = time.monotonic()
        return [slot for slot in self._slots if slot.worker is None and slot.start_at <= now]

    def _start(self, slot: Slot) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            os._exit(self._in_child(slot.number, ours, theirs))
        theirs.close()
        self._parent_ends[slot.number] = ours
        assert self._loop is not None
        channel = self._loop.run_until_complete(self._open_channel(slot.number, ours))
        now = time.monotonic()
        slot.worker = Worker(slot.number, pid, channel, started_at=now, last_beat=now)
        self.log.info("worker started", worker=slot.number, pid=pid)

    def _in_child(self, number: int, ours: socket.socket, theirs: socket.socket) -> int:
        """Leave nothing of the supervisor behind: its ends of the pairs would keep other workers alive past it."""
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(signal_number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        asyncio.set_event_loop(None)
        ours.close()
        for other in self._parent_ends.values():
            os.close(other.detach())
        return self.worker_main(number, theirs)

    async def _open_channel(self, number: int, ours: socket.socket) -> Channel:
        async def answer(verb: str, arguments: Sequence[Any]) -> Any:
            return await self._answer(number, verb, arguments)

        ours.setblocking(False)
        assert self._tasks is not None
        tasks = self._tasks
        _, channel = await asyncio.get_running_loop().create_connection(lambda: Channel(answer, tasks), sock=ours)
        return channel

    async def _answer(self, number: int, verb: str, arguments: Sequence[Any]) -> Any:
        worker = self._slots[number].worker
        if verb == "beat":
            if worker is not None:
                worker.last_beat = time.monotonic()
            return None
        if verb == "ready":
            self._became_ready(self._slots[number])
            return None
        return await self.switchboard.answer(number, verb, arguments)

    def _became_ready(self, slot: Slot) -> None:
        if slot.worker is None:
            return
        slot.worker.ready = slot.ever_ready = True
        slot.worker.last_beat = time.monotonic()
        self.switchboard.joined(slot.number, slot.worker.channel)
        if not self._announced and all(each.worker is not None and each.worker.ready for each in self._slots):
            self._announced = True
            self.notifier.ready(f"{self.workers} workers")
            self.log.info("server ready", workers=self.workers)
            if self.ready is not None:
                self.ready()

    async def _tend(self) -> None:
        """Reap, look for the hung, feed the watchdog, until stopped and empty."""
        async with asyncio.TaskGroup() as self._tasks:
            while not self._is_over():
                self._wake.clear()
                self._reap()
                self._end_the_hung()
                self._feed_the_watchdog()
                if self._due_to_start():
                    self._fork_wanted.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), BEAT)

    def _is_over(self) -> bool:
        return bool(self._stopping_since) and not any(slot.worker for slot in self._slots)

    def _feed_the_watchdog(self) -> None:
        now = time.monotonic()
        if (
            self.notifier.watchdog
            and now - self._last_fed >= min(self.notifier.watchdog, BEAT * 5)
            and self._all_alive()
        ):
            self._last_fed = now
            self.notifier.alive()

    def _all_alive(self) -> bool:
        """Every worker that runs has beaten lately; one that is being restarted is no reason to end them all."""
        now = time.monotonic()
        return all(slot.worker is None or now - slot.worker.last_beat < HUNG_AFTER for slot in self._slots)

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.worker is None:
                continue
            pid, status = os.waitpid(slot.worker.pid, os.WNOHANG)
            if pid:
                self._ended(slot, slot.worker, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: Slot, worker: Worker, code: int) -> None:
        slot.worker = None
        worker.channel.close()
        self._parent_ends.pop(slot.number, None)
        self.switchboard.left(slot.number)
        if self._stopping_since:
            self._exit_code = self._exit_code or max(code, 0)
            return
        self.log.warning("worker ended", worker=slot.number, pid=worker.pid, code=code)
        if code in SYSEXITS and not slot.ever_ready:
            self._exit_code = code
            self._stop()
            return
        ran_well = time.monotonic() - worker.started_at >= SETTLED_AFTER
        slot.failures = 0 if ran_well else slot.failures + 1
        slot.start_at = time.monotonic() + (min(LONGEST_WAIT, 2.0 ** (slot.failures - 2)) if slot.failures > 1 else 0.0)
        self.restarted()

    def _end_the_hung(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            worker = slot.worker
            if worker is None:
                continue
            patience = HUNG_AFTER if worker.ready else max(STARTED_WITHIN, HUNG_AFTER)
            late_to_end = self._stopping_since and now - self._stopping_since > self.drain + 10
            if (worker.ready and now - worker.last_beat > patience) or late_to_end:
                self.log.error("worker does not answer and is killed", worker=slot.number, pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

    def _stop(self) -> None:
        if not self._stopping_since:
            self._stopping_since = time.monotonic()
            self.notifier.stopping()
            self.log.info("server draining")
            self._signal_all(signal.SIGTERM)
        self._wake.set()

    def _reload(self) -> None:
        """A config that cannot be used is logged and leaves everything as it is."""
        self.notifier.reloading(monotonic_usec=int(time.monotonic() * 1e6))
        if self.reload():
            self._signal_all(signal.SIGHUP)
        self.notifier.ready(f"{self.workers} workers")

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.worker is not None:
                os.kill(slot.worker.pid, number)
