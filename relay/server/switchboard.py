"""server.switchboard: the little that must be common to all workers of the machine.

A site's connections and pace, a credential's rates, who guesses at logins, and every worker's counts. The state lives
in one process: the supervisor, or the only worker. A worker sees a `Board` and cannot tell which. Each question is
answered exactly, not from a lease: what is asked for is rare (a new connection, a credential or site with a limit),
and a limit is then exact.

A worker that dies gives back its connections, and its last counts stay added, so that no counter goes back.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from relay.delivery.governor import LocalLimits
from relay.server.channel import Channel, Gone
from relay.server.session_table import SessionTable
from relay.submission.limits import Rates
from relay.submission.services import Limits

SNAPSHOT_WITHIN = 1.0

Counts = dict[str, Any]  # relay.metrics' snapshot


class Board(Protocol):
    """What a worker asks; delivery's SiteLimits and submission's Limiter are parts of it."""

    async def take(self, credential: str, limits: Limits, count: int) -> float: ...

    def give_back(self, credential: str, limits: Limits, count: int) -> None: ...

    async def acquire(self, site: str, *, maximum: int) -> bool: ...

    def release(self, site: str) -> None: ...

    async def pace(self, site: str, *, per_second: float) -> float: ...

    async def counts(self) -> list[Counts]:
        """Of all workers and the supervisor; [] when nobody can be asked any more."""

    def auth_failed(self, *, address: str, login: str) -> None:
        """For the other workers' guards."""

    def auth_succeeded(self, *, address: str, login: str) -> None:
        """For the other workers' guards."""


class LocalBoard:
    """Where one worker is the whole machine. `own_counts` is its metrics' snapshot."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        own_counts: Callable[[], Awaitable[Counts]],
        rates: Rates,
    ) -> None:
        self._now = now
        self._own_counts = own_counts
        self._rates = rates
        self._sites = LocalLimits(monotonic)

    async def take(self, credential: str, limits: Limits, count: int) -> float:
        return self._rates.take(credential, limits, now=self._now(), count=count)

    def give_back(self, credential: str, limits: Limits, count: int) -> None:
        self._rates.give_back(credential, limits, count=count)

    async def acquire(self, site: str, *, maximum: int) -> bool:
        return self._sites.try_acquire(site, maximum=maximum)

    def release(self, site: str) -> None:
        self._sites.release(site)

    async def pace(self, site: str, *, per_second: float) -> float:
        return self._sites.reserve(site, per_second=per_second)

    async def counts(self) -> list[Counts]:
        return [await self._own_counts()]

    def auth_failed(self, *, address: str, login: str) -> None:
        """There is nobody to tell."""

    def auth_succeeded(self, *, address: str, login: str) -> None:
        """There is nobody to tell."""


class RemoteBoard:
    """A worker's end: asks the supervisor over its channel.

    Without a supervisor a worker drains within seconds. It opens no connection then; what it has begun it finishes,
    and the limits are past by no more than that.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def take(self, credential: str, limits: Limits, count: int) -> float:
        return float(await self._ask(0.0, "take", credential, limits.second, limits.hour, limits.day, count))

    def give_back(self, credential: str, limits: Limits, count: int) -> None:
        self._channel.tell("give back", credential, limits.second, limits.hour, limits.day, count)

    async def acquire(self, site: str, *, maximum: int) -> bool:
        return bool(await self._ask(False, "acquire", site, maximum))  # noqa: FBT003  the answer without a supervisor

    def release(self, site: str) -> None:
        self._channel.tell("release", site)

    async def pace(self, site: str, *, per_second: float) -> float:
        return float(await self._ask(0.0, "pace", site, per_second))

    async def counts(self) -> list[Counts]:
        return list(await self._ask([], "counts"))

    def auth_failed(self, *, address: str, login: str) -> None:
        self._channel.tell("auth", "failed", address, login)

    def auth_succeeded(self, *, address: str, login: str) -> None:
        self._channel.tell("auth", "succeeded", address, login)

    async def _ask(self, without: Any, verb: str, *arguments: Any) -> Any:
        try:
            return await self._channel.ask(verb, *arguments)
        except Gone:
            return without


class Switchboard:
    """The supervisor's end. `merge` adds snapshots of counts up, `retire` leaves out what died with its worker."""

    def __init__(
        self,
        *,
        rates: Rates,
        sessions: SessionTable,
        merge: Callable[[Iterable[Counts]], Counts],
        retire: Callable[[Counts], Counts],
        own_counts: Callable[[], Counts],
        now: Callable[[], float],
        monotonic: Callable[[], float],
        snapshot_within: float = SNAPSHOT_WITHIN,
    ) -> None:
        self._rates = rates
        self._sessions = sessions
        self._snapshot_within = snapshot_within
        self._merge = merge
        self._retire = retire
        self._own_counts = own_counts
        self._now = now
        self._sites = LocalLimits(monotonic)
        self._held: dict[int, Counter[str]] = {}  # connections by worker and site
        self._channels: dict[int, Channel] = {}
        self._latest: dict[int, Counts] = {}
        self._departed: list[Counts] = []

    def joined(self, slot: int, channel: Channel) -> None:
        self._channels[slot] = channel

    def left(self, slot: int) -> None:
        """The worker is dead: what it held is free, what it counted stays counted."""
        self._channels.pop(slot, None)
        self._sessions.clear(slot)
        for site, count in self._held.pop(slot, Counter()).items():
            for _ in range(count):
                self._sites.release(site)
        latest = self._latest.pop(slot, None)
        if latest is not None:
            self._departed = [self._merge([*self._departed, self._retire(latest)])]

    async def answer(self, slot: int, verb: str, arguments: Sequence[Any]) -> Any:
        """What a worker asks or tells."""
        match verb, arguments:
            case "take", [credential, second, hour, day, count]:
                return self._rates.take(credential, Limits(second, hour, day), now=self._now(), count=count)
            case "give back", [credential, second, hour, day, count]:
                self._rates.give_back(credential, Limits(second, hour, day), count=count)
            case "acquire", [site, maximum]:
                return self._acquire(slot, site, maximum)
            case "release", [site]:
                self._release(slot, site)
            case "pace", [site, per_second]:
                return self._sites.reserve(site, per_second=per_second)
            case "auth", [_, _, _]:
                self._tell_others(slot, "auth", arguments)
            case "snapshot", [counts]:
                self._latest[slot] = counts
            case "counts", []:
                return await self._all_counts()
            case _:
                raise ValueError(f"unknown question {verb!r}")
        return None

    def _acquire(self, slot: int, site: str, maximum: int) -> bool:
        if not self._sites.try_acquire(site, maximum=maximum):
            self._tell_others(slot, "wanted", [site])
            return False
        self._held.setdefault(slot, Counter())[site] += 1
        return True

    def _release(self, slot: int, site: str) -> None:
        held = self._held.get(slot, Counter())
        if held[site] > 0:
            held.subtract((site,))
            self._sites.release(site)
        if not held[site]:
            del held[site]  # sites come and go, and the supervisor stays

    def _tell_others(self, slot: int, verb: str, arguments: Sequence[Any]) -> None:
        for other, channel in self._channels.items():
            if other != slot:
                channel.tell(verb, *arguments)

    async def _all_counts(self) -> list[Counts]:
        """Fresh ones of those that answer, the last known of those that do not, and of the dead."""
        await asyncio.gather(*(self._refresh(slot, channel) for slot, channel in list(self._channels.items())))
        return [self._own_counts(), *self._departed, *self._latest.values()]

    async def _refresh(self, slot: int, channel: Channel) -> None:
        try:
            async with asyncio.timeout(self._snapshot_within):
                counts = await channel.ask("snapshot")
        except (TimeoutError, Gone):
            return
        if slot in self._channels:
            self._latest[slot] = counts
