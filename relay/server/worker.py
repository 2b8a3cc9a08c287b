"""server.worker: a complete relay in one process.

Builds every object once, in the order things depend on each other, and owns every task in one TaskGroup: the first
that fails ends the worker, and recovery starts anew. SIGTERM (or the supervisor's end) drains: no new connection,
transactions under way are finished, what is settled is committed, exit 0. SIGHUP reads relay.toml, the files beside
it, certificates and the registry again, and drops no session; a config that cannot be used is logged and leaves
everything as it was.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from relay.config.load import load
from relay.config.models import Config
from relay.delivery.destination import Destinations, literal_address
from relay.dkim import KeyRing
from relay.errors import RelayError, SpoolError
from relay.log import Level, Log
from relay.mail.message import Header
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.metrics import Metrics, Snapshot, merge, render
from relay.reception import Signing
from relay.registry import snapshot as registered
from relay.registry.credentials import Credential
from relay.registry.domains import DkimKey
from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions
from relay.registry.usage import Use
from relay.resolver import Resolver
from relay.server.bookkeeping import Bookkeeping
from relay.server.control import ControlServer
from relay.server.gauges import Gauges
from relay.server.guard import SharedGuard
from relay.server.http import Http
from relay.server.listeners import Listening
from relay.server.machine import disk_space
from relay.server.operations import Operations
from relay.server.plan import read_plan
from relay.server.session_table import WorkerSessions
from relay.server.shard import Common, Shard
from relay.server.surroundings import LOOK_EVERY, Surroundings
from relay.server.switchboard import Board
from relay.simulator import Simulator
from relay.smtpclient import TlsContexts
from relay.spool import Spool
from relay.submission.guessing import Guessing
from relay.submission.policy import check_header
from relay.submission.server import SubmissionServer
from relay.submission.services import Services

REFRESH_EVERY = 0.25  # a revocation works within a second
USE_EVERY = 60.0
DISK_EVERY = 1.0
ORPHANED_DRAIN = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is given. slot: its number and its shard's. workers: in all. adopts: shards it drains besides."""

    slot: int
    workers: int
    adopts: tuple[int, ...]
    config_path: Path
    listening: Listening
    sessions: WorkerSessions


class Worker:
    """`run()` ends when it has drained; `ready` is called once mail is taken."""

    def __init__(
        self, config: Config, place: Place, *, board: Board, metrics: Metrics, log: Log, ready: Callable[[], None]
    ) -> None:
        self._place = place
        self._board = board
        self._log = log
        self._ready = ready
        self._now = time.time
        self._simulator = Simulator()
        self._plan = read_plan(config, simulator_port=0)
        self._disk = disk_space(config.server.spool)
        self._stopping = asyncio.Event()
        self._drain_within = config.server.drain
        self._uses: list[Use] = []
        self._shards: list[Shard] = []
        self._metrics = metrics
        self._guard = SharedGuard(_guessing(config), board)
        self._is_ready = False

    def stop(self, *, within: float | None = None) -> None:
        """Drain, at most for so long (default: server.drain)."""
        self._drain_within = self._drain_within if within is None else within
        self._stopping.set()

    async def run(self) -> None:
        """Raises RelayError for what a restart does not cure."""
        async with AsyncExitStack() as opened:
            await self._open(opened)
            async with asyncio.TaskGroup() as tasks:
                await self._build(tasks)
                background = [tasks.create_task(work) for work in self._background()]
                await self._start()
                await self._stopping.wait()
                await self._drain()
                for task in background:
                    task.cancel()
                await asyncio.wait(background)
                await self._close()

    # Opening what is on disk.

    async def _open(self, opened: AsyncExitStack) -> None:
        directory = self._config.server.spool
        self._registry = await Registry.open(directory, now=self._now)
        opened.push_async_callback(self._registry.close)
        self._suppressions = await Suppressions.open(directory, now=self._now)
        opened.push_async_callback(self._suppressions.close)
        self._spools = []
        for number in (self._place.slot, *self._place.adopts):
            spool = await Spool.open(directory, shard=number, now=self._now, wait=True)
            opened.push_async_callback(spool.close)
            self._spools.append(spool)

    # Building.

    async def _build(self, tasks: asyncio.TaskGroup) -> None:
        config = self._config
        if any(route.via == "simulator" for route in config.route):
            await self._simulator.start()
        self._plan = read_plan(config, simulator_port=self._simulator.port)
        self._resolver = Resolver(config.dns, self._now)
        self._surroundings = Surroundings(lambda: self._config, self._resolver)
        self._keyring = KeyRing(_signing_keys(self._registry.snapshot()))
        common = self._common(tasks)
        share = max(1, config.delivery.connections // self._place.workers // len(self._spools))
        self._shards = [Shard(spool, common=common, share=share) for spool in self._spools]
        self._books = [await self._bookkeeping(shard) for shard in self._shards]
        self._controls = [self._control(shard, tasks) for shard in self._shards]
        self._submission = SubmissionServer(config, self._services(), tasks=tasks)
        self._gauges = Gauges(
            spools=self._spools,
            submission=self._submission,
            resolver=self._resolver,
            disk=lambda: self._disk,
            now=self._now,
        )
        self._metrics.read_from(self._gauges.sources())
        self._http = Http(not_ready=self.not_ready, metrics=self._page, token=_token(config))

    def _common(self, tasks: asyncio.TaskGroup) -> Common:
        source = random.Random()
        return Common(
            plan=lambda: self._plan,
            signing=Signing(self._keyring, now=self._now),
            authorize=self._authorize,
            suppressed=self._suppressed,
            destinations=Destinations(self._resolver, self._config.delivery, self._surroundings.machine, source),
            contexts=TlsContexts(monotonic=time.monotonic),
            limits=self._board,
            metrics=self._metrics,
            log=self._log,
            now=self._now,
            random=source,
            tasks=tasks,
        )

    def _services(self) -> Services:
        own = self._shards[0]
        return Services(
            receiver=own.reception,
            snapshot=self._registry.snapshot,
            last_login_from=self._registry.last_login_from,
            record_use=self._uses.append,
            suppressed=self._suppressed,
            literal_allowed=self._literal_allowed,
            disk_ok=lambda: not self._disk.is_low(self._config.submission.limits),
            new_id=own.spool.next_id,
            incoming=own.spool.incoming,
            journal_rejection=self._books[0].refused,
            sessions=self._place.sessions,
            limiter=self._board,
            guard=self._guard,
            facts=self._metrics,
            log=self._log,
            now=self._now,
        )

    async def _bookkeeping(self, shard: Shard) -> Bookkeeping:
        return await Bookkeeping.open(
            self._directory(shard),
            shard.spool,
            suppressions=self._suppressions,
            retention_days=lambda: self._config.journal.retention_days,
            now=self._now,
            log=self._log,
        )

    def _directory(self, shard: Shard) -> Path:
        return self._config.server.spool / f"shard-{shard.spool.shard}"

    def _control(self, shard: Shard, tasks: asyncio.TaskGroup) -> ControlServer:
        operations = Operations(shard, now=self._now)
        return ControlServer(self._directory(shard), operations.answer, tasks=tasks, log=self._log)

    # Running.

    async def _start(self) -> None:
        """Commands first, then delivery of what is owed, then new mail, then the word that all is well."""
        for control in self._controls:
            await control.start()
        await self._submission.start(self._place.listening)
        await self._http.start(self._place.listening.http)
        self._is_ready = True
        self._log.info("worker ready", worker=self._place.slot, shards=[shard.spool.shard for shard in self._shards])
        self._ready()

    def _background(self) -> list[Coroutine[None, None, None]]:
        """What runs until the drain is over."""
        works = [self._refresh(), self._flush_use(), self._watch_disk(), self._look_around()]
        for shard, books in zip(self._shards, self._books, strict=True):
            works += [shard.scheduler.run(), *books.works(), _end_when_broken(shard.spool)]
        return works

    async def _drain(self) -> None:
        self._log.info("worker draining", worker=self._place.slot)
        await self._submission.drain(seconds=self._drain_within)
        await asyncio.gather(*(shard.drain(seconds=self._drain_within) for shard in self._shards))

    async def _close(self) -> None:
        """What the background works on is closed after it has ended: a journal that is closed takes no events."""
        for control in self._controls:
            await control.close()
        for books in self._books:
            await books.close()
        await self._http.close()
        await self._registry.record_use(self._uses)
        await self._simulator.close()
        self._log.info("worker drained", worker=self._place.slot)

    async def _refresh(self) -> None:
        while True:
            if await self._registry.refresh():
                self._keyring.replace(_signing_keys(self._registry.snapshot()))
                self._submission.credentials_changed()
            await asyncio.sleep(REFRESH_EVERY)

    async def _flush_use(self) -> None:
        while True:
            await asyncio.sleep(USE_EVERY)
            uses, self._uses[:] = list(self._uses), []
            await self._registry.record_use(uses)

    async def _watch_disk(self) -> None:
        while True:
            was_low = self._disk.is_low(self._config.submission.limits)
            self._disk = disk_space(self._config.server.spool)
            if self._disk.is_low(self._config.submission.limits) is not was_low:
                self._log.warning("disk space low" if not was_low else "disk space enough again", free=self._disk.free)
            await asyncio.sleep(DISK_EVERY)

    async def _look_around(self) -> None:
        while True:
            await self._surroundings.look()
            await asyncio.sleep(LOOK_EVERY)

    def reload(self) -> None:
        """SIGHUP. What cannot be changed while running is logged and waits for a restart."""
        try:
            config = load(self._place.config_path)
            plan = read_plan(config, simulator_port=self._simulator.port)
            self._submission.reload(config)
        except RelayError as error:
            self._log.error("config not reloaded", error=error.text, remedy=error.remedy)
            return
        for name in _fixed(self._config, config):
            self._log.warning("a changed key takes effect at the next start", key=name)
        self._plan = plan
        for shard in self._shards:
            shard.reconfigure()
        self._log.output.reopen()
        self._log.set_level(Level.named(config.log.level))
        self._log.info("config reloaded", worker=self._place.slot)

    # What the supervisor tells.

    def hear_of_login(self, outcome: str, *, address: str, login: str) -> None:
        """At another worker."""
        self._guard.hear(outcome, address=address, login=login, now=self._now())

    def release_idle(self, site: str) -> None:
        """Another worker waits for a connection to it."""
        for shard in self._shards:
            shard.couriers.release_idle(site)

    # What sessions and reception ask.

    @property
    def _config(self) -> Config:
        return self._plan.config

    def _authorize(self, credential: Credential, header: Header) -> Reply | None:
        snapshot = self._registry.snapshot()
        return check_header(credential, header, lambda domain: _signs(snapshot, domain))

    def _suppressed(self, recipient: str, credential: Credential) -> Suppression | None:
        scopes = ("all", f"credential:{credential.name}/{credential.stream}")
        return next(iter(self._suppressions.lookup((recipient,), scopes=scopes).values()), None)

    def _literal_allowed(self, domain: str) -> bool:
        address = literal_address(domain)
        return any(address.version == each.version and address in each for each in self._config.delivery.allow_networks)

    def not_ready(self) -> Sequence[str]:
        """Why mail is not taken now."""
        reasons = []
        if not self._is_ready:
            reasons.append("starting")
        if self._stopping.is_set():
            reasons.append("draining")
        if self._disk.is_low(self._config.submission.limits):
            reasons.append(f"too little room: {self._disk.free} octets free")
        return reasons

    async def counts(self) -> Snapshot:
        """This worker's, for a page that somebody waits for."""
        if self._is_ready:
            await self._gauges.refresh()
        return self._metrics.snapshot()

    async def _page(self) -> bytes:
        return render(merge(await self._board.counts()))


async def _end_when_broken(spool: Spool) -> None:
    """A shard whose disk failed is cured by nothing but a new start."""
    await spool.broken.wait()
    raise spool.failure or SpoolError("the shard is broken")


def _guessing(config: Config) -> Guessing:
    limits = config.submission.limits
    return Guessing(failures=limits.auth_failures, window=limits.auth_window)


def _signing_keys(snapshot: registered.Snapshot) -> list[DkimKey]:
    return [key for domain in snapshot.domains.values() for key in domain.signing_keys]


def _signs(snapshot: registered.Snapshot, domain: str) -> bool:
    known = snapshot.domains.get(domain)
    return known is not None and bool(known.signing_keys)


def _token(config: Config) -> str:
    return config.http.token_file.read_text(encoding="ascii").strip() if config.http.token_file else ""


def _fixed(old: Config, new: Config) -> list[str]:
    """Keys that changed and are read at the start only."""
    pairs = {
        "server.spool": (old.server.spool, new.server.spool),
        "server.workers": (old.server.workers, new.server.workers),
        "submission listeners": (_listens(old), _listens(new)),
        "dns": (old.dns, new.dns),
        "http": (old.http, new.http),
        "delivery.window": (old.delivery.window, new.delivery.window),
        "delivery.connections": (old.delivery.connections, new.delivery.connections),
        "log.file": (old.log.file, new.log.file),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


def _listens(config: Config) -> tuple[tuple[str, ...], ...]:
    submission = config.submission
    return submission.starttls, submission.tls, tuple(each.listen for each in submission.trusted)
