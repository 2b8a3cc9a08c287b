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
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from relay.errors import RelayError, Unavailable
from relay.server import passing
from relay.server.carried import from_values
from relay.server.channel import Channel, Gone
from relay.server.crew import Crew, Ended, Life, Slot
from relay.server.forking import Ends, fork_worker
from relay.server.notify import Notifier
from relay.server.patience import Patience
from relay.server.rates_keeper import Counters, RatesKeeper
from relay.server.repeating import repeat
from relay.server.setting import Setting
from relay.server.switchboard import Switchboard

WorkerMain = Callable[[int, Ends], int]


class Supervisor:
    """`run()` returns the exit code. worker_main is called in the child and returns the worker's. remember: keeps what
    sites have taught, now and then and at the end.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        worker_main: WorkerMain,
        switchboard: Switchboard,
        keeper: RatesKeeper,
        remember: Callable[[], None],
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
        self._remember = remember
        self._notifier = notifier
        self._restarted = restarted
        self._ready = ready
        self._patience = patience
        self._fork = fork
        self._log = setting.log
        self._crew = Crew(setting.workers, patience, setting.log)
        self._loop = asyncio.SelectorEventLoop(selectors.PollSelector())
        self._tasks = asyncio.TaskGroup()
        self._wake = asyncio.Event()
        self._fork_wanted = asyncio.Event()
        self._hangup = asyncio.Event()
        self._any_ready = asyncio.Event()
        self._stopping_since = 0.0
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
            self._remember()
            self._loop.close()
            asyncio.set_event_loop(None)
        if self._error is not None:
            raise self._error
        return self._exit_code

    def answering(self) -> int:
        """Workers that take mail and have said so lately."""
        return self._crew.answering(time.monotonic())

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        self._loop.add_signal_handler(signal.SIGCHLD, self._wake.set)

    # Starting workers: between two runs of the loop.

    def _due(self) -> list[Slot]:
        now = time.monotonic()
        return [] if self._stopping_since else [slot for slot in self._crew.slots if slot.is_due(now)]

    def _start(self, slot: Slot) -> None:
        others = [life.ends for _, life in self._crew.lives()]
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
        self._switchboard.connected(slot.number, life.channel)
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
        self._any_ready.set()
        self._switchboard.joined(slot.number, life.channel)
        self._crew.tell_how_many_are_ready()
        if not self._is_announced and len(self._crew.ready()) == len(self._crew.slots):
            self._is_announced = True
            self._announce()
            self._log.info("server ready", workers=len(self._crew.slots))
            self._ready()

    def _announce(self) -> None:
        if self._is_announced:
            self._notifier.ready(f"{len(self._crew.slots)} workers")

    # Tending them.

    async def _tend(self) -> None:
        """Until stopped and empty."""
        beat = self._patience.beat
        async with self._tasks:
            beside = [self._tasks.create_task(work) for work in (self._reload_when_told(), self._save_usage())]
            while True:
                self._wake.clear()
                for each in await self._crew.ended():
                    self._ended(each)
                if self._stopping_since and self._crew.is_empty():
                    break
                self._kill_who_must_go()
                self._feed_the_watchdog()
                if self._due():
                    self._fork_wanted.set()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), min(beat, self._notifier.watchdog or beat))
            for task in beside:
                task.cancel()

    def _ended(self, ended: Ended) -> None:
        slot, life, code = ended.slot, ended.life, ended.code
        slot.ended(life, time.monotonic())
        life.close()
        self._switchboard.left(slot.number)
        self._crew.tell_how_many_are_ready()
        if self._stopping_since:
            self._exit_code = self._exit_code or _of_drain(code)
            return
        self._log.warning("worker ended", worker=slot.number, pid=life.pid, code=code)
        if slot.cannot_run(code):
            self._exit_code, self._error = code, life.error
            self._stop()
        else:
            self._restarted()

    def _kill_who_must_go(self) -> None:
        now = time.monotonic()
        self._crew.kill_the_hung(now)
        last = self._stopping_since + self._setting.config.server.drain + self._patience.grace
        if self._stopping_since and now > last:
            self._crew.kill_all("does not end")

    def _feed_the_watchdog(self) -> None:
        """It stands for every worker's event loop."""
        now = time.monotonic()
        if self._notifier.watchdog and now - self._fed_at >= self._notifier.watchdog / 2 and self._crew.is_alive(now):
            self._fed_at = now
            self._notifier.alive()

    # What the service manager and the operator want.

    def _stop(self) -> None:
        if not self._stopping_since:
            self._stopping_since = time.monotonic()
            self._notifier.stopping()
            self._log.info("server draining")
            self._setting.listening.close_but()  # from now on clients are refused, not left waiting
            self._crew.drain()
        self._wake.set()

    async def _reload_when_told(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            if self._stopping_since:
                return
            self._notifier.reloading(monotonic_usec=time.monotonic_ns() // 1000)
            self._setting.reopen_log()
            self._crew.tell("reopen")
            before = self._setting.reload()
            if before is not None:
                await asyncio.gather(*(self._hand_over(slot, life) for slot, life in self._crew.lives()))
                self._setting.reloaded(before)
            self._announce()

    async def _hand_over(self, slot: Slot, life: Life) -> None:
        """A worker that is gone, or is killed for this, begins anew with the newest of everything."""
        try:
            passing.send(life.ends.passing, self._setting.listening)
            async with asyncio.timeout(self._patience.reload_within):
                await life.channel.ask("reload")
        except Gone:
            return
        except TimeoutError:
            self._log.warning("worker has not reloaded yet", worker=slot.number)
        except OSError:
            self._crew.kill(slot, life, "takes no listeners")

    async def _save_usage(self) -> None:
        """From when there is a worker to write; later, one being missed is told."""
        await self._any_ready.wait()
        every, log = self._patience.save_every, self._log
        await repeat(self._save, every=every, log=log, failing="what was sent not saved yet")

    async def _save(self) -> None:
        self._remember()
        await self._keeper.save(self._write)

    async def _write(self, counters: Counters) -> None:
        """Through a worker. Raises RelayError."""
        life = next(iter(self._crew.ready()), None)
        if life is None:
            raise Unavailable("no worker takes mail")
        try:
            refusal = await life.channel.ask("usage", [[*key, count] for key, count in counters.items()])
        except Gone:
            raise Unavailable("the worker that was to write has ended") from None
        if refusal is not None:
            raise from_values(refusal)


def _of_drain(code: int) -> int:
    """The server's exit code, of a worker's. One that was killed in its drain may have been sending what will be sent
    again; one that SIGTERM ended had not got so far as to listen for it.
    """
    if code == -signal.SIGTERM:
        return os.EX_OK
    return code if code >= 0 else os.EX_TEMPFAIL
