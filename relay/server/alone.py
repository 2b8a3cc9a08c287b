"""server.alone: one worker that is the whole server, in the process that the command began."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine

import uvloop

from relay.config.consistency import streams
from relay.delivery.telling import Telling
from relay.log import route_standard_logging
from relay.metrics import Metrics, Snapshot
from relay.server.ending import give_up_after, told
from relay.server.notify import Notifier
from relay.server.patience import Patience
from relay.server.rates_keeper import RatesKeeper
from relay.server.remembering import Remembering, SavingBreakers
from relay.server.repeating import attempt, repeat
from relay.server.setting import Setting
from relay.server.steady import steady
from relay.server.switchboard import LocalBoard
from relay.server.worker import Worker


def run_alone(
    setting: Setting,
    *,
    keeper: RatesKeeper,
    remembering: Remembering,
    notifier: Notifier,
    ready: Callable[[], None],
    patience: Patience,
) -> None:
    """Raises RelayError for whatever ended it but a signal."""
    setting.log = setting.log.bind(worker=0)
    route_standard_logging(setting.log)

    def alone() -> Alone:
        return Alone(setting, keeper=keeper, remembering=remembering, notifier=notifier, ready=ready, patience=patience)

    try:
        uvloop.run(_run(alone))
    except Exception as error:  # noqa: BLE001 - told to the log, and in short to the command
        raise told(error, setting.log) from None
    finally:
        setting.log.output.flush()


async def _run(make: "Callable[[], Alone]") -> None:
    async with asyncio.TaskGroup() as tasks:
        alone = make()
        alone.handle_signals()
        beside = [tasks.create_task(work) for work in alone.works()]
        await alone.run()
        for task in beside:
            task.cancel()


class Alone:
    """The worker, and what a supervisor would do for it."""

    def __init__(
        self,
        setting: Setting,
        *,
        keeper: RatesKeeper,
        remembering: Remembering,
        notifier: Notifier,
        ready: Callable[[], None],
        patience: Patience,
    ) -> None:
        """Raises ConfigError, PermissionRefused."""
        metrics = Metrics(
            streams=streams(setting.config),
            sources={"relay_workers": lambda: 1, "relay_breakers_open": lambda: self._board.open_breakers},
        )
        self._setting = setting
        self._keeper = keeper
        self._remembering = remembering
        self._notifier = notifier
        self._ready = ready
        self._patience = patience
        self._hangup = asyncio.Event()
        self._is_ready = self._is_stopping = False
        self._board = LocalBoard(
            now=time.time,
            monotonic=time.monotonic,
            steady=steady(time.time, monotonic=time.monotonic),
            own_counts=self._counts,
            rates=keeper.rates,
            noted=SavingBreakers(
                Telling(setting.log, setting.site_log(now=time.time), time.monotonic), self._remember
            ),
            before=remembering.before,
        )
        self._worker = Worker(
            setting.place(0), board=self._board, metrics=metrics, log=setting.log, ready=self._became_ready
        )

    async def run(self) -> None:
        try:
            await self._worker.run()
        finally:
            self._remember()

    def handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)

    def works(self) -> tuple[Coroutine[None, None, None], ...]:
        return (self._feed_the_watchdog(), self._reload_when_told(), self._save_usage())

    async def _counts(self) -> Snapshot:
        return await self._worker.counts()

    def _became_ready(self) -> None:
        self._is_ready = True
        self._announce()
        self._ready()

    def _announce(self) -> None:
        if self._is_ready:
            self._notifier.ready("1 worker")

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._notifier.stopping()
            self._worker.stop()
            give_up_after(self._setting.config.server.drain + self._patience.grace, self._setting.log)

    async def _feed_the_watchdog(self) -> None:
        while self._notifier.watchdog:
            self._notifier.alive()
            await asyncio.sleep(self._notifier.watchdog)

    async def _reload_when_told(self) -> None:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            if self._is_stopping:
                return
            self._notifier.reloading(monotonic_usec=time.monotonic_ns() // 1000)
            self._setting.reopen_log()
            await attempt(self._reload, log=self._setting.log, failing="config not reloaded")
            self._announce()

    async def _reload(self) -> None:
        """Raises RelayError."""
        before = self._setting.reload()
        if before is not None:
            await self._worker.reload(self._setting.config, self._setting.listening)
            self._setting.reloaded(before)

    async def _save_usage(self) -> None:
        every, log = self._patience.save_every, self._setting.log
        await repeat(self._save, every=every, log=log, failing="what was sent not saved yet")

    async def _save(self) -> None:
        self._remember()
        await self._keeper.save(self._worker.save_usage)

    def _remember(self) -> None:
        self._remembering.save(self._board.taught())
