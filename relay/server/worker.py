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
    """`run()` ends when it has drained. ready: called once mail is taken."""

    def __init__(self, config: Config, place: Place, *, board: Board, metrics: Metrics, log: Log) -> None:
        self._place = place
        self._board = board
        self._metrics = metrics
        self._log = log
        self._now = time.time
        self._plan = read_plan(config, simulator_port=place.simulator_port)
        self._disk = disk_space(config.server.spool)
        self._draining = asyncio.Event()
        self._drain_within = config.server.drain
        self._uses: list[Use] = []
        self._shards: list[Shard] = []
