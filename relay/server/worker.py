"""server.worker: a complete relay in one process.

Builds every object once, in the order things depend on each other, and owns every task in one TaskGroup: the first that fails
ends the worker, and recovery starts anew. SIGTERM (or the supervisor's end) drains: no new connection, transactions under way
are finished, what is settled is committed, exit 0. SIGHUP reads relay.toml, the files beside it, certificates and the registry
again, and drops no session; a config that cannot be used is logged and leaves everything as it was.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.config.load import load
from relay.config.models import Config
from relay.delivery.destination import Destinations
from relay.dkim import KeyRing
from relay.errors import RelayError
from relay.log import Log
from relay.mail.message import Header
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.metrics import Metrics
from relay.reception import Signing
from relay.registry import Registry, Suppressions
from relay.registry.credentials import Credential
from relay.registry.domains import KeyState
from relay.registry.usage import Use
from relay.resolver import Resolver
from relay.server.bookkeeping import Bookkeeping
from relay.server.control import ControlServer
from relay.server.facts import Facts
from relay.server.guard import SharedGuard
from relay.server.http import Http
from relay.server.listeners import Listening
from relay.server.machine import DiskSpace, disk_space
from relay.server.operations import Operations
from relay.server.plan import Plan, read_plan
from relay.server.session_table import WorkerSessions
from relay.server.shard import Common, Shard
from relay.server.surroundings import LOOK_EVERY, Surroundings
from relay.server.switchboard import Board
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
    """What a worker is given. slot: its number and its shard's. adopts: shards it drains besides. peers: workers in all."""

    slot: int
    workers: int
    adopts: tuple[int, ...]
    config_path: Path
    listening: Listening
    sessions: WorkerSessions
    simulator_port: int


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
        self._plan = read_plan(config, simulator_port=place.simulator_port)
        self._disk = disk_space(config.server.spool)
        self._stopping = asyncio.Event()
        self._drain_within = config.server.drain
        self._uses: list[Use] = []
        self._shards: list[Shard] = []
        self._facts = Facts(metrics)
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
                await self._start(tasks)
                self._is_ready = True
                self._ready()
                await self._stopping.wait()
                await self._drain()
                for task in background:
                    task.cancel()

    # Opening what is on disk.

    async def _open(self, opened: AsyncExitStack) -> None:
        directory = self._config.server.spool
        self._registry = await Registry.open(directory, now=self._now)
        opened.push_async_callback(self._registry.close)
        self._suppressions = await Suppressions.open(directory, now=self._now)
        opened.push_async_callback(self._suppressions.close)
        self._spools = []
        for number in (self._place.slot, *self._place.adopts):
            spool = await Spool.open(directory / f"shard-{number}", shard=number, now=self._now, wait=True)
            opened.push_async_callback(spool.close)
            self._spools.append(spool)

    # Building.

    async def _build(self, tasks: asyncio.TaskGroup) -> None:
        config = self._config
        self._resolver = Resolver(config.dns, self._now)
        self._surroundings = Surroundings(lambda: self._config, self._resolver)
        self._keyring = KeyRing(self._signing_keys())
        source = random.Random()
        common = Common(
            plan=lambda: self._plan,
            signing=Signing(self._keyring, now=self._now),
            authorize=self._authorize,
            suppressed=self._suppressed,
            destinations=Destinations(self._resolver, config.delivery, self._surroundings.machine, source),
            contexts=TlsContexts(monotonic=time.monotonic),
            limits=self._board,
            facts=self._facts,
            log=self._log,
            now=self._now,
            random=source,
            tasks=tasks,
        )
        share = max(2, config.delivery.connections // self._place.workers) // len(self._spools)
        self._shards = [Shard(spool, common=common, share=max(1, share)) for spool in self._spools]
        self._books = [self._bookkeeping(shard) for shard in self._shards]
        self._submission = SubmissionServer(config, self._services())
        self._http = Http(not_ready=self.not_ready, metrics=self._render, token=_token(config))

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
            journal_rejection=own.spool.journal,
            sessions=self._place.sessions,
            limiter=self._board,
            guard=self._guard,
            facts=self._facts,
            log=self._log,
            now=self._now,
        )

    def _bookkeeping(self, shard: Shard) -> Bookkeeping:
        return Bookkeeping(
            spool=shard.spool,
            journal=Journal(shard.spool.directory),
            suppressions=self._suppressions,
            retention_days=lambda: self._config.journal.retention_days,
            now=self._now,
            log=self._log,
        )

    # What sessions and reception ask.

    @property
    def _config(self) -> Config:
        return self._plan.config

    def _authorize(self, credential: Credential, header: Header) -> Reply | None:
        snapshot = self._registry.snapshot()
        return check_header(credential, header, lambda domain: _has_key(snapshot, domain))

    def _suppressed(self, recipient: str, credential: Credential) -> Suppression | None:
        scopes = ("all", f"credential:{credential.name}/{credential.stream}")
        return next(iter(self._suppressions.lookup((recipient,), scopes=scopes).values()), None)

    def _literal_allowed(self, domain: str) -> bool:
        address = literal_address(domain)
        return any(address.version == network.version and address in network for network in self._config.delivery.allow_networks)

    def not_ready(self) -> Sequence[str]:
        """Why mail is not taken now."""
        reasons = []
        if not self._is_ready:
            reasons.append("starting")
        if self._stopping.is_set():
            reasons.append("draining")
        if self._disk.is_low(self._config.submission.limits):
            reasons.append(f"disk: {self._disk.free} octets free")
        return reasons
