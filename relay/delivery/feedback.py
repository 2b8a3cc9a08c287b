"""delivery.feedback: what a site's replies have taught, for the whole machine. Pure.

The window of connections and, where replies spoke of a rate, messages per second (`delivery.level`). One of three
things is told of a site: messages were taken; a session more was refused while others went on, or one broke; a reply
asked to slow down. A refused session is about the number of sessions and nothing else, and so is a reply in a session
of which a rule says so: the others that are open are what the site takes. A reply that asks to slow down is about what
was being tried: a probe of the one or the other; else the rate, where one is known; else it may be either, and both are
halved.

What was begun before the last lowering says nothing of what is allowed since: it lowers nothing once more.
"""

from collections import deque
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from relay.delivery.level import Connections, MessagesPerSecond

CHANGES = 10  # the last that are kept
RATE_OVER = 60.0  # seconds over which the messages taken are counted for a rate, at most ...
RATE_OF = 20  # ... and so many messages, the last
BELOW = 0.9  # of a rate that was refused is the ceiling


class Change(Struct, frozen=True):
    """at: POSIX seconds. what: "connections" or "messages_per_second". before, after: 0 for no limit. cause: in words,
    the reply and the host.
    """

    at: float
    what: str
    before: float
    after: float
    cause: str

    @property
    def is_lowering(self) -> bool:
        return self.after > 0 and (self.before == 0 or self.after < self.before)

    def __str__(self) -> str:
        """As in "18 → 9 connections: 421 4.7.0 ... from mx3.example"."""
        before, after = (f"{number:.3g}" if number else "any" for number in (self.before, self.after))
        return f"{before} → {after} {self.what.replace('_', ' ')}: {self.cause}"


class Allowance(Struct, frozen=True):
    """What all workers together may do at a site now. per_second: messages, 0 where no rate was learnt. epoch: grows
    with each lowering.
    """

    connections: int = 2
    per_second: float = 0.0
    epoch: int = 0
    changes: tuple[Change, ...] = ()


class Learnt(Struct, frozen=True):
    """What outlives a restart. window, rate: what was allowed; rate is 0 where none was learnt. at: POSIX seconds."""

    at: float
    window: float
    ceiling: float | None
    rate: float
    rate_ceiling: float | None
    changes: tuple[Change, ...]


class Kind(StrEnum):
    REFUSED = "refused"  # a session more, before it carried anything
    BROKEN = "broken"  # one that broke, or was ended with 421, in the middle
    TOO_MANY = "too many"  # a reply in a session, of the number of connections alone
    SLOW = "slow"  # a reply that asks for less
    HALVE = "halve"  # a rule of bounce-rules.toml: both, whatever was being tried


class Push(Struct, frozen=True):
    """The site pushed back. epoch: the allowance's when what was refused began. in_session: it was open by then."""

    kind: Kind
    cause: str
    epoch: int
    in_session: bool = True


class Feedback:
    """One site's. most: connections that configuration allows. held: connections open or being opened. sessions: those
    of them that are open. allowance: another object once it is another. Times are seconds that never jump; the changes'
    are POSIX seconds.
    """

    def __init__(self) -> None:
        self.most = 10
        self.held = 0
        self.sessions = 0
        self.allowance = Allowance()
        self._window = Connections()
        self._rate: MessagesPerSecond | None = None
        self._taken: deque[tuple[float, int]] = deque()
        self._changes: deque[Change] = deque(maxlen=CHANGES)
        self._epoch = 0
        self._is_alive = False
        self._refused_in_a_row = 0

    @property
    def connections(self) -> int:
        return max(1, min(self.most, int(self._window.value)))

    @property
    def per_second(self) -> float:
        return self._rate.value if self._rate is not None else 0.0

    @property
    def has_learnt(self) -> bool:
        return self._window.ceiling is not None or self._rate is not None

    def allow(self, most: int) -> None:
        """The configuration allows so many from now on."""
        self.most = most
        self.allowance = Allowance(self.connections, self.per_second, self._epoch, tuple(self._changes))

    def learnt(self, *, at: float) -> Learnt:
        rate, window = self._rate, self._window
        of_rate = (rate.value, rate.ceiling) if rate is not None else (0.0, None)
        return Learnt(at, window.value, window.ceiling, *of_rate, tuple(self._changes))

    def restore(self, learnt: Learnt, *, now: float) -> None:
        """As after a refusal just now. No more at once than at any site that is new."""
        if learnt.ceiling is not None:
            self._window.resume(learnt.ceiling, now=now)
        if learnt.rate > 0 and learnt.rate_ceiling is not None:  # the file is anybody's who may write there
            self._rate = MessagesPerSecond(learnt.rate)
            self._rate.resume(learnt.rate_ceiling, now=now)
        self._changes.extend(learnt.changes)
        self.allowance = Allowance(self.connections, self.per_second, self._epoch, learnt.changes)

    def taken(self, messages: int, *, is_paced: bool, now: float, at: float) -> list[Change]:
        """is_paced: the rate, and not the number of connections, is what held them up."""
        self._count(messages, now)
        self._is_alive, self._refused_in_a_row = True, 0
        before, rate_before = self.connections, self.per_second
        if self.sessions >= before and not is_paced:
            self._window.taken(messages, most=self.most, now=now)
        if self._rate is not None:
            self._rate_taken(self._rate, messages, is_paced=is_paced, now=now)
        cause = "it was taken" if self.per_second else "no rate was refused for an hour"
        return self._changed(before, "all was taken", rate_before, cause, at)

    def _rate_taken(self, rate: MessagesPerSecond, messages: int, *, is_paced: bool, now: float) -> None:
        """What comes by less than the rate says nothing of more than the rate."""
        if is_paced:
            rate.taken(messages, most=float("inf"), now=now)
        else:
            rate.age(now)
        if rate.ceiling is None:
            self._rate = None

    def pushed_back(self, push: Push, *, now: float, at: float) -> list[Change]:
        if push.epoch < self._epoch:
            self._lower_ceiling(push.kind)
            return []
        self._epoch += 1
        before, rate_before = self.connections, self.per_second
        if push.kind not in (Kind.REFUSED, Kind.TOO_MANY):
            self._slow(push.kind, now)
        elif self.held > 1:
            self._window.refused(min(float(self._others_held), self._window.value), now=now)
        else:
            self._window.halve()
        return self._changed(before, push.cause, rate_before, push.cause, at)

    def is_one_too_many(self, push: Push) -> bool:
        """Whether a session that was refused was one too many rather than one of a site that gives none: others are
        open, or messages were just taken, and since then no more sessions were refused than were allowed at once.
        """
        if push.kind in (Kind.SLOW, Kind.TOO_MANY, Kind.BROKEN) or self.sessions > push.in_session:
            return True
        self._refused_in_a_row += 1
        if self._refused_in_a_row > self.connections:
            self._is_alive = False
        return self._is_alive

    @property
    def _others_held(self) -> int:
        return max(1, self.held - 1)

    def _lower_ceiling(self, kind: Kind) -> None:
        """Of several that were refused at once the last tells how many stay."""
        if kind is Kind.REFUSED and self._window.ceiling is not None:
            self._window.ceiling = min(self._window.ceiling, self._others_held)

    def _slow(self, kind: Kind, now: float) -> None:
        rate, window = self._rate, self._window
        if window.is_probing and (kind is Kind.BROKEN or (kind is Kind.SLOW and rate is None)):
            window.refused(window.value, now=now)
            return
        if kind is Kind.BROKEN:
            window.halve()
            return
        if rate is not None:
            rate.refused(BELOW * rate.value, now=now)
        elif seen := self._measured(now):
            self._rate = rate = MessagesPerSecond(seen)
            rate.refused(BELOW * seen, now=now)
            window.halve()
            return
        if rate is None or kind is Kind.HALVE:
            window.halve()

    def _measured(self, now: float) -> float:
        """Messages per second taken lately, 0 where there were none."""
        self._count(0, now)
        messages, seconds = 0, 1.0
        for at, some in reversed(self._taken):
            if messages >= RATE_OF:
                seconds = max(1.0, now - at)  # what was told then had been taken before
                break
            messages += some
        else:
            seconds = max(1.0, now - self._taken[0][0]) if self._taken else 1.0
        return messages / seconds

    def _count(self, messages: int, now: float) -> None:
        if messages:
            self._taken.append((now, messages))
        while self._taken and (self._taken[0][0] < now - RATE_OVER or len(self._taken) > RATE_OF):
            self._taken.popleft()

    def _changed(self, before: int, cause: str, rate_before: float, rate_cause: str, at: float) -> list[Change]:
        """What is other than before, told and kept."""
        rate = self.per_second
        changes = []
        if self.connections != before:
            changes.append(Change(at, "connections", before, self.connections, cause))
        if not _is_like(rate, self.allowance.per_second):
            changes.append(Change(at, "messages_per_second", rate_before, rate, rate_cause))
        else:
            rate = self.allowance.per_second
        for change in changes:
            self._keep(change)
        if changes or self.allowance.epoch != self._epoch:
            self.allowance = Allowance(self.connections, rate, self._epoch, tuple(self._changes))
        return changes

    def _keep(self, change: Change) -> None:
        """Steps of one growth are one change: what is of interest is what it was before the site pushed back."""
        last = self._changes[-1] if self._changes else None
        if last is not None and last.what == change.what and not (last.is_lowering or change.is_lowering):
            self._changes[-1] = replace(change, before=last.before)
        else:
            self._changes.append(change)


def _is_like(rate: float, other: float) -> bool:
    """A rate that grows with each message is told in steps of a tenth, so that it floods nobody."""
    return rate == other or (min(rate, other) > 0 and abs(rate - other) < 0.1 * max(rate, other))
