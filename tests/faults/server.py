"""faults.server: a real server under test, known only by its program, its ports, its log and its commands.

It is configured, started, killed and asked as an operator would; nothing of its package is imported here.
"""

import asyncio
import json
import os
import signal
import ssl
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import processes
from tests.faults.clients import SENDER, Door
from tests.peers.certificates import Authority
from tests.peers.ports import Reserved

PROGRAM = (sys.executable, "-m", "relay")
HOST = "localhost"
READY_WITHIN = 60.0
END_WITHIN = 60.0
POLL = 0.02

_CONFIGURATION = """
[server]
hostname = "relay.faults.test"
spool = "{spool}"
workers = {workers}
drain = "10s"
[submission]
starttls = ["127.0.0.1:{ports[starttls]}"]
tls = []
[submission.limits]
{limits}
[[submission.trusted]]
listen = "127.0.0.1:{ports[trusted]}"
networks = ["127.0.0.0/8"]
credential = "app"
[[submission.trusted]]
listen = "127.0.0.1:{ports[once]}"
networks = ["127.0.0.0/8"]
credential = "once"
[tls]
certificate = "{certificate}"
key = "{key}"
[delivery.retry]
ladder = ["1s"]
jitter = 0
[delivery.timeouts]
connect = "10s"
greeting = "10s"
ehlo = "10s"
mail = "10s"
rcpt = "10s"
data = "10s"
block = "10s"
final = "10s"
[[route]]
via = "smtp://127.0.0.1:{ports[receiver]}"
security = "none"
[stream.once]
unknown_outcome = "end"
[http]
listen = "127.0.0.1:{ports[http]}"
[log]
file = "{log}"
"""
NO_LIMIT = "disk_free_share = 0"


class Failed(Exception):
    """The server did what it must not, or not what it must."""


@dataclass
class Server:
    """directory: config, log and certificate. spool: may lie on another file system. program: what is run."""

    directory: Path
    spool: Path
    workers: int
    limits: str = NO_LIMIT
    program: Sequence[str] = PROGRAM
    environment: Mapping[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None
    doors: Sequence[Door] = ()
    once: Door | None = None

    def __post_init__(self) -> None:
        self._reserved = {name: Reserved() for name in ("starttls", "trusted", "once", "http", "receiver")}
        self.ports = {name: each.port for name, each in self._reserved.items()}
        self._authority = Authority(self.directory)
        issued = self._authority.issue(HOST)
        self.config = self.directory / "relay.toml"
        self.log_path = self.directory / "relay.log"
        self.config.write_text(
            _CONFIGURATION.format(
                spool=self.spool,
                workers=self.workers,
                ports=self.ports,
                limits=self.limits,
                certificate=issued.certificate,
                key=issued.key,
                log=self.log_path,
            )
        )

    # Running.

    async def introduce(self) -> None:
        """Sender domain and credentials, by commands, once it has been started."""
        await self.command("domain", "add", SENDER.partition("@")[2])
        made = await self.command("credential", "add", "app", "--from", f"*@{SENDER.partition('@')[2]}")
        await self.command("credential", "add", "once", "--from", f"*@{SENDER.partition('@')[2]}", "--stream", "once")
        context = ssl.create_default_context(cafile=str(self._authority.root))
        trusted = Door(self.ports["trusted"])
        self.doors = (trusted, trusted, trusted, Door(self.ports["starttls"], context, made["login"], made["secret"]))
        self.once = Door(self.ports["once"])

    async def start(self) -> None:
        """Returns once it takes mail."""
        await self.launch()
        await self.until_ready()

    async def launch(self) -> None:
        with (self.directory / "output").open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.program,
                "--config",
                str(self.config),
                "serve",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
            )

    @property
    def has_ended(self) -> bool:
        """By itself, or because it was killed."""
        return self.process is not None and self.process.returncode is not None

    async def until_ready(self) -> None:
        async def ready() -> bool:
            if self.has_ended:
                raise Failed(f"it ended before it was ready: {self.output[-2000:]}")
            return (await asyncio.to_thread(self._page, "readyz")).startswith("ready")

        await eventually(ready, what="the server takes mail", within=READY_WITHIN)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def pids(self) -> list[int]:
        """The process that was started, and its workers."""
        return processes.tree(self.pid)

    def worker_pids(self) -> list[int]:
        """Those that have a shard: the children, or the only process."""
        first, *others = self.pids()
        return others or [first]

    def signal(self, number: signal.Signals, *pids: int) -> None:
        """To the process that was started, or to these."""
        for pid in pids or (self.pid,):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(END_WITHIN):
            return await self.process.wait()

    async def kill_all(self) -> None:
        """Every process of it. The one that would begin another is stopped first, or that one would be missed."""
        self.signal(signal.SIGSTOP)
        await eventually(self._is_stopped, what="the server is stopped", within=10)
        pids = self.pids()
        self.signal(signal.SIGKILL, *reversed(pids))
        await self.ended()
        await self.until_gone(pids)

    def freeze(self) -> list[int]:
        """Stop every process where it stands, and return them: what a system call under way still does, none of them
        hears of. The one that would begin another comes first.
        """
        pids = self.pids()
        self.signal(signal.SIGSTOP, *pids)
        return pids

    async def until_between_calls(self, pids: Sequence[int]) -> None:
        """Of those frozen: no system call is under way any more, in any thread."""

        async def are_all_stopped() -> bool:
            return all(state in ("T", "Z", "") for pid in pids for state in states_of_threads(pid))

        await eventually(are_all_stopped, what="system calls have returned", within=10)

    async def _is_stopped(self) -> bool:
        return state_of(self.pid) in ("T", "Z", "")

    async def until_gone(self, pids: Sequence[int], *, within: float = 30.0) -> None:
        async def gone() -> bool:
            return not any(is_running(pid) for pid in pids)

        await eventually(gone, what=f"processes {pids} end", within=within)

    async def stop(self) -> None:
        self.signal(signal.SIGTERM)
        code = await self.ended()
        if code != 0:
            raise Failed(f"SIGTERM: it ended with {code}: {self.output[-2000:]}")

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.signal(signal.SIGCONT, *self.pids())
            await self.kill_all()
        for each in self._reserved.values():
            each.close()

    # Asking.

    async def command(self, *words: str) -> Any:
        """What `relay WORDS --json` prints. Raises Failed."""
        code, output, error = await self.run(*words, "--json")
        if code != 0:
            raise Failed(f"relay {' '.join(words)} ended with {code}: {output}{error}")
        return json.loads(output)

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and error."""
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "--config", str(self.config), *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, error = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), error.decode()

    def _page(self, name: str) -> str:
        url = f"http://127.0.0.1:{self.ports['http']}/{name}"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as page:
            text: str = page.read().decode()
            return text
        return ""

    async def page(self, name: str) -> str:
        """What the page says, "" if it says that something is wrong or nothing."""
        return await asyncio.to_thread(self._page, name)

    @property
    def output(self) -> str:
        path = self.directory / "output"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def logged(self, event: str) -> int:
        """How often the log says so."""
        if not self.log_path.exists():
            return 0
        with self.log_path.open(encoding="utf-8") as lines:
            return sum(f'"event":"{event}"' in line for line in lines)


async def eventually(look: Any, *, what: str, within: float) -> None:
    """Until `look()` is true. Raises Failed."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    while not await look():
        if loop.time() > ends:
            raise Failed(f"not within {within:g} s: {what}")
        await asyncio.sleep(POLL)


def is_running(pid: int) -> bool:
    return state_of(pid) not in ("Z", "")


def state_of(pid: int) -> str:
    """proc(5): "T" for stopped, "Z" for a zombie; "" when there is none."""
    return _state(Path(f"/proc/{pid}"))


def states_of_threads(pid: int) -> list[str]:
    """Of each as `state_of`. A thread in a call that cannot be interrupted is not stopped before that returns."""
    try:
        return [_state(thread) for thread in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:
        return []


def _state(directory: Path) -> str:
    try:
        return (directory / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
