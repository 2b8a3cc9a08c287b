"""server.setting: what every process of this server was started with, and what SIGHUP makes of it.

The supervisor's copy is the newest: a worker that it starts later begins with what the last reload left. A reload
that cannot be carried out (a mistake in relay.toml or a file it names, a port in use) is logged with what to do, and
leaves everything as it was.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.config.load import load
from relay.config.models import Config
from relay.errors import ConfigError, RelayError
from relay.journal.site_log import SiteLog
from relay.log import Level, Log
from relay.server.directory import shards_on_disk
from relay.server.fixed import changed_in_vain, without_them
from relay.server.listeners import Listening
from relay.server.load_table import WorkerLoad
from relay.server.preflight import refuse_to_reload
from relay.server.session_table import SessionTable, WorkerSessions
from relay.spool.lock import Lock

MOST_WORKERS = 8


def site_log(spool: Path, *, now: Callable[[], float], log: Log) -> SiteLog:
    """A server's. spool: its directory. now: POSIX seconds."""
    return SiteLog(spool, now=now, incomplete=lambda why: log.warning("site log incomplete", error=why))


def workers_of(config: Config) -> int:
    """How many: "auto" is one per core that this process may use, at most 8."""
    if config.server.workers == "auto":
        return min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    return config.server.workers


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is given. slot: its number and its shard's. workers: in all. adopts: shards it drains besides."""

    slot: int
    workers: int
    adopts: tuple[int, ...]
    config: Config
    listening: Listening
    sessions: WorkerSessions
    load: WorkerLoad


@dataclass(slots=True)
class Setting:
    """config, listening: the newest that could be used. lock: the spool's."""

    config_path: Path
    environment: Mapping[str, str]
    config: Config
    listening: Listening
    workers: int
    sessions: SessionTable
    log: Log
    lock: Lock
    _in_vain: list[str] = field(default_factory=list)

    def place(self, slot: int) -> Place:
        return Place(
            slot=slot,
            workers=self.workers,
            adopts=adopted(self.config.server.spool, slot=slot, workers=self.workers),
            config=self.config,
            listening=self.listening,
            sessions=self.sessions.of_worker(slot),
            load=self.sessions.load_of(slot),
        )

    def site_log(self, *, now: Callable[[], float]) -> SiteLog:
        return site_log(self.config.server.spool, now=now, log=self.log)

    def reload(self) -> Listening | None:
        """The sockets there were before, for `reloaded`; None when nothing changes."""
        try:
            raw = load(self.config_path, environment=self.environment)
            refuse_to_reload(raw)
            config = without_them(self.config, raw)
            listening = self.listening.changed(config)
        except RelayError as error:
            self.log.error("config not reloaded", error=error.text, remedy=error.remedy)
            return None
        self._in_vain = changed_in_vain(self.config, raw)
        self.config = config
        before, self.listening = self.listening, listening
        self.log.set_level(Level.named(config.log.level))
        return before

    def reloaded(self, before: Listening) -> None:
        """Every worker has what `reload` made: nobody accepts any more where nobody should."""
        before.close_but(self.listening)
        for key in self._in_vain:
            self.log.warning("a changed key takes effect at the next start", key=key)

    def read_again(self, listening: Listening) -> tuple[Config, Listening]:
        """In a worker: what the supervisor has just read and opened. Raises ConfigError."""
        config = without_them(self.config, load(self.config_path, environment=self.environment))
        merged = self.listening.taking_over(listening)
        if not merged.fits(config):
            merged.close_but(self.listening)
            raise ConfigError(f"{self.config_path} changed while it was read", remedy="reload once more")
        self.config, self.listening = config, merged
        self.log.set_level(Level.named(config.log.level))
        return config, merged

    def reopen_log(self) -> None:
        """After logrotate, whatever else a reload may lead to."""
        try:
            self.log.output.reopen()
        except ConfigError as error:
            self.log.error("log goes on in the old file", error=error.text, remedy=error.remedy)


def adopted(directory: Path, *, slot: int, workers: int) -> tuple[int, ...]:
    """The shards that a larger number of workers has left to this one."""
    return tuple(number for number in shards_on_disk(directory) if number >= workers and number % workers == slot)
