"""A process that runs the real Supervisor with workers that do as a script says, instead of mail.

`run(DIRECTORY, ENVIRONMENT)` is the whole of it. DIRECTORY has
relay.toml and script.json: {"lives": {"0": [LIFE, ...], "1": [...]}, "patience": {...}, "forks": [...]}.
The nth worker in a place lives its nth LIFE (the last one again from then on):

    "work"           ready, beats, drains at SIGTERM
    "start"          beats and is never ready
    "sleep"          has not begun, and does not listen for SIGTERM yet
    "hang"           ready, then says nothing more
    "stubborn"       works and ignores SIGTERM
    "die:CODE"       ends at once with this exit code, or killed by this signal if it is negative
    "refuse:CODE"    tells an error with this exit code, and ends with it
    "weary:CODE"     works, and ends its drain with this exit code

forks: errno of each fork that is to fail, 0 for one that is not. What a worker meets is written as lines of
DIRECTORY/worker-N.jsonl: {"what": "reloaded", "listens": [...]}, {"what": "usage", ...}, {"what": "orphaned"}, ...
"""

import asyncio
import errno
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relay.config.load import load
from relay.errors import RelayError
from relay.log import Log, Output
from relay.metrics import Metrics, merge, retired
from relay.server import passing
from relay.server.carried import as_values
from relay.server.channel import Channel
from relay.server.forking import Ends
from relay.server.listeners import open_all
from relay.server.notify import Notifier
from relay.server.patience import Patience
from relay.server.rates_keeper import RatesKeeper
from relay.server.session_table import SessionTable
from relay.server.setting import Setting
from relay.server.supervisor import Supervisor
from relay.server.switchboard import Switchboard
from relay.spool.lock import Lock
from relay.submission.limits import Rates
from relay.submission.services import Limits


class Scripted:
    """One worker."""

    def __init__(self, directory: Path, slot: int, ends: Ends, life: str, beat: float) -> None:
        self._path = directory / f"worker-{slot}.jsonl"
        self._slot = slot
        self._ends = ends
        self._life, _, code = life.partition(":")
        self._code = int(code or 0)
        self._beat = beat

    def meet(self, what: str, **facts: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"what": what, "pid": os.getpid(), **facts}) + "\n")

    def run(self) -> int:
        if self._life == "die":
            if self._code < 0:
                os.kill(os.getpid(), -self._code)
            return self._code
        if self._life == "sleep":
            self.meet("began")
            signal.pause()
        asyncio.run(self._run())
        return self._code

    async def _run(self) -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            channel = Channel(self._answer, tasks)
            if self._life == "stubborn":
                loop.add_signal_handler(signal.SIGTERM, lambda: self.meet("ignored"))
            else:
                loop.add_signal_handler(signal.SIGTERM, stopped.set)
            await loop.create_unix_connection(lambda: channel, sock=self._ends.tie)
            self.meet("began", descriptors=_sockets())
            ending = [tasks.create_task(self._beat_on(channel)), tasks.create_task(self._notice(channel, stopped))]
            if self._life in ("work", "hang", "stubborn", "weary"):
                channel.tell("ready")
            if self._life == "refuse":
                refusal = RelayError("this worker cannot run", remedy="do something")
                refusal.exit_code = self._code
                channel.tell("failed", as_values(refusal))
            if self._life != "refuse":
                await stopped.wait()
            self.meet("ended")
            for task in ending:
                task.cancel()
            channel.close()

    async def _beat_on(self, channel: Channel) -> None:
        while self._life != "hang":
            channel.tell("beat")
            await asyncio.sleep(self._beat)

    async def _notice(self, channel: Channel, stopped: asyncio.Event) -> None:
        await channel.ended.wait()
        self.meet("orphaned")
        stopped.set()

    async def _answer(self, verb: str, arguments: Sequence[Any]) -> Any:
        if verb == "reload":
            received = passing.receive(self._ends.passing)
            self.meet("reloaded", listens=[each.listen for each in received.all])
            received.close_but()
        elif verb == "snapshot":
            return Metrics(streams=()).snapshot()
        else:
            self.meet(verb, arguments=list(arguments))
        return None


def _sockets() -> int:
    """How many sockets this process has."""
    return sum(stat.S_ISSOCK(os.fstat(int(path.name)).st_mode) for path in _descriptors())


def _descriptors() -> list[Path]:
    """Without the one that lists them."""
    found = list(Path("/proc/self/fd").iterdir())
    return [path for path in found if path.exists()]


def main(directory: Path) -> int:
    script = json.loads((directory / "script.json").read_text())
    lives = {int(slot): list(words) for slot, words in script["lives"].items()}
    patience = Patience(**script.get("patience", {}))
    config = load(directory / "relay.toml")
    log = Log(Output(directory / "relay.log"), now=time.time)
    rates = Rates()
    rates.take("shop", Limits(day=10), now=time.time())
    setting = Setting(
        config_path=directory / "relay.toml",
        environment=os.environ,
        config=config,
        listening=open_all(config),
        workers=len(lives),
        sessions=SessionTable(workers=len(lives)),
        log=log,
        lock=Lock(directory / "lock"),
    )
    failing = script.get("forks", [])

    def fork() -> int:
        number = failing.pop(0) if failing else 0
        if number:
            raise OSError(number, errno.errorcode[number])
        return os.fork()

    def worker_main(slot: int, ends: Ends) -> int:
        begun = directory / f"lives-{slot}"
        count = len(begun.read_text()) if begun.exists() else 0
        begun.write_text("x" * (count + 1))
        life = lives[slot][min(count, len(lives[slot]) - 1)]
        return Scripted(directory, slot, ends, life, patience.beat).run()

    metrics = Metrics(streams=())
    switchboard = Switchboard(
        rates=rates,
        sessions=setting.sessions,
        merge=merge,
        retire=retired,
        own_counts=metrics.snapshot,
        now=time.time,
        monotonic=time.monotonic,
        noted=lambda site, change: None,
    )
    supervisor = Supervisor(
        setting,
        worker_main=worker_main,
        switchboard=switchboard,
        keeper=RatesKeeper(rates, now=time.time),
        remember=lambda: None,
        notifier=Notifier(os.environ, log),
        restarted=metrics.worker_restarted,
        ready=lambda: log.info("told that all are ready"),
        patience=patience,
        fork=fork,
    )
    try:
        return supervisor.run()
    except RelayError as error:
        log.error("the command ends", error=error.text, remedy=error.remedy)
        return error.exit_code
    finally:
        log.output.flush()


def run(directory: Path, environment: dict[str, str]) -> None:
    """What lands on the terminal goes to DIRECTORY/output."""
    output = os.open(directory / "output", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.environ.update(environment)
    code = main(directory)
    sys.stderr.flush()
    os._exit(code)
