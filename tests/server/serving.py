"""A whole server in a process of its own, with a trusted listener and the simulator, for what its processes do.

Started by a fork of a process that has imported everything, so that it costs no more than its own start.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import smtplib
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from relay.cli import printing
from relay.errors import RelayError
from relay.mail.address import Pattern
from relay.registry.credential_changes import Adjust, unchanged
from relay.registry.store import Registry
from relay.server.patience import Patience
from relay.server.serve import serve
from tests.peers.ports import Reserved
from tests.peers.waiting import eventually
from tests.server.tables import write
from tests.system.relay_process import letter, merged, queue_id, signing_keys

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.server.serving"])

SENDER = "app@sender.example"


class Server:
    """Its ports are its own until `close`. environment: what the service manager says. has_bug: it meets an error of
    its own once mail is taken.
    """

    def __init__(self, directory: Path, *, workers: int, **tables: Any) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.process: ForkServerProcess | None = None
        self.environment: dict[str, str] = {}
        self.has_bug = False
        self._reserved = [Reserved() for _ in range(2)]
        self.port, self.http_port = (each.port for each in self._reserved)
        self._tables = merged(
            {
                "server": {"workers": workers},
                "submission": trusted(self.port),
                "route": [{"via": "simulator"}],
                "http": {"listen": f"127.0.0.1:{self.http_port}"},
            },
            tables,
        )
        self.spool.mkdir(mode=0o700)
        self.configure()

    def configure(self, **tables: Any) -> None:
        """relay.toml, changed."""
        self._tables = merged(self._tables, tables)
        write(self.config_path, self.spool, **self._tables)

    @property
    def config_path(self) -> Path:
        return self.directory / "relay.toml"

    def grant(self, adjust: Adjust = unchanged) -> None:
        """The trusted listeners' credential, and its domain."""

        async def change() -> None:
            registry = await Registry.open(self.spool, now=time.time)
            await registry.add_domain("sender.example", signing_keys())
            await registry.add_credential("local", senders=[Pattern.parse("*@sender.example")], adjust=adjust)
            await registry.close()

        asyncio.run(change())

    # Running.

    def launch(self, **patience: float) -> None:
        arguments = (self.config_path, self.directory / "output", self.environment, patience, self.has_bug)
        self.process = PROCESSES.Process(target=_serve, args=arguments)
        self.process.start()

    def start(self, **patience: float) -> None:
        self.launch(**patience)
        eventually(lambda: self.readiness() == "ready\n", what=f"the server is ready: {self.output}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def reload(self, **tables: Any) -> None:
        """Until every worker has."""
        before = len(self.lines("config reloaded"))
        self.configure(**tables)
        self.signal(signal.SIGHUP)
        workers = self._tables["server"]["workers"]
        self.logged("config reloaded", times=before + workers)

    def wait(self) -> int:
        assert self.process is not None
        self.process.join(30)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        if self.process is not None and self.process.is_alive():
            self.process.kill()
            self.process.join()
        for each in self._reserved:
            each.close()

    # What it says.

    @property
    def output(self) -> str:
        """What landed on the terminal: the log too."""
        path = self.directory / "output"
        return path.read_text() if path.exists() else ""

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in lines if event in ("", line["event"])]

    def logged(self, event: str, *, times: int = 1) -> dict[str, Any]:
        """Wait for it; the last of so many."""
        found = eventually(lambda: len(self.lines(event)) >= times and self.lines(event), what=f"{event} in the log")
        assert found
        return found[times - 1]

    def page(self, name: str, *, port: int = 0) -> str:
        url = f"http://127.0.0.1:{port or self.http_port}/{name}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as refused:
            with refused:
                return str(refused.read().decode())

    def readiness(self, *, port: int = 0) -> str:
        with suppress(OSError):
            return self.page("readyz", port=port)
        return ""

    def metric(self, name: str) -> float:
        lines = [line for line in self.page("metrics").splitlines() if line.startswith((name + "{", name + " "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    # What it is given.

    def client(self, port: int = 0) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", port or self.port, timeout=10)

    def send(self, *, port: int = 0, recipient: str = "delivered@simulator.test") -> str:
        """A message's id. Raises smtplib.SMTPDataError when it is refused."""
        with self.client(port) as client:
            client.ehlo()
            client.mail(SENDER)
            client.rcpt(recipient)
            code, reply = client.data(letter("hello", SENDER))
            if code != 250:
                raise smtplib.SMTPDataError(code, reply)
            return queue_id(reply)


def trusted(*ports: int) -> dict[str, Any]:
    """[[submission.trusted]]"""
    networks, credential = ["127.0.0.0/8"], "local"
    return {
        "trusted": [{"listen": f"127.0.0.1:{port}", "networks": networks, "credential": credential} for port in ports]
    }


def _serve(config: Path, output: Path, environment: dict[str, str], patience: dict[str, float], bug: bool) -> None:
    """As `relay serve` does, in a process that was forked for it."""
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)

    def ready() -> None:
        if bug:
            raise ZeroDivisionError("a bug")

    try:
        code = serve(config, environment=environment, ready=ready, patience=Patience(**patience))
    except RelayError as error:
        printing.error(error.text, remedy=error.remedy, exit_code=error.exit_code, as_json=False)
        code = error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
