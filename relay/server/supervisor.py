"""server.supervisor: starts the workers, restarts them, passes signals on, speaks to the service manager. It does no
mail.

It forks after the listening sockets are open; a worker's end of the socket pair is its tie to life: at EOF a worker
drains and ends, so no worker outlives a killed supervisor, and a new owner waits for the shard's lock. `crew` says
when a worker is started again, and when it counts as hung and is killed.

SIGTERM and SIGINT drain, and are the same the second time. SIGHUP reads everything again: the supervisor opens what
listeners are new, hands all of them to the workers, and closes those that are gone once every worker has.

The event loop polls with poll(2): its state is the process's own, so a fork between two runs of the loop leaves the
child nothing of the parent's that a close could disturb. No thread runs here and no database is open here, for the
same reason.
"""

import asyncio
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from relay.errors import RelayError, Unavailable
from relay.server import passing
from relay.server.carried import from_values
from relay.server.channel import Channel, Gone
from relay.server.crew import Life, Patience, Slot
from relay.server.forking import Ends, exit_code, fork_worker
from relay.server.notify import Notifier
from relay.server.rates_keeper import Counters, RatesKeeper
from relay.server.repeating import repeat
from relay.server.setting import Setting
from relay.server.switchboard import Switchboard

WorkerMain = Callable[[int, Ends], int]


class Supervisor:
    """`run()` returns the exit code. worker_main is called in the child and returns the worker's."""

    def __init__(
        self,
        setting: Setting,
        *,
        worker_main: WorkerMain,
        switchboard: Switchboard,
        keeper: RatesKeeper,
        notifier: Notifier,
        restarted: Callable[[], None],
        ready: Callable[[], None],
        patience: Patience,
        fork: Callable[[], int] = os.fork,
    ) -> None:
        self._setting = setting
        self._worker_main = worker_main
        self._switchboard = switchboard
        self._keeper = keeper
        self._notifier = notifier
        self._restarted = restarted
        self._ready = ready
        self._patience = patience
        self._fork = fork
        self._log = setting.log
        self._slots = [Slot(number, patience) for number in range(setting.workers)]
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._tasks = asyncio.TaskGroup()
        self._wake = asyncio.Event()
        self._fork_wanted = asyncio.Event()
        self._hangup = asyncio.Event()
        self._stopping_since = 0.0
        self._tended_at = time.monotonic()
        self._fed_at = 0.0
        self._is_announced = False
        self._exit_code = os.EX_OK
        self._error: RelayError | None = None

    def run(self) -> int:
        """Raises RelayError for what kept the first workers from running."""
        asyncio.set_event_loop(self._loop)
        try:
            self._handle_signals()
            tending = self._loop.create_task(self._tend())
            tending.add_done_callback(lambda _: self._fork_wanted.set())
            while not tending.done():
                self._loop.run_until_complete(self._fork_wanted.wait())
                self._fork_wanted.clear()
                for slot in self._due():
                    self._start(slot)
            tending.result()
        finally:
            self._loop.close()
            asyncio.set_event_loop(None)
        if self._error is not None:
            raise self._error
        return self._exit_code

    def answering(self) -> int:
        """Workers that take mail and have said so lately."""
        now = time.monotonic()
        return sum(life.ready and life.answers(now, within=5 * self._patience.beat) for _, life in self._lives())

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        self._loop.add_signal_handler(signal.SIGCHLD, self._wake.set)

    def _lives(self) -> Iterator[tuple[Slot, Life]]:
        return ((slot, slot.life) for slot in self._slots if slot.life is not None)

    # Starting workers: between two runs of the loop.

    def _due(self) -> list[Slot]:
        now = time.monotonic()
        return [] if self._stopping_since else [slot for slot in self._slots if slot.is_due(now)]

    def _start(self, slot: Slot) -> None:
        others = [life.ends for _, life in self._lives()]
        try:
            pid, ends = fork_worker(lambda ends: self._worker_main(slot.number, ends), others=others, fork=self._fork)
        except OSError as error:  # out of processes, memory or descriptors for now
            self._log.error("worker not started yet", worker=slot.number, error=str(error))
            slot.start_at = time.monotonic() + self._patience.fork_again
            return
        now = time.monotonic()

        async def answer(verb: str, arguments: Sequence[Any]) -> Any:
            return await self._answer(slot, life, verb, arguments)

        life = slot.life = Life(pid, ends, Channel(answer, self._tasks), started_at=now, last_beat=now)
        self._loop.run_until_complete(self._loop.create_connection(lambda: life.channel, sock=ends.tie))
        self._log.info("worker started", worker=slot.number, pid=pid)

    # What workers say.

    async def _answer(self, slot: Slot, life: Life, verb: str, arguments: Sequence[Any]) -> Any:
        match verb, arguments:
            case "beat", []:
                life.last_beat = time.monotonic()
            case "ready", []:
                self._became_ready(slot, life)
            case "failed", [values]:
                life.error = from_values(values)
            case _:
                return await self._switchboard.answer(slot.number, verb, arguments)
        return None

    def _became_ready(self, slot: Slot, life: Life) -> None:
        slot.became_ready(life, time.monotonic())
        self._switchboard.joined(slot.number, life.channel)
        self._tell_how_many()
        if not self._is_announced and sum(life.ready for _, life in self._lives()) == len(self._slots):
            self._is_announced = True
            self._notifier.ready(self._status)
            self._log.info("server ready", workers=len(self._slots))
            self._ready()

    @property
    def _status(self) -> str:
        return f"{len(self._slots)} workers"

    def _tell_how_many(self) -> None:
        ready = [life for _, life in self._lives() if life.ready]
        for life in ready:
            life.channel.tell("workers", len(ready))

    # Tending them.

    async def _tend(self) -> None:
        """Until stopped and empty."""
        beat = self._patience.beat
        async with self._tasks:
            beside = [self._tasks.create_task(work) for work in (self._reload_when_told(), self._save_usage())]
            while not self._is_over():
                self._wake.clear()
                self._excuse_our_own_absence()
                await self._reap()
                self._kill_the_hung()
                self._feed_the_watchdog()
                if self._due():
                    self._fork_wanted.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), min(beat, self._notifier.watchdog or beat))
            for task in beside:
                task.cancel()

    def _is_over(self) -> bool:
        return bool(self._stopping_since) and not any(True for _ in self._lives())

    def _excuse_our_own_absence(self) -> None:
        """This machine was paused: what a worker has said meanwhile is still to be read."""
        now = time.monotonic()
        if now - self._tended_at > self._patience.hung_after / 2:
            for _, life in self._lives():
                life.last_beat = now
        self._tended_at = now

    async def _reap(self) -> None:
        for slot, life in list(self._lives()):
            code = exit_code(life.pid)
            if code is not None:
                await life.heard_out()
                self._ended(slot, life, code)

    def _ended(self, slot: Slot, life: Life, code: int) -> None:
        slot.ended(life, time.monotonic())
        life.close()
        self._switchboard.left(slot.number)
        self._tell_how_many()
        if self._stopping_since:
            # Killed in its drain: what it was sending may be sent again.
            self._exit_code = self._exit_code or (code if code >= 0 else os.EX_TEMPFAIL)
            return
        self._log.warning("worker ended", worker=slot.number, pid=life.pid, code=code)
        if slot.cannot_run(code):
            self._exit_code, self._error = code, life.error
            self._stop()
        else:
            self._restarted()

    def _kill_the_hung(self) -> None:
        now = time.monotonic()
        last = self._stopping_since + self._setting.config.server.drain + self._patience.grace
        for slot, life in self._lives():
            is_late = bool(self._stopping_since) and now > last
            if not life.killed and (is_late or not life.answers(now, within=self._patience.hung_after)):
                self._kill(slot, life, "does not end" if is_late else "does not answer")

    def _kill(self, slot: Slot, life: Life, why: str) -> None:
        life.killed = True
        self._log.error("worker killed", worker=slot.number, pid=life.pid, why=why)
        os.kill(life.pid, signal.SIGKILL)

    def _feed_the_watchdog(self) -> None:
        """It stands for every worker's event loop; one that is being restarted is no reason to end them all."""
        now = time.monotonic()
        if not self._notifier.watchdog or now - self._fed_at < self._notifier.watchdog / 2:
            return
        if all(life.answers(now, within=self._patience.hung_after) for _, life in self._lives()):
            self._fed_at = now
            self._notifier.alive()

    # What the service manager and the operator want.

    def _stop(self) -> None:
        if not self._stopping_since:
            self._stopping_since = time.monotonic()
            self._notifier.stopping()
            self._log.info("server draining")
            self._setting.listening.close_but()  # from now on clients are refused, not left waiting
            for _, life in self._lives():
                os.kill(life.pid, signal.SIGTERM)
        self._wake.set()

    async def _reload_when_told(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            self._notifier.reloading(monotonic_usec=time.monotonic_ns() // 1000)
            before = self._setting.reload()
            if before is not None:
                await asyncio.gather(*(self._hand_over(slot, life) for slot, life in self._lives()))
                self._setting.reloaded(before)
            if self._is_announced:
                self._notifier.ready(self._status)

    async def _hand_over(self, slot: Slot, life: Life) -> None:
        """A worker that is gone or is killed for it begins with the newest of everything."""
        try:
            passing.send(life.ends.passing, self._setting.listening)
            async with asyncio.timeout(self._patience.reload_within):
                await life.channel.ask("reload")
        except Gone:
            return
        except TimeoutError:
            self._log.warning("worker has not reloaded yet", worker=slot.number)
        except OSError:
            self._kill(slot, life, "takes no listeners")

    async def _save_usage(self) -> None:
        await repeat(
            lambda: self._keeper.save(self._through_a_worker),
            every=self._patience.save_every,
            log=self._log,
            failing="what was sent is not saved yet",
        )

    async def _through_a_worker(self, counters: Counters) -> None:
        """Raises RelayError."""
        life = next((life for _, life in self._lives() if life.ready), None)
        if life is None:
            raise Unavailable("no worker runs")
        try:
            refusal = await life.channel.ask("usage", [[*key, count] for key, count in counters.items()])
        except Gone:
            raise Unavailable("the worker ended") from None
        if refusal is not None:
            raise from_values(refusal)
