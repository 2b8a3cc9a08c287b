"""A configuration and an empty spool, and `relay` to run commands on them as a person would."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from relay.cli import run
from relay.spool.spool import Spool

T = TypeVar("T")

CONFIG = """\
[server]
hostname = "relay.example.com"
spool = "spool"

[submission]
starttls = ["0.0.0.0:587"]
tls = ["0.0.0.0:465"]
{more}
[tls]
certificate = "tls/fullchain.pem"
key = "tls/privkey.pem"
"""


@dataclass(frozen=True)
class Answer:
    """What a command wrote and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Relay:
    """`relay("queue", "list")` runs a command on this configuration; `spool` is its spool's directory."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.config = directory / "relay.toml"
        self._capture = capture

    def configure(self, more: str = "") -> None:
        self.config.write_text(CONFIG.format(more=more))

    def __call__(self, *arguments: str) -> Answer:
        self._capture.readouterr()
        umask = os.umask(0o022)
        try:
            code = run(["--config", str(self.config), *arguments])
        finally:
            os.umask(umask)  # `spool backup` sets it for its process, which is this one here
        written = self._capture.readouterr()
        return Answer(code, written.out, written.err)

    def json(self, *arguments: str) -> Any:
        """The JSON of a command that succeeds."""
        answer = self(*arguments, "--json")
        assert answer.code == 0, answer.err
        return answer.json

    def in_shard(self, work: Callable[[Spool], Awaitable[T]], *, shard: int = 0, ago: float = 0.0) -> T:
        """Do something as the shard's owner, while no server is, so many seconds ago."""

        async def open_and_work() -> T:
            spool = await Spool.open(self.spool, shard=shard, now=lambda: time.time() - ago)
            try:
                return await work(spool)
            finally:
                await spool.close()

        return asyncio.run(open_and_work())


@pytest.fixture
def relay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Relay:
    made = Relay(tmp_path, capsys)
    made.spool.mkdir(mode=0o700)
    made.configure()
    return made
