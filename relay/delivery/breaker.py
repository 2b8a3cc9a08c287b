"""delivery.breaker: stops what a site refuses because of who we are, before every recipient has bounced of it.

A breaker has the scope of what the replies blame: our address, which is all mail from it to the site; or a sender
domain that is not authenticated as the site wants it (5.7.26, 5.7.515), which is that domain's mail to the site. It
trips at once on a rule that says `block`, else when 5 of the last 20 recipients, of at least 2 credentials, were
refused so: what one application alone is refused for is not ours, and pauses nobody else's mail. While it is open all
mail of its scope goes from another of our addresses, or waits on disk, and climbs no retry ladder. After 15 minutes one
message probes: if it is refused so, the pause doubles, up to 4 hours; else the mail goes on.

A recipient or content that is refused moves no breaker. Pure bookkeeping: `delivery.machine_breakers` has the
machine's, `delivery.known_breakers` what a worker knows of them.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from relay.mail.meaning import Blame, Category
from relay.mail.verdict import Verdict

LAST = 20  # recipients looked at
REFUSED = 5  # of them, refused so
CREDENTIALS = 2  # whose mail they were, at least
PAUSE_FIRST = 900.0
PAUSE_LONGEST = 4 * 3600.0
PROBE_WITHIN = 300.0  # seconds for what a probe comes to; then another message may
ORDER_TAKES = 5.0  # seconds, at most, until an operator's order has come to all workers
NOBODY = -1
OUR_ADDRESS = ""  # in the place of a sender domain: the scope of all mail to a site


class Scope(NamedTuple):
    """At a site, or a provider that counts all of its sites as one: the mail of a sender domain, from whichever of our
    addresses; or, with none, all mail from one of them, "" for the one that the system chooses.
    """

    sender_domain: str
    source: str

    def __str__(self) -> str:
        return self.sender_domain or self.source or "our address"


class Open(Struct, frozen=True):
    """An open breaker, for whoever asks. scope: a sender domain, or `OUR_ADDRESS`. until: when a message may probe."""

    scope: str
    until: float
    cause: str


class Report(Struct, frozen=True):
    """What was heard of one scope. refused: recipient by recipient, whether so. at_once: a rule says to block. is_good:
    somebody was taken, or refused for good for what is not us, and nobody was refused so.
    """

    scope: Scope
    credential: str
    refused: tuple[bool, ...]
    cause: str = ""
    at_once: bool = False
    is_good: bool = False


class KeptBreaker(Struct, frozen=True):
    """What outlives a restart. at, until: POSIX seconds; until is 0.0 for one that is not open: its refusals count."""

    scope: Scope
    at: float
    until: float
    pause: float
    cause: str
    last: tuple[tuple[bool, str], ...]


class Breaker:
    """One scope's. Times are seconds that never jump. heard_at: when last of it. prober: the worker whose message
    probes, until something is heard.
    """

    def __init__(self, *, now: float) -> None:
        self.until = 0.0
        self.pause = 0.0
        self.cause = ""
        self.heard_at = now
        self.prober = NOBODY
        self._probe_ends = 0.0
        self._tripped_at = float("-inf")
        self._last: deque[tuple[bool, str]] = deque(maxlen=LAST)

    @property
    def is_open(self) -> bool:
        return self.pause > 0

    @property
    def is_watched(self) -> bool:
        """There are refusals that count."""
        return any(was_refused for was_refused, _ in self._last)

    def wait(self, now: float) -> float:
        """Seconds that mail must wait, 0.0 when a message may probe."""
        return max(0.0, self.until - now, self._probe_ends - now) if self.is_open else 0.0

    def urged_wait(self, now: float) -> float:
        """As `wait`, of a message that an operator wants tried now: for a probe of which nothing was heard; and where
        one has just been refused, for another worker's message may have been it.
        """
        if self.is_open and now < self._tripped_at + ORDER_TAKES:
            return self.wait(now)
        return max(0.0, self._probe_ends - now) if self.is_open and self.prober != NOBODY else 0.0

    def probe(self, worker: int, *, now: float) -> None:
        """By the message that goes now; others wait for what it comes to."""
        self.until = min(self.until, now)  # an operator may have it probe before
        self.prober = worker
        self._probe_ends = now + PROBE_WITHIN

    def lose(self, worker: int) -> None:
        """It is dead: nothing will be heard of its probe."""
        if self.prober == worker:
            self._probe_ends = 0.0

    def note(self, credential: str, refused: Iterable[bool], *, now: float) -> bool:
        """Recipient by recipient; whether there were too many."""
        self.heard_at = now
        self.prober = NOBODY
        were_too_many = [self._note(credential, was_refused=each) for each in refused]
        return any(were_too_many)

    def _note(self, credential: str, *, was_refused: bool) -> bool:
        self._last.append((was_refused, credential))
        credentials = [of for was_refused, of in self._last if was_refused]
        return was_refused and len(credentials) >= REFUSED and len(set(credentials)) >= CREDENTIALS

    def trip(self, cause: str, *, now: float) -> bool:
        """Whether it is told: what was under way when it tripped trips nothing again."""
        if self.is_open and now < self.until:
            return False
        self.pause = min(PAUSE_LONGEST, 2 * self.pause) if self.pause else PAUSE_FIRST
        self.until = now + self.pause
        self.cause = cause
        self._probe_ends = 0.0
        self._tripped_at = now
        return True

    def is_mended(self, now: float) -> bool:
        """By a message that was not refused so, after the pause."""
        return self.is_open and now >= self.until

    def kept(self, scope: Scope, *, now: float, at: float) -> KeptBreaker:
        """at: now, in POSIX seconds."""
        until = at + self.until - now if self.is_open else 0.0
        return KeptBreaker(scope, at + self.heard_at - now, until, self.pause, self.cause, tuple(self._last))

    @classmethod
    def restored(cls, kept: KeptBreaker, *, now: float, at: float) -> "Breaker":
        """A pause is not longer than it would have been, whatever became of the clock."""
        breaker = cls(now=now - max(0.0, at - kept.at))
        breaker.pause = min(PAUSE_LONGEST, kept.pause)
        breaker.until = now + min(breaker.pause, kept.until - at)
        breaker.cause = kept.cause
        breaker._last.extend(kept.last)
        return breaker


def scope_of(verdict: Verdict | None, sender_domain: str) -> str | None:
    """Of the breaker that a refusal counts for: a sender domain, `OUR_ADDRESS`, or None for none."""
    if verdict is None or verdict.blame is not Blame.SENDER:
        return None
    if not verdict.permanent and verdict.action != "block":
        return None
    return sender_domain if verdict.category is Category.AUTH and sender_domain else OUR_ADDRESS
