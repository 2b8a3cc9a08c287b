"""server.rates_keeper: the hour's and the day's limits of credentials, kept over a restart.

What each credential has sent is in the memory of one process: the supervisor, or the only worker. It is read from
registry.db before a worker starts, written about once a minute, and at the end; a crash forgives at most a minute.
The supervisor may have no database open when it forks, so it reads before the first fork, has a worker write while
workers run, and writes for itself when the last one has ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from relay.errors import RelayError, SpoolFull
from relay.log import Log
from relay.registry.store import Registry
from relay.registry.usage import UsageKey
from relay.submission.limits import Rates

T = TypeVar("T")
Counters = dict[UsageKey, int]


class RatesKeeper:
    """`rates` is what is kept. now: POSIX seconds."""

    def __init__(self, rates: Rates, *, now: Callable[[], float]) -> None:
        self.rates = rates
        self._now = now
        self._saved_until = 0.0

    @classmethod
    def load(cls, directory: Path, *, now: Callable[[], float], log: Log) -> "RatesKeeper":
        """Runs an event loop of its own. Raises RelayError; a full disk forgives what was sent."""
        rates = Rates()
        try:
            rates.restore(asyncio.run(_with_registry(directory, now, Registry.load_usage)))
        except SpoolFull as error:
            log.error("what was sent cannot be read", error=error.text, remedy=error.remedy)
        return cls(rates, now=now)

    async def save(self, write: Callable[[Counters], Awaitable[None]]) -> None:
        """Has `write` keep what may have changed since the last time; what it raises leaves that to the next."""
        began = self._now()
        counters = self.rates.counters(since=self._saved_until)
        if counters:
            await write(counters)
        self._saved_until = began

    def save_at_the_end(self, directory: Path, log: Log) -> None:
        """Runs an event loop of its own; when it fails, a minute is forgiven, and the log says so."""

        async def save(registry: Registry) -> None:
            await self.save(registry.save_usage)

        try:
            asyncio.run(_with_registry(directory, self._now, save))
        except RelayError as error:
            log.error("what was sent is not saved", error=error.text, remedy=error.remedy)


async def _with_registry(directory: Path, now: Callable[[], float], work: Callable[[Registry], Awaitable[T]]) -> T:
    registry = await Registry.open(directory, now=now)
    try:
        return await work(registry)
    finally:
        await registry.close()
