"""server.switchboard: the little that must be common to all workers of the machine.

A site's connections, pace and breakers, the rates of a credential and of a smarthost, who guesses at logins, and every
worker's counts. The state lives in one process: the supervisor, or the only worker. A worker sees a `Board` and cannot
tell which. Each question is answered exactly, not from a lease: what is asked for is rare (a new connection, a
credential or site with a limit), and a limit is then exact.

A worker that dies gives back its connections, and its last counts stay added, so that no counter goes back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec.structs import astuple

from relay.delivery.breaker import PROBE_WITHIN, Report, Scope
from relay.delivery.fair_order import Sharer
from relay.delivery.feedback import Allowance, Push
from relay.delivery.governor import Heard
from relay.delivery.known_breakers import HeardBreaker, KnownBreakers
from relay.delivery.machine_breakers import MachineBreakers, Told
from relay.delivery.machine_limits import LocalLimits, MachineLimits
from relay.delivery.pace import Pace
from relay.delivery.quota import Quota
from relay.delivery.taught import NOTHING, Noted, Taught
from relay.server.channel import Channel, Gone
from relay.server.session_table import SessionTable
from relay.submission.limits import Rates
from relay.submission.services import Limits

SNAPSHOT_WITHIN = 1.0

Counts = dict[str, Any]  # relay.metrics' snapshot


class Board(Protocol):
    """What a worker asks; delivery's SiteLimits and submission's Limiter are parts of it."""

    breakers: KnownBreakers

    async def take(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> float: ...

    def give_back(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> None: ...

    def follow(self, heard: Heard) -> None: ...

    async def acquire(self, site: str, *, maximum: int) -> bool: ...

    def opened(self, site: str) -> None: ...

    def release(self, site: str, *, opened: bool) -> None: ...

    async def pace(self, site: str, pace: Pace, *, count: int, sharer: Sharer) -> float: ...

    async def spend(self, quota: Quota, *, count: int) -> float:
        """Beside the credentials' rates, and so for the machine and over a restart. No credential is called as a quota
        is: its name has no space.
        """
        return await self.take(quota.counted_as, limits_of(quota), count)

    def refund(self, quota: Quota, *, count: int) -> None:
        self.give_back(quota.counted_as, limits_of(quota), count)

    async def used(self, prefix: str) -> dict[str, tuple[int, int]]: ...

    def taken(self, site: str, *, messages: int) -> None: ...

    async def pushed_back(self, site: str, push: Push) -> bool: ...

    def follow_breakers(self, heard: HeardBreaker) -> None: ...

    async def reported(self, front: str, report: Report) -> bool: ...

    async def probe(self, front: str, scopes: Sequence[Scope], *, urged: bool) -> float: ...

    async def counts(self) -> list[Counts]:
        """Of all workers and the supervisor; [] when nobody can be asked any more."""

    def auth_failed(self, *, address: str, login: str) -> None:
        """For the other workers' guards."""

    def auth_succeeded(self, *, address: str, login: str) -> None:
        """For the other workers' guards."""


def limits_of(quota: Quota) -> Limits:
    return Limits(second=0, hour=quota.per_hour, day=quota.per_day, first_time=0)


class LocalBoard(LocalLimits, Board):
    """Where one worker is the whole machine. `own_counts` is its metrics' snapshot. noted: each change of what a site
    may have, and of a breaker. before: what an earlier server was taught. now, steady: POSIX seconds; monotonic and
    steady never jump.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        steady: Callable[[], float],
        own_counts: Callable[[], Awaitable[Counts]],
        rates: Rates,
        noted: Noted,
        before: Taught = NOTHING,
    ) -> None:
        super().__init__(monotonic=monotonic, steady=steady, now=now, noted=noted, before=before)
        self._now = now
        self._own_counts = own_counts
        self._rates = rates

    async def take(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> float:
        return self._rates.take(credential, limits, now=self._now(), count=count, first_time=first_time)

    def give_back(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> None:
        self._rates.give_back(credential, limits, count=count, first_time=first_time)

    async def used(self, prefix: str) -> dict[str, tuple[int, int]]:
        return self._rates.used(prefix, now=self._now())

    async def counts(self) -> list[Counts]:
        return [await self._own_counts()]

    def auth_failed(self, *, address: str, login: str) -> None:
        """There is nobody to tell."""

    def auth_succeeded(self, *, address: str, login: str) -> None:
        """There is nobody to tell."""


class RemoteBoard(Board):
    """A worker's end: asks the supervisor over its channel.

    Without a supervisor a worker drains within seconds. It opens no connection then; what it has begun it finishes,
    and the limits are past by no more than that. steady: POSIX seconds that never jump.
    """

    def __init__(self, channel: Channel, *, steady: Callable[[], float]) -> None:
        self.breakers = KnownBreakers(steady)
        self._channel = channel
        self._followers: list[Heard] = []
        self._breaker_followers: list[HeardBreaker] = []

    async def take(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> float:
        return float(await self._ask(0.0, "take", credential, astuple(limits), count, first_time))

    def give_back(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> None:
        self._channel.tell("give back", credential, astuple(limits), count, first_time)

    async def used(self, prefix: str) -> dict[str, tuple[int, int]]:
        return {name: (hour, day) for name, (hour, day) in (await self._ask({}, "used", prefix)).items()}

    async def acquire(self, site: str, *, maximum: int) -> bool:
        return bool(await self._ask(False, "acquire", site, maximum))  # noqa: FBT003  the answer without a supervisor

    def follow(self, heard: Heard) -> None:
        self._followers.append(heard)

    def hear(self, site: str, allowance: Any, surplus: int) -> None:
        """The supervisor has told what a site may have."""
        told = msgspec.convert(allowance, Allowance)
        for heard in self._followers:
            surplus = heard(site, told, surplus)

    def follow_breakers(self, heard: HeardBreaker) -> None:
        self._breaker_followers.append(heard)

    def hear_of_breaker(self, front: str, values: Any) -> None:
        """The supervisor has told of one."""
        told = msgspec.convert(values, Told)
        self.breakers.hear(front, told)
        for heard in self._breaker_followers:
            heard(front, told)

    async def reported(self, front: str, report: Report) -> bool:
        return bool(await self._ask(False, "refused", front, msgspec.to_builtins(report)))  # noqa: FBT003  as above

    async def probe(self, front: str, scopes: Sequence[Scope], *, urged: bool) -> float:
        return float(await self._ask(PROBE_WITHIN, "probe", front, scopes, urged))

    def opened(self, site: str) -> None:
        self._channel.tell("opened", site)

    def release(self, site: str, *, opened: bool) -> None:
        self._channel.tell("release", site, opened)

    async def pace(self, site: str, pace: Pace, *, count: int, sharer: Sharer) -> float:
        return float(await self._ask(0.0, "pace", site, astuple(pace), count, sharer))

    def taken(self, site: str, *, messages: int) -> None:
        self._channel.tell("taken", site, messages)

    async def pushed_back(self, site: str, push: Push) -> bool:
        return bool(await self._ask(False, "pushed back", site, msgspec.to_builtins(push)))  # noqa: FBT003  as above

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
    """The supervisor's end. `merge` adds snapshots of counts up, `retire` leaves out what died with its worker. noted:
    each change of what a site may have, and of a breaker. before: what an earlier server was taught.
    """

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
        noted: Noted,
        before: Taught = NOTHING,
        snapshot_within: float = SNAPSHOT_WITHIN,
    ) -> None:
        self._rates = rates
        self._sessions = sessions
        self._snapshot_within = snapshot_within
        self._merge = merge
        self._retire = retire
        self._own_counts = own_counts
        self._now = now
        self._sites = MachineLimits(
            steady=monotonic,
            now=now,
            tell=self._tell_of_site,
            is_free=self._tell_of_place,
            noted=noted,
            before=before.limits,
            went=before.went,
        )
        self._breakers = MachineBreakers(
            steady=monotonic, now=now, tell=self._tell_of_breaker, noted=noted, before=before.breakers
        )
        self._connected: dict[int, Channel] = {}
        self._channels: dict[int, Channel] = {}
        self._latest: dict[int, Counts] = {}
        self._departed: list[Counts] = []

    def connected(self, slot: int, channel: Channel) -> None:
        """A worker has begun, and is told what it has to know before it has mail."""
        self._connected[slot] = channel
        for front, told in self._breakers.told():
            channel.tell("breaker", front, msgspec.to_builtins(told))

    def joined(self, slot: int, channel: Channel) -> None:
        """It takes mail."""
        self._channels[slot] = channel

    def left(self, slot: int) -> None:
        """The worker is dead: what it held is free, what it counted stays counted."""
        self._channels.pop(slot, None)
        self._connected.pop(slot, None)
        self._sessions.clear(slot)
        self._sites.left(slot)
        self._breakers.left(slot)
        latest = self._latest.pop(slot, None)
        if latest is not None:
            self._departed = [self._merge([*self._departed, self._retire(latest)])]

    @property
    def open_breakers(self) -> int:
        return self._breakers.open

    def taught(self) -> Taught:
        """For a restart."""
        return Taught(self._sites.learnt(), self._breakers.kept(), self._sites.went())

    async def answer(self, slot: int, verb: str, arguments: Sequence[Any]) -> Any:
        """What a worker asks or tells."""
        match verb, arguments:
            case "take", [credential, limits, count, first_time]:
                return self._take(credential, Limits(*limits), count=count, first_time=first_time)
            case "give back", [credential, limits, count, first_time]:
                self._rates.give_back(credential, Limits(*limits), count=count, first_time=first_time)
            case "used", [prefix]:
                return self._rates.used(prefix, now=self._now())
            case "auth", [_, _, _]:
                self._tell_others(slot, "auth", arguments)
            case "snapshot", [counts]:
                self._latest[slot] = counts
            case "counts", []:
                return await self._all_counts()
            case _, [str(site), *rest]:
                return await self._of_site(slot, verb, site, rest)
            case _:
                raise ValueError(f"unknown question {verb!r}")
        return None

    async def _of_site(self, slot: int, verb: str, site: str, arguments: Sequence[Any]) -> Any:
        """What is asked or told about one."""
        match verb, arguments:
            case "acquire", [maximum]:
                return self._acquire(slot, site, maximum)
            case "opened", []:
                self._sites.opened(slot, site)
            case "release", [opened]:
                self._sites.release(slot, site, opened=opened)
            case "pace", [pace, count, sharer]:
                return await self._sites.take_turn(slot, site, Pace(*pace), count=count, sharer=tuple(sharer))
            case "taken", [messages]:
                self._sites.taken(site, messages)
            case "pushed back", [push]:
                return self._sites.pushed_back(site, msgspec.convert(push, Push))
            case "refused", [report]:
                return self._breakers.report(site, msgspec.convert(report, Report))
            case "probe", [scopes, urged]:
                return self._breakers.probe(slot, site, [Scope(*each) for each in scopes], urged=urged)
            case _:
                raise ValueError(f"unknown question {verb!r}")
        return None

    def _take(self, credential: str, limits: Limits, *, count: int, first_time: int) -> float:
        return self._rates.take(credential, limits, now=self._now(), count=count, first_time=first_time)

    def _acquire(self, slot: int, site: str, maximum: int) -> bool:
        is_free = self._sites.acquire(slot, site, maximum=maximum)
        if not is_free:
            self._ask_for_idle(slot, site)
        return is_free

    def _tell_of_site(self, slot: int, site: str, allowance: Allowance, surplus: int) -> None:
        channel = self._channels.get(slot)
        if channel is not None:
            channel.tell("governed", site, msgspec.to_builtins(allowance), surplus)

    def _tell_of_breaker(self, front: str, told: Told) -> None:
        for channel in self._connected.values():
            channel.tell("breaker", front, msgspec.to_builtins(told))

    def _tell_of_place(self, slot: int, site: str) -> None:
        channel = self._channels.get(slot)
        if channel is not None:
            channel.tell("free", site)

    def _ask_for_idle(self, slot: int, site: str) -> None:
        """Of those who have connections to the site: a worker asks four times a second, and most have none."""
        for other in self._sites.holders(site):
            if other != slot and other in self._channels:
                self._channels[other].tell("wanted", site)

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
