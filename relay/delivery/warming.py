"""delivery.warming: how many messages a provider gets from an address that is new to it. Pure.

Providers judge an address by what they have seen of it, and take much mail from one they have never seen for a
hijacked machine's. So an address in its warm-up gives each provider (the sites of one profile together; any other site
by itself) so many messages on its first day, and each day `growth` times as many, until there are so many that nobody
has more to send: then it is warm. What is over that is for the warm addresses of its pool.

The numbers are a smarthost's quota turned round, and kept as that is: for the machine, over a restart, and given back
for what was not taken. A day is whichever 24 hours one looks at, so no midnight lets two days' mail follow each other;
it is counted in parts of 24 minutes, which midnights divide, so no calendar day has more either. Days of the schedule
begin at 00:00 UTC. An hour has `1 / hours` of a day, rounded up, for providers dislike bursts more than volume. With
eight hours, not 24, an application that writes by day can use a day's number up, which is what the warm-up is for.
Within the hour, how fast messages follow each other is the matter of the site's pace and governor.

A setback is a day on which the provider asked for less, or refused our address: the day after has no more than it had.

The default schedule begins with 50 a day, as most published ones do, and grows by 1.4 a day, as SendGrid's own does
("Automated IP warmup hourly send schedule" of its docs); it is over when it comes to 100 000 a day, on the 24th.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, date, datetime

from msgspec import Struct

from relay.config.sources import Source, WarmUp
from relay.registry.setbacks import Setback


class Stage(Struct, frozen=True):
    """How far an address has come at one provider. day: of its schedule, from 1. per_day, per_hour: messages."""

    address: str
    provider: str
    day: int
    per_day: int
    per_hour: int

    def __str__(self) -> str:
        return f"{self.address} is in day {self.day} of its warm-up"


class WarmUps:
    """Those of relay.toml. plan: their schedule."""

    def __init__(self, plan: WarmUp, sources: Iterable[Source]) -> None:
        self._plan = plan
        self._begins = {str(each.address): each.warm_up for each in sources if each.warm_up is not None}

    def __bool__(self) -> bool:
        return bool(self._begins)

    def begins(self, address: str) -> date | None:
        return self._begins.get(address)

    def begins_at(self, address: str) -> float:
        """POSIX seconds before which it sends nothing; 0.0 without a warm-up."""
        begins = self._begins.get(address)
        return datetime.combine(begins, datetime.min.time(), UTC).timestamp() if begins is not None else 0.0

    def is_warm(self, address: str, *, on: date) -> bool:
        """Where no provider has thrown it back."""
        return self.stage(address, "", (), on=on) is None

    def stage(self, address: str, provider: str, setbacks: Collection[date], *, on: date) -> Stage | None:
        """None for one that is warm, or never was in a warm-up. setbacks: days of those at that provider."""
        begins = self._begins.get(address)
        if begins is None:
            return None
        lost = sum(begins <= each < on for each in setbacks)
        day = max(1, (on - begins).days + 1 - lost)
        per_day = per_day_of(self._plan, day)
        if per_day == 0:
            return None
        return Stage(address, provider, day, per_day, math.ceil(per_day / self._plan.hours))


class Warming:
    """How far each address has come now. warm_ups, setbacks: asked each time, so that a reload and what another worker
    has met count. now: POSIX seconds.
    """

    def __init__(
        self, warm_ups: Callable[[], WarmUps], setbacks: Callable[[], Sequence[Setback]], now: Callable[[], float]
    ) -> None:
        self._warm_ups = warm_ups
        self._setbacks = setbacks
        self._now = now

    def stage(self, address: str, provider: str) -> Stage | None:
        warm_ups = self._warm_ups()
        if not warm_ups:
            return None
        days = {each.day for each in self.setbacks(address, provider)}
        return warm_ups.stage(address, provider, days, on=day_at(self._now()))

    def setbacks(self, address: str, provider: str) -> list[Setback]:
        """Those of its warm-up there, by day."""
        begins = self._warm_ups().begins(address)
        found = (each for each in self._setbacks() if (each.source, each.provider) == (address, provider))
        return [each for each in found if begins is not None and each.day >= begins]


def per_day_of(plan: WarmUp, day: int) -> int:
    """Messages on that day of the schedule, from 1; 0 for no limit."""
    if (day - 1) * math.log(plan.growth) >= math.log(plan.until / plan.first):  # first * growth ** (day - 1) >= until
        return 0
    return round(plan.first * plan.growth ** (day - 1))


def days_of(plan: WarmUp) -> int:
    """How many days have a limit, where there is no setback."""
    return math.ceil(math.log(plan.until / plan.first) / math.log(plan.growth))


def day_at(now: float) -> date:
    """UTC's. now: POSIX seconds."""
    return datetime.fromtimestamp(now, UTC).date()
