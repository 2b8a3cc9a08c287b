"""submission.limits: how many sessions, and how many messages of one credential; for one process.

`Sessions` and `InProcessLimiter` are what `services.SessionTable` and `services.Limiter` ask for; with several workers
the switchboard holds the one table and the one `Rates`. `Rates` is pure: time comes in as an argument.

A second is a token bucket that holds a second's worth; hour and day are sliding windows of 60 buckets, so that a limit
is exceeded by no more than a bucket's width and an entry is small whatever the traffic. So is the day of first-time
recipients, whom a stolen credential wants and its owner seldom meets: they are counted only while there is a limit of
them. A refused take counts nothing, and neither does a message that was refused after it: what was taken for it is
given back.
Our own limits are never a 5xx: what is over them is told when to come again (`excess`), and for a minute at most the
next MAIL is told so at once (`Excess`) instead of after its content; not where first-time recipients may be the reason,
since the next message may have none.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping

from relay.mail.reply import Reply
from relay.registry.credentials import Credential
from relay.registry.usage import UsageKey
from relay.submission.services import Limits

HOUR = 3600.0
DAY = 86400.0
BUCKETS = 60
ROUNDING = 1e-6  # of a message: who comes again when told to finds that it was long enough
BELIEVED = 60.0  # seconds
FORGET_EVERY = 1024  # takes between two looks for credentials that have gone quiet


def limits_of(credential: Credential) -> Limits:
    return Limits(credential.limit_second, credential.limit_hour, credential.limit_day, credential.limit_first_time)


def excess(limits: Limits, retry_after: float, *, first_time: int = 0) -> Reply:
    """RFC 3463 3.8: X.7.1, "delivery not authorized", and transient: it will be. first_time: the message's."""
    words = [f"{number} per {unit}" for number, unit in _named(limits) if number]
    if first_time:
        words.append(f"to {limits.first_time} first-time recipients per day (this message has {first_time})")
    seconds = max(1, math.ceil(retry_after))
    remedy = "send it to fewer at once" if first_time > limits.first_time else f"try again in {seconds} seconds"
    return Reply(451, "4.7.1", f"This credential may send {', '.join(words)}; {remedy}")


def _named(limits: Limits) -> tuple[tuple[int, str], ...]:
    return (limits.second, "second"), (limits.hour, "hour"), (limits.day, "day")


class Sessions:
    """A SessionTable of this process."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def enter(self, key: str, *, limit: int) -> bool:
        count = self._counts.get(key, 0)
        if count >= limit:
            return False
        self._counts[key] = count + 1
        return True

    def leave(self, key: str) -> None:
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]

    def count(self, key: str) -> int:
        return self._counts.get(key, 0)


class Rates:
    """What each credential has sent lately. Times are POSIX seconds and may stand still or go back: what was counted
    later than now was counted now.
    """

    def __init__(self) -> None:
        self._usage: dict[str, _Usage] = {}
        self._takes = 0

    def take(self, credential: str, limits: Limits, *, now: float, count: int = 1, first_time: int = 0) -> float:
        """0.0, and `count` messages with so many first-time recipients are counted; or, uncounted, the seconds until
        they may go.
        """
        usage = self._usage.get(credential)
        if usage is None:
            usage = self._usage[credential] = _Usage()
        self._forget_the_quiet(now)
        retry_after = usage.wait(limits, now, count, first_time)
        if retry_after == 0.0:
            usage.add(limits, now, count, first_time)
        return retry_after

    def give_back(self, credential: str, limits: Limits, *, count: int = 1, first_time: int = 0) -> None:
        """Undo a `take` that returned 0.0."""
        usage = self._usage.get(credential)
        if usage is not None:
            usage.give_back(limits, count, first_time)

    def used(self, prefix: str, *, now: float) -> dict[str, tuple[int, int]]:
        """Messages of the last hour and of the last day, of all whose name begins so."""
        return {name: usage.used(now) for name, usage in self._usage.items() if name.startswith(prefix)}

    def counters(self, *, since: float = 0.0) -> dict[UsageKey, int]:
        """What `Registry.save_usage` keeps, so that a restart forgives nobody; seconds are not worth it.

        since: leaves out what cannot have changed after that time.
        """
        return {
            (name, window, start): count
            for name, usage in self._usage.items()
            for window, start, count in usage.counters(since)
        }

    def restore(self, counters: Mapping[UsageKey, int]) -> None:
        """What `Registry.load_usage` gave, into fresh Rates."""
        for (name, window, start), count in sorted(counters.items(), key=lambda item: item[0][2]):
            self._usage.setdefault(name, _Usage()).windows()[window].add(start, count)

    def _forget_the_quiet(self, now: float) -> None:
        self._takes += 1
        if self._takes % FORGET_EVERY == 0:
            self._usage = {name: usage for name, usage in self._usage.items() if not usage.is_over(now)}

    def __len__(self) -> int:
        return len(self._usage)


class InProcessLimiter:
    """A Limiter of this process."""

    def __init__(self, rates: Rates, *, now: Callable[[], float]) -> None:
        self._rates = rates
        self._now = now

    async def take(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> float:
        return self._rates.take(credential, limits, now=self._now(), count=count, first_time=first_time)

    def give_back(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> None:
        self._rates.give_back(credential, limits, count=count, first_time=first_time)


class Excess:
    """Which credentials were refused a message just now, and until when; a hint, for this process.

    It is believed for a minute and then asked for anew: what stood in the way may have been given back.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, Limits], tuple[float, float, float]] = {}  # from when, until when, and believed

    def remember(self, credential: str, limits: Limits, *, until: float, now: float) -> None:
        self._until = {key: span for key, span in self._until.items() if span[0] <= now < min(span[1:])}
        self._until[credential, limits] = (now, until, now + BELIEVED)

    def left(self, credential: str, limits: Limits, *, now: float) -> float:
        """Seconds, 0.0 for none. Limits that an operator has changed since are another matter."""
        if not self._until:
            return 0.0
        began, until, believed = self._until.get((credential, limits), (0.0, 0.0, 0.0))
        return until - now if began <= now < min(until, believed) else 0.0


class _Usage:
    """One credential's."""

    __slots__ = ("_day", "_filled_at", "_first_time", "_hour", "_tokens")

    def __init__(self) -> None:
        self._hour = _Window(HOUR)
        self._day = _Window(DAY)
        self._first_time = _Window(DAY)
        self._tokens = math.inf  # of the second's bucket; full
        self._filled_at = 0.0

    def wait(self, limits: Limits, now: float, count: int, first_time: int) -> float:
        """A message without first-time recipients never waits for theirs."""
        return max(
            self._wait_for_tokens(limits.second, now, count) if limits.second else 0.0,
            self._hour.wait(limits.hour, now, count) if limits.hour else 0.0,
            self._day.wait(limits.day, now, count) if limits.day else 0.0,
            self._first_time.wait(limits.first_time, now, first_time) if limits.first_time and first_time else 0.0,
        )

    def add(self, limits: Limits, now: float, count: int, first_time: int) -> None:
        """Counted in every window whichever is limited, so that a limit changed later finds what was sent."""
        if limits.second:
            self._tokens -= count
        self._hour.add(now, count)
        self._day.add(now, count)
        if first_time:
            self._first_time.add(now, first_time)

    def used(self, now: float) -> tuple[int, int]:
        return self._hour.used(now), self._day.used(now)

    def give_back(self, limits: Limits, count: int, first_time: int) -> None:
        if limits.second:
            self._tokens += count
        self._hour.give_back(count)
        self._day.give_back(count)
        self._first_time.give_back(first_time)

    def is_over(self, now: float) -> bool:
        return self._day.is_over(now) and self._first_time.is_over(now)

    def windows(self) -> "dict[str, _Window]":
        """By the names that `Registry.save_usage` keeps them under."""
        return {"hour": self._hour, "day": self._day, "first_time": self._first_time}

    def counters(self, since: float) -> list[tuple[str, int, int]]:
        return [(name, *bucket) for name, window in self.windows().items() for bucket in window.counters(since)]

    def _wait_for_tokens(self, rate: int, now: float, count: int) -> float:
        earned = max(0.0, now - self._filled_at) * rate
        self._tokens = min(float(max(rate, count)), self._tokens + earned)
        self._filled_at = now
        missing = count - self._tokens
        return missing / rate if missing > ROUNDING else 0.0


class _Window:
    """Counts over `length` seconds in BUCKETS buckets of equal width; (number of the bucket, count), oldest first."""

    __slots__ = ("_buckets", "_sum", "_width")

    def __init__(self, length: float) -> None:
        self._width = length / BUCKETS
        self._buckets: deque[tuple[int, int]] = deque()
        self._sum = 0

    def wait(self, limit: int, now: float, count: int) -> float:
        """Seconds until the buckets that stand in the way have left the window."""
        self._drop(now)
        over = self._sum + count - limit
        for number, counted in self._buckets:
            if over <= 0:
                break
            over -= counted
            if over <= 0:
                return (number + BUCKETS) * self._width - now
        return 0.0 if over <= 0 else self._width * BUCKETS  # more at once than the limit ever allows

    def used(self, now: float) -> int:
        self._drop(now)
        return self._sum

    def add(self, now: float, count: int) -> None:
        number = int(now / self._width)
        if self._buckets and self._buckets[-1][0] >= number:
            newest, counted = self._buckets.pop()
            self._buckets.append((newest, counted + count))
        else:
            self._buckets.append((number, count))
        self._sum += count

    def give_back(self, count: int) -> None:
        """Out of the newest buckets: what was taken was taken just now."""
        for place in reversed(range(len(self._buckets))):
            number, counted = self._buckets[place]
            given = min(counted, count)
            self._buckets[place] = (number, counted - given)
            self._sum -= given
            count -= given

    def counters(self, since: float) -> list[tuple[int, int]]:
        """(when the bucket began in POSIX seconds, count) of those that ended after `since`, and of the newest."""
        return [
            (math.ceil(number * self._width), count)
            for number, count in self._buckets
            if (number + 1) * self._width > since or number == self._buckets[-1][0]
        ]

    def is_over(self, now: float) -> bool:
        self._drop(now)
        return not self._buckets

    def _drop(self, now: float) -> None:
        newest = int(now / self._width)
        if self._buckets and self._buckets[-1][0] > newest + 1:
            self._fold(newest)
        oldest = newest - BUCKETS
        while self._buckets and self._buckets[0][0] <= oldest:
            self._sum -= self._buckets.popleft()[1]

    def _fold(self, newest: int) -> None:
        """The clock was set back."""
        late = 0
        while self._buckets and self._buckets[-1][0] > newest:
            late += self._buckets.pop()[1]
        if self._buckets and self._buckets[-1][0] == newest:
            late += self._buckets.pop()[1]
        self._buckets.append((newest, late))
