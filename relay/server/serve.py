"""server.serve: `relay serve`: one worker in this process, or a supervisor with several.

Everything that can make a start unsafe or impossible is found here, before a socket is opened to clients, and ends
the start with an error that says what to do. `ready` is for the quick start, which sends its test message once mail
is taken.
"""

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from relay.config.consistency import streams
from relay.config.load import load
from relay.config.models import Config
from relay.errors import RelayError
from relay.log import Level, Log, Output, route_standard_logging
from relay.metrics import Metrics, merge, retired
from relay.server.channel import Channel
from relay.server.directory import shards_on_disk
from relay.server.listeners import Listening, open_all
from relay.server.machine import raise_file_limit
from relay.server.notify import Notifier, inherited_sockets
from relay.server.preflight import refuse_to_start
from relay.server.session_table import SessionTable
from relay.server.supervisor import BEAT, Supervisor
from relay.server.switchboard import LocalBoard, RemoteBoard, Switchboard
from relay.server.worker import ORPHANED_DRAIN, Place, Worker
from relay.spool import Lock
from relay.submission.limits import Rates

MOST_WORKERS = 8


def workers_of(config: Config) -> int:
    """ "auto" is one per core this process may use, at most 8."""
    if config.server.workers == "auto":
        return min(MOST_WORKERS, len(os.sched_getaffinity(0)))
    return config.server.workers


@dataclass(frozen=True, slots=True)
class Setting:
    """What every process of this server was started with."""

    config_path: Path
    config: Config
    listening: Listening
    workers: int
    sessions: SessionTable
    log: Log
    lock: Lock

    def place(self, slot: int) -> Place:
        on_disk = shards_on_disk(self.config.server.spool)
        return Place(
            slot=slot,
            workers=self.workers,
            adopts=tuple(number for number in on_disk if number >= self.workers and number % self.workers == slot),
            config_path=self.config_path,
            listening=self.listening,
            sessions=self.sessions.of_worker(slot),
        )


def serve(
    config_path: Path, *, environment: Mapping[str, str] = os.environ, ready: Callable[[], None] | None = None
) -> int:
    """The exit code. Raises RelayError for what keeps the server from starting."""
    config = load(config_path, environment=environment)
    refuse_to_start(config)
    lock = Lock(config.server.spool / "lock")
    raise_file_limit()
    log = Log(Output(config.log.file), now=time.time, level=Level.named(config.log.level))
    route_standard_logging(log)
    count = workers_of(config)
    listening = open_all(config, inherited_sockets(environment))
    setting = Setting(config_path, config, listening, count, SessionTable(workers=count), log, lock)
    notifier = Notifier(environment, log)
    gc.collect()
    gc.freeze()
    if count == 1:
        return _alone(setting, notifier, ready)
    return _supervised(setting, notifier, ready)


# One worker, no supervisor.


def _alone(setting: Setting, notifier: Notifier, ready: Callable[[], None] | None) -> int:
    try:
        uvloop.run(_run_alone(setting, notifier, ready))
    except BaseExceptionGroup as group:
        return _told(group, setting.log, 0)
    finally:
        setting.log.output.flush()
    return os.EX_OK


async def _run_alone(setting: Setting, notifier: Notifier, ready: Callable[[], None] | None) -> None:
    metrics = Metrics(streams=streams(setting.config))
    board = LocalBoard(now=time.time, own_counts=lambda: worker.counts(), rates=Rates())

    def is_ready() -> None:
        notifier.ready("1 worker")
        if ready is not None:
            ready()

    worker = Worker(setting.config, setting.place(0), board=board, metrics=metrics, log=setting.log, ready=is_ready)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        notifier.stopping()
        worker.stop()

    def reload() -> None:
        notifier.reloading(monotonic_usec=time.monotonic_ns() // 1000)
        worker.reload()
        notifier.ready("1 worker")

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    feeding = asyncio.create_task(_feed_watchdog(notifier))
    try:
        await worker.run()
    finally:
        feeding.cancel()


async def _feed_watchdog(notifier: Notifier) -> None:
    while notifier.watchdog:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog)


# Several.


def _supervised(setting: Setting, notifier: Notifier, ready: Callable[[], None] | None) -> int:
    metrics = Metrics(streams=streams(setting.config))
    switchboard = Switchboard(
        rates=Rates(),
        sessions=setting.sessions,
        merge=merge,
        retire=retired,
        own_counts=metrics.snapshot,
        now=time.time,
    )
    return Supervisor(
        worker_main=lambda slot, tie: _worker_main(setting, slot, tie),
        workers=setting.workers,
        switchboard=switchboard,
        notifier=notifier,
        log=setting.log,
        drain=setting.config.server.drain,
        reload=lambda: _can_be_read(setting),
        restarted=metrics.worker_restarted,
        ready=ready,
    ).run()


def _can_be_read(setting: Setting) -> bool:
    """Workers read it for themselves; a mistake is told once."""
    try:
        load(setting.config_path)
    except RelayError as error:
        setting.log.error("config not reloaded", error=error.text, remedy=error.remedy)
        return False
    return True


def _worker_main(setting: Setting, slot: int, tie: socket.socket) -> int:
    """In the child. What ends a worker is told to the log; its exit code tells the supervisor."""
    setting.lock.release()  # it is the supervisor's
    try:
        uvloop.run(_run_worker(setting, slot, tie))
    except RelayError as error:
        return _told(BaseExceptionGroup("", [error]), setting.log, slot)
    except BaseExceptionGroup as group:
        return _told(group, setting.log, slot)
    finally:
        setting.log.output.flush()
    return os.EX_OK


def _told(group: BaseExceptionGroup[BaseException], log: Log, slot: int) -> int:
    """The exit code: of the first error that is ours and known, else EX_SOFTWARE."""
    errors = list(_leaves(group))
    for error in errors:
        if isinstance(error, RelayError):
            log.error("worker cannot run", worker=slot, error=error.text, remedy=error.remedy)
        else:
            log.exception("worker failed", error, worker=slot)
    return next((error.exit_code for error in errors if isinstance(error, RelayError)), os.EX_SOFTWARE)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _run_worker(setting: Setting, slot: int, tie: socket.socket) -> None:
    metrics = Metrics(streams=streams(setting.config))
    worker: Worker | None = None

    async def answer(verb: str, arguments: Sequence[Any]) -> Any:
        match verb, arguments:
            case "snapshot", []:
                return await worker.counts() if worker is not None else metrics.snapshot()
            case "auth", [outcome, address, login] if worker is not None:
                worker.hear_of_login(outcome, address=address, login=login)
            case "wanted", [site] if worker is not None:
                worker.release_idle(site)
        return None

    async with asyncio.TaskGroup() as tasks:
        tie.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: Channel(answer, tasks), sock=tie)
        worker = Worker(
            setting.config,
            setting.place(slot),
            board=RemoteBoard(channel),
            metrics=metrics,
            log=setting.log,
            ready=lambda: channel.tell("ready"),
        )
        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        loop.add_signal_handler(
            signal.SIGINT, lambda: None
        )  # the terminal's ^C reaches us too; the supervisor says what to do
        loop.add_signal_handler(signal.SIGHUP, worker.reload)
        beating = tasks.create_task(_beat(channel, metrics))
        orphaned = tasks.create_task(_notice_the_end(channel, worker))
        await worker.run()
        beating.cancel()
        orphaned.cancel()
        channel.close()


async def _beat(channel: Channel, metrics: Metrics) -> None:
    while True:
        channel.tell("beat")
        channel.tell("snapshot", metrics.snapshot())
        await asyncio.sleep(BEAT)


async def _notice_the_end(channel: Channel, worker: Worker) -> None:
    """The supervisor is gone: a worker without one drains."""
    await channel.ended.wait()
    worker.stop(within=ORPHANED_DRAIN)
