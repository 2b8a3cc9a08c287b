"""server.forked: a worker that a supervisor has forked: its channel, its heartbeat, its end.

It says that it lives and what it counts once a second. Without a supervisor it drains within seconds. What ends it is
told to the log, and to the supervisor, for the command that began it all.
"""

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import uvloop

from relay.config.consistency import streams
from relay.errors import RelayError
from relay.log import route_standard_logging
from relay.metrics import Metrics
from relay.server import passing
from relay.server.carried import as_values
from relay.server.channel import Channel
from relay.server.ending import give_up_after, told
from relay.server.forking import Ends
from relay.server.patience import Patience
from relay.server.setting import Setting
from relay.server.steady import steady
from relay.server.switchboard import RemoteBoard
from relay.server.worker import Worker


def run_forked(setting: Setting, slot: int, ends: Ends, *, patience: Patience) -> int:
    """In the child. The exit code."""
    setting.lock.release()  # it is the supervisor's
    setting.log = setting.log.bind(worker=slot)
    route_standard_logging(setting.log)
    try:
        uvloop.run(_run(setting, slot, ends, patience))
    except RelayError as error:  # told already
        return error.exit_code
    except BaseException as error:  # noqa: BLE001 - of the loop itself; nobody above would tell the log
        return told(error, setting.log).exit_code
    finally:
        setting.log.output.flush()
    return os.EX_OK


async def _run(setting: Setting, slot: int, ends: Ends, patience: Patience) -> None:
    """Raises RelayError."""
    tasks = asyncio.TaskGroup()
    member = Member(setting, slot, ends, patience, tasks)
    try:
        async with tasks:
            await member.run()
    except BaseExceptionGroup as error:
        ended = told(error, setting.log)
        await member.confess(ended)
        raise ended from None


class Member:
    """The worker, and what goes between it and the supervisor."""

    def __init__(self, setting: Setting, slot: int, ends: Ends, patience: Patience, tasks: asyncio.TaskGroup) -> None:
        self._setting = setting
        self._slot = slot
        self._ends = ends
        self._patience = patience
        self._tasks = tasks
        self._log = setting.log
        self._metrics = Metrics(streams=streams(setting.config))
        self._channel = Channel(self._answer, tasks)
        self._board = RemoteBoard(self._channel, steady=steady(time.time, monotonic=time.monotonic))
        self._made: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Raises RelayError, or an ExceptionGroup of all that ended it."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._channel, sock=self._ends.tie)
        worker = self._worker()
        self._made.set_result(worker)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        beside = [self._tasks.create_task(work) for work in (self._beat(), self._notice_the_end(worker))]
        await worker.run()
        for task in beside:
            task.cancel()
        self._channel.tell("snapshot", self._metrics.snapshot())  # nothing that it counted is lost
        self._channel.close()

    def _worker(self) -> Worker:
        return Worker(
            self._setting.place(self._slot),
            board=self._board,
            metrics=self._metrics,
            log=self._log,
            ready=lambda: self._channel.tell("ready"),
        )

    async def confess(self, error: RelayError) -> None:
        """Why it ends."""
        if not self._channel.ended.is_set():
            self._channel.tell("failed", as_values(error))
            self._channel.close()
            await self._channel.ended.wait()

    async def _beat(self) -> None:
        while True:
            self._channel.tell("beat")
            self._channel.tell("snapshot", self._metrics.snapshot())
            await asyncio.sleep(self._patience.beat)

    async def _notice_the_end(self, worker: Worker) -> None:
        await self._channel.ended.wait()
        self._log.warning("supervisor is gone")
        worker.stop(within=self._patience.orphaned_drain)
        give_up_after(self._patience.orphaned_drain + self._patience.grace, self._log)  # nobody else would kill it

    async def _answer(self, verb: str, arguments: Sequence[Any]) -> Any:
        worker = await self._made
        match verb, arguments:
            case "snapshot", []:
                return await worker.counts()
            case "auth", [outcome, address, login]:
                worker.hear_of_login(outcome, address=address, login=login)
            case ("wanted" | "free" | "governed" | "breaker"), [site, *rest]:
                self._hear_of_site(worker, verb, site, rest)
            case "workers", [ready]:
                worker.hear_of_workers(ready)
            case "usage", [rows]:
                return await self._save_usage(worker, rows)
            case "reopen", []:
                self._setting.reopen_log()
            case "reload", []:
                await self._reload(worker)
            case _:
                raise ValueError(f"unknown question {verb!r}")
        return None

    def _hear_of_site(self, worker: Worker, verb: str, site: str, arguments: Sequence[Any]) -> None:
        match verb, arguments:
            case "wanted", []:
                worker.release_idle(site)
            case "free", []:
                worker.open_another(site)
            case "governed", [allowance, surplus]:
                self._board.hear(site, allowance, surplus)
            case "breaker", [told]:
                self._board.hear_of_breaker(site, told)
            case _:
                raise ValueError(f"unknown word of a site {verb!r}")

    async def _save_usage(self, worker: Worker, rows: Sequence[Sequence[Any]]) -> dict[str, Any] | None:
        """Why they were not saved."""
        try:
            await worker.save_usage({(name, window, start): count for name, window, start, count in rows})
        except RelayError as error:
            return as_values(error)
        return None

    async def _reload(self, worker: Worker) -> None:
        before = self._setting.listening
        try:
            config, listening = self._setting.read_again(passing.receive(self._ends.passing))
            await worker.reload(config, listening)
        except RelayError as error:
            self._log.error("config not reloaded", error=error.text, remedy=error.remedy)
            return
        before.close_but(listening)
