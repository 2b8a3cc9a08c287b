"""delivery.known_breakers: what a worker knows of the machine's breakers, and what it has to report to them.

Nothing is known of a site that refuses nobody because of who we are: a message costs one look there. Where such a
refusal counts, those that are not refused so are counted too, and told with the next refusal, or a few at a time.
"""

from collections.abc import Callable, Iterable
from itertools import compress

from relay.delivery.breaker import LAST, OUR_ADDRESS, Open, Report, Scope, scope_of
from relay.delivery.machine_breakers import Told
from relay.mail.meaning import Blame
from relay.mail.verdict import Verdict

TELL_AT_MOST = 5  # recipients that were not refused so, and that nobody was told of yet

HeardBreaker = Callable[[str, Told], None]


class Known:
    """One that is watched, or open. until: when its next message asks to probe. may_probe: one may. untold: recipients
    that were not refused so.
    """

    __slots__ = ("cause", "is_open", "may_probe", "until", "untold")

    def __init__(self) -> None:
        self.is_open = False
        self.until = 0.0
        self.cause = ""
        self.may_probe = False
        self.untold = 0

    def hear(self, told: Told, *, now: float) -> None:
        self.is_open = told.pause is not None
        self.until = now + (told.pause or 0.0)
        self.cause = told.cause
        self.may_probe = False

    def lets_one_go(self, now: float) -> bool:
        """Before others may ask."""
        return self.may_probe and now < self.until

    def waits_until(self, now: float) -> float:
        """0.0 where a message may go, or ask."""
        return self.until if self.is_open and now < self.until and not self.may_probe else 0.0


class KnownBreakers:
    """One worker's, by what judges our mail as one. steady: POSIX seconds that never jump."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self.by_front: dict[str, dict[Scope, Known]] = {}
        self._steady = steady

    def hear(self, front: str, told: Told) -> None:
        known = self.by_front.setdefault(front, {})
        if told.is_watched:
            known.setdefault(told.scope, Known()).hear(told, now=self._steady())
        else:
            known.pop(told.scope, None)
        if not known:
            del self.by_front[front]

    def at(self, front: str, source: str) -> "SiteBreakers":
        return SiteBreakers(self, front, source)


class SiteBreakers:
    """Those of one site, as one of our addresses sees it. Times are POSIX seconds that never jump."""

    __slots__ = ("_front", "_known", "_source")

    def __init__(self, known: KnownBreakers, front: str, source: str) -> None:
        self._known = known
        self._front = front
        self._source = source

    def __bool__(self) -> bool:
        return self._front in self._known.by_front

    @property
    def open(self) -> list[Open]:
        known = self._known.by_front.get(self._front, {})
        ours = ((scope, each) for scope, each in known.items() if scope.sender_domain or scope.source == self._source)
        return [Open(scope.sender_domain, each.until, each.cause) for scope, each in ours if each.is_open]

    def for_mail_of(self, sender_domain: str) -> Open | None:
        """The open one that holds it."""
        return next((each for each in self.open if each.scope in (OUR_ADDRESS, sender_domain)), None)

    def waits_until(self, *, now: float) -> float:
        """Until when all mail from our address must wait, 0.0 where a message may go, or ask."""
        known = self._find(OUR_ADDRESS)
        return known.waits_until(now) if known is not None else 0.0

    def holding(self, sender_domain: str, *, now: float) -> list[Scope]:
        """Those that a message has to ask for: they are open, and it is not the one that may probe."""
        return [scope for scope, known in self._of(sender_domain) if known.is_open and not known.lets_one_go(now)]

    def held(self, sender_domain: str, *, now: float) -> tuple[str, float] | None:
        """What a message must wait for, and until when at least; None where it may ask, or go."""
        waits = ((scope.sender_domain, known.waits_until(now)) for scope, known in self._of(sender_domain))
        return next(((scope, until) for scope, until in waits if until), None)

    def wait(self, sender_domain: str, *, until: float) -> None:
        """The next one asks then."""
        for _, known in self._of(sender_domain):
            if known.is_open:
                known.until, known.may_probe = until, False

    def grant(self, sender_domain: str) -> None:
        """The next one may probe."""
        for _, known in self._of(sender_domain):
            known.may_probe = known.is_open

    def go(self, sender_domain: str) -> None:
        """It is on its way."""
        for _, known in self._of(sender_domain):
            known.may_probe = False

    def reports(
        self, sender_domain: str, credential: str, verdicts: Iterable[Verdict | None], cause: str
    ) -> list[Report]:
        """What a transaction came to, for each recipient: None was taken."""
        heard = list(verdicts)
        blamed = [scope_of(verdict, sender_domain) for verdict in heard]
        is_good = any(each is None or (each.permanent and each.blame is not Blame.SENDER) for each in heard)
        found = []
        for scope in dict.fromkeys((OUR_ADDRESS, sender_domain)):
            refused = tuple(each == scope for each in blamed)
            if any(refused):
                at_once = any(each is not None and each.action == "block" for each in compress(heard, refused))
                refused = (*self._take_untold(scope), *refused)[-LAST:]
                found.append(Report(self._scope(scope), credential, refused, cause, at_once=at_once))
            elif self._is_worth_telling(scope, len(refused)):
                found.append(Report(self._scope(scope), credential, self._take_untold(scope)[-LAST:], is_good=is_good))
        return found

    def _is_worth_telling(self, scope: str, recipients: int) -> bool:
        """So many more were not refused so. Of one that is open it may be the probe."""
        known = self._find(scope)
        if known is None:
            return False
        known.untold += recipients
        return known.is_open or known.untold >= TELL_AT_MOST

    def _take_untold(self, scope: str) -> tuple[bool, ...]:
        known = self._find(scope)
        if known is None:
            return ()
        untold, known.untold = known.untold, 0
        return (False,) * untold

    def _scope(self, sender_domain: str) -> Scope:
        return Scope(sender_domain, "" if sender_domain else self._source)

    def _find(self, sender_domain: str) -> Known | None:
        return self._known.by_front.get(self._front, {}).get(self._scope(sender_domain))

    def _of(self, sender_domain: str) -> list[tuple[Scope, Known]]:
        found = ((self._scope(each), self._find(each)) for each in dict.fromkeys((OUR_ADDRESS, sender_domain)))
        return [(scope, known) for scope, known in found if known is not None]
