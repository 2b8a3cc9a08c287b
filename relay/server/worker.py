"""server.worker: a complete relay in one process.

Opens what is on disk, has every object built, and owns every task in one TaskGroup: the first that fails ends the
worker, and recovery starts anew. SIGTERM (or the supervisor's end) drains: no new connection, transactions under way
are finished, what is settled is committed. A reload drops no session; a config that cannot be used leaves everything
as it was.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from relay.config.models import Config
from relay.log import Log
from relay.metrics import Metrics, Snapshot, merge, render
from relay.server.building import Building, Parts, ready_simulator
from relay.server.guard import SharedGuard
from relay.server.http import Http
from relay.server.listeners import Listening
from relay.server.plan import Current, read_plan
from relay.server.rates_keeper import Counters
from relay.server.repeating import attempt
from relay.server.setting import Place
from relay.server.stores import StoppedEarly, Stores, open_stores
from relay.server.switchboard import Board
from relay.server.upkeep import works
from relay.submission.guessing import Guessing


class Worker:
    """`run()` ends when it has drained; `ready` is called once mail is taken. Made inside the event loop it runs in."""

    def __init__(self, place: Place, *, board: Board, metrics: Metrics, log: Log, ready: Callable[[], None]) -> None:
        """Raises ConfigError, PermissionRefused."""
        self._place = place
        self._current = Current(read_plan(place.config, simulator_port=0))
        self._listening = place.listening
        self._board = board
        self._metrics = metrics
        self._log = log
        self._ready = ready
        self._now = time.time
        self._guard = SharedGuard(_guessing(place.config), board)
        self._http = Http(not_ready=self.not_ready, metrics=self._page, token=self._current.plan.token)
        self._stores: asyncio.Future[Stores] = asyncio.get_running_loop().create_future()
        self._started: asyncio.Future[Parts] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._drain_within: float | None = None
        self._ready_workers = 0 if place.workers > 1 else 1

    async def run(self) -> None:
        """Raises RelayError, or an ExceptionGroup of all that ended it."""
        try:
            async with AsyncExitStack() as opened:
                stores = await self._open(opened)
                self._stores.set_result(stores)
                await self._work(stores)
        except StoppedEarly:
            self._log.info("worker stopped before it was ready")
        finally:
            for awaited in (self._stores, self._started):
                awaited.cancel()  # nothing that waits for them will come

    async def _open(self, opened: AsyncExitStack) -> Stores:
        shards = (self._place.slot, *self._place.adopts)
        directory = self._place.config.server.spool
        return await open_stores(directory, shards, opened, stopping=self._stopping, now=self._now, log=self._log)

    async def _work(self, stores: Stores) -> None:
        async with asyncio.TaskGroup() as tasks:
            parts = await self._building(stores, tasks).parts()
            self._metrics.read_from(parts.gauges.sources())
            self._metrics.read_from(parts.our_addresses.gauges())
            beside = [tasks.create_task(work) for work in works(stores, parts, log=self._log)]
            await self._start(parts)
            await self._stopping.wait()
            await self._drain(parts)
            for task in beside:
                task.cancel()

    def _building(self, stores: Stores, tasks: asyncio.TaskGroup) -> Building:
        return Building(
            self._current,
            self._place,
            stores,
            board=self._board,
            guard=self._guard,
            metrics=self._metrics,
            log=self._log,
            now=self._now,
            tasks=tasks,
        )

    async def _start(self, parts: Parts) -> None:
        """Commands and delivery of what is owed first, then new mail, then the word that all is well."""
        for holding in parts.holdings:
            await holding.start()
        await parts.submission.start(self._listening)
        await self._http.start(self._listening.http)
        self._started.set_result(parts)
        self._log.info("worker ready", shards=[holding.spool.shard for holding in parts.holdings])
        self._ready()

    async def _drain(self, parts: Parts) -> None:
        seconds = self._current.config.server.drain if self._drain_within is None else self._drain_within
        self._log.info("worker draining")
        await parts.submission.drain(seconds=seconds)
        await asyncio.gather(*(holding.drain(seconds=seconds) for holding in parts.holdings))
        for holding in parts.holdings:
            await holding.close()
        await self._http.close()
        await attempt(parts.uses.flush, log=self._log, failing="last uses not saved")
        await parts.simulator.close()
        self._log.info("worker drained")

    # What it is told.

    def stop(self, *, within: float | None = None) -> None:
        """Drain, at most for so many seconds (default: server.drain)."""
        self._drain_within = within
        self._stopping.set()

    async def reload(self, config: Config, listening: Listening) -> None:
        """Once it has started, unless it drains. Raises RelayError: then everything is as it was."""
        parts = await self._started
        if self._stopping.is_set():
            return
        plan = read_plan(config, simulator_port=parts.simulator.port)
        parts.submission.reload(config)  # raises, or changes everything it has; nothing below raises
        self._current.plan = plan
        parts.our_addresses.look(holding.shard for holding in parts.held)  # before mail leaves from new ones
        await ready_simulator(parts.simulator, self._current)
        before, self._listening = self._listening, listening
        await parts.submission.listen(listening)
        await self._http.reload(None if listening.http is before.http else listening.http, token=plan.token)
        for holding in parts.held:
            holding.shard.reconfigure()
        parts.limiting.look_soon()
        self._log.info("config reloaded")

    def hear_of_login(self, outcome: str, *, address: str, login: str) -> None:
        """At another worker."""
        self._guard.hear(outcome, address=address, login=login, now=self._now())

    def hear_of_workers(self, ready: int) -> None:
        """So many of the machine's take mail."""
        self._ready_workers = ready

    def release_idle(self, site: str) -> None:
        """Another worker waits for a connection to it."""
        if self._started.done():
            for holding in self._started.result().held:
                holding.shard.couriers.release_idle(site)

    def open_another(self, site: str) -> None:
        """There is a connection to it for this worker, which was refused one."""
        if self._started.done():
            for holding in self._started.result().held:
                holding.shard.couriers.open_another(site)

    async def save_usage(self, counters: Counters) -> None:
        """What credentials have sent on this machine. Raises RelayError."""
        await (await self._stores).registry.save_usage(counters)

    # What it says.

    def not_ready(self) -> Sequence[str]:
        """Why mail is not taken now, as it should be."""
        if not self._started.done():
            return ["starting"]
        reasons = ["draining"] if self._stopping.is_set() else []
        disk = self._started.result().disk
        if disk.is_low:
            reasons.append(f"too little room: {disk.space}")
        if self._ready_workers < self._place.workers:
            reasons.append(f"{self._ready_workers} of {self._place.workers} workers take mail")
        return reasons

    async def counts(self) -> Snapshot:
        """This worker's, for a page that somebody waits for."""
        if self._started.done():
            await attempt(self._started.result().gauges.refresh, log=self._log, failing="queue not counted")
        return self._metrics.snapshot()

    async def _page(self) -> bytes:
        return render(merge(await self._board.counts() or [await self.counts()]))


def _guessing(config: Config) -> Guessing:
    limits = config.submission.limits
    return Guessing(failures=limits.auth_failures, window=limits.auth_window)
