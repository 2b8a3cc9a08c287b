"""server.remembering: what sites have taught the governor, and their breakers, over a restart: `sites.json`.

It is beside the shards. Read before the first worker, written once a minute and at the end, and a moment after a
breaker has changed, whole and under another name first. It is worth having and no more: without it sites teach the same
again. A file that cannot be read is told and left out of account; one that cannot be written is told and tried again.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from relay.delivery.feedback import Change
from relay.delivery.machine_breakers import BreakerChange
from relay.delivery.taught import NOTHING, Noted, Taught
from relay.log import Log

FILE = "sites.json"
SOON = 0.5  # seconds; breakers that change together are written once


class Remembering:
    """before: as the last server left it."""

    def __init__(self, directory: Path, log: Log) -> None:
        self._path = directory / FILE
        self._log = log
        self.before = self._read()
        self._written = self.before

    def _read(self) -> Taught:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Taught)
        except FileNotFoundError:
            return NOTHING
        except (OSError, ValueError, msgspec.MsgspecError) as error:  # ValueError: no UTF-8
            self._log.warning("what sites taught is not known any more", file=str(self._path), error=str(error))
            return NOTHING

    def save(self, taught: Taught) -> None:
        """If there is anything, now or in the file."""
        if not taught and not self._written:
            return
        beside = self._path.with_suffix(".new")
        try:
            beside.touch(mode=0o600)
            beside.write_bytes(msgspec.json.encode(taught))
            beside.replace(self._path)
        except OSError as error:
            self._log.warning("what sites taught is not saved yet", file=str(self._path), error=str(error))
            return
        self._written = taught


class SavingBreakers:
    """A `Noted` beside `noted`: without it a crash within the minute would let mail bounce that a breaker held."""

    def __init__(self, noted: Noted, save: Callable[[], None]) -> None:
        self._noted = noted
        self._save = save
        self._due: asyncio.TimerHandle | None = None

    def __call__(self, site: str, change: Change | BreakerChange) -> None:
        self._noted(site, change)
        if isinstance(change, BreakerChange) and self._due is None:
            self._due = asyncio.get_running_loop().call_later(SOON, self._save_now)

    def _save_now(self) -> None:
        self._due = None
        self._save()
