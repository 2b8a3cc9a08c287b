"""delivery.pace: when the next message may go to a site, so that no second, minute and hour has more than it may.

Messages of a second are spaced evenly, a little wider than they might be: none has too many though one message reaches
the server some hundredths of a second later than another. Those of a minute and an hour may come as they come, until
there were as many as may: an hour's hundred can go in its first minute. Each length is counted in sixtieth parts, and
two parts more than its own sixty are looked at: the part a moment is in has only begun, and a message may reach the
server as much as one part late. So no 60 or 3600 seconds, wherever they begin, have more than the limit, and 97 % of it
can be used.

What counts as several messages, as at a smarthost a message to several recipients does, takes their turns together.

Pure bookkeeping of one place for the whole machine. Whose turn it is says `taking_turns`.
"""

from collections import deque

from msgspec import Struct

from relay.config.profiles import Limits
from relay.delivery.quota import NO_QUOTA, Quota

SOON = 2.0  # seconds that a turn is waited for with a connection at hand
USED = 0.97  # of the messages per second that configuration allows
PARTS = 60
_LOOKED_AT = PARTS + 2


class Pace(Struct, frozen=True):
    """Messages that may be sent; 0 for no limit."""

    per_second: float = 0.0
    per_minute: int = 0
    per_hour: int = 0

    @classmethod
    def of(cls, limits: Limits, *, quota: Quota = NO_QUOTA) -> "Pace | None":
        """None: nothing has to be asked. quota: a smarthost's has the hour's limit, where there is one."""
        per_hour = 0 if quota and quota.stage is None else limits.messages_per_hour
        pace = cls(limits.messages_per_second, limits.messages_per_minute, per_hour)
        return None if pace == cls() else pace


Parts = tuple[tuple[float, int], ...]  # POSIX seconds at which a part ended, messages in it


class Went(Struct, frozen=True):
    """What outlives a restart, of a site with a limit for a minute or an hour."""

    minute: Parts
    hour: Parts

    def is_young(self, *, at: float) -> bool:
        """Whether any of it counts still. at: POSIX seconds."""
        return any(at - ended_at < _LOOKED_AT * 60.0 for ended_at, _ in self.hour)


class Turns:
    """One site's. now: seconds that never jump; ahead: how far POSIX seconds are ahead of those."""

    def __init__(self) -> None:
        self.last = 0.0
        self._next = 0.0
        self._minute = _Count(60.0)
        self._hour = _Count(3600.0)
        self._is_kept = False

    def went(self, *, now: float, ahead: float) -> Went | None:
        """None: nothing that would be missed."""
        if not self._is_kept:
            return None
        went = Went(self._minute.kept(now=now, ahead=ahead), self._hour.kept(now=now, ahead=ahead))
        return went if went.hour else None

    def restore(self, went: Went, *, now: float, ahead: float) -> None:
        self._is_kept = True
        self._minute.restore(went.minute, now=now, ahead=ahead)
        self._hour.restore(went.hour, now=now, ahead=ahead)

    def is_ahead(self, now: float) -> bool:
        """Messages wait for their turn."""
        return self._next > now

    def wait(self, pace: Pace, *, count: int = 1, now: float) -> float:
        """Seconds until the next `count` messages may go together."""
        turn = max(now, self._next)
        if pace.per_minute:
            turn = self._minute.earliest(turn, count=count, most=pace.per_minute, now=now)
        if pace.per_hour:
            turn = self._hour.earliest(turn, count=count, most=pace.per_hour, now=now)
        return turn - now

    def take(self, pace: Pace, *, count: int = 1, at: float) -> None:
        """They go then, which is no sooner than they may."""
        self.last = at
        self._is_kept = bool(pace.per_minute or pace.per_hour)
        self._next = at + (count / pace.per_second if pace.per_second else 0.0)
        self._minute.add(count, at=at)
        self._hour.add(count, at=at)


class _Count:
    """What has gone in the last `length` seconds. Moments never go back."""

    def __init__(self, length: float) -> None:
        self._width = length / PARTS
        self._parts: deque[tuple[int, int]] = deque()  # number of the part, messages in it
        self._total = 0

    def add(self, count: int, *, at: float) -> None:
        part = int(at / self._width)
        before = self._parts.pop()[1] if self._parts and self._parts[-1][0] == part else 0
        self._parts.append((part, before + count))
        self._total += count

    def earliest(self, at: float, *, count: int, most: int, now: float) -> float:
        """The first moment from `at` on at which so many more make no more than `most`."""
        self._forget(now)
        too_many = self._total + count - most
        for part, sent in self._parts:
            if too_many <= 0:
                break
            too_many -= sent
            at = max(at, self._ends(part))
        return at

    def kept(self, *, now: float, ahead: float) -> Parts:
        self._forget(now)
        return tuple(((part + 1) * self._width + ahead, count) for part, count in self._parts)

    def restore(self, parts: Parts, *, now: float, ahead: float) -> None:
        """As late as they can have gone, and no later than now, however the clock was set."""
        for ended_at, count in parts:
            self.add(count, at=min(ended_at - ahead, now))

    def _forget(self, now: float) -> None:
        while self._parts and self._ends(self._parts[0][0]) <= now:
            self._total -= self._parts.popleft()[1]

    def _ends(self, part: int) -> float:
        """When it is not looked at any more."""
        return (part + _LOOKED_AT) * self._width
