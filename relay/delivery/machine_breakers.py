"""delivery.machine_breakers: the breakers of all workers together, by what judges our mail as one: a site or provider.

Kept where connections are: the switchboard, or the only worker. A worker reports each refusal that counts; of what was
not refused so it reports only where one was before, a few recipients at a time. All are told which scopes are watched
so, and when one trips or mends. Who has mail for one whose pause is over asks, and one message of the machine probes.

Where 20 recipients were not refused so, or nothing was heard for a day, nothing is known any more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from relay.delivery.breaker import Breaker, KeptBreaker, Report, Scope

MOST_SCOPES = 1000  # of one site
KEPT = 86400.0  # seconds after it was last heard of, or its pause was over


class Told(Struct, frozen=True):
    """To the workers. pause: seconds until a message may ask to probe, None where none is open. is_watched: what is not
    refused counts too. has_closed: it was open until now.
    """

    scope: Scope
    pause: float | None = None
    cause: str = ""
    is_watched: bool = True
    has_closed: bool = False


class BreakerChange(Struct, frozen=True):
    """pause: seconds until the first probe, 0.0 for a breaker that has closed."""

    scope: Scope
    pause: float
    cause: str


Tell = Callable[[str, Told], None]
Noted = Callable[[str, BreakerChange], None]


class MachineBreakers:
    """tell: all workers. noted: each change, once. before: what an earlier server had. steady: seconds that never jump;
    now: POSIX seconds.
    """

    def __init__(
        self,
        *,
        steady: Callable[[], float],
        now: Callable[[], float],
        tell: Tell,
        noted: Noted,
        before: Mapping[str, Sequence[KeptBreaker]] = MappingProxyType({}),
    ) -> None:
        self._steady = steady
        self._now = now
        self._tell = tell
        self._noted = noted
        self._fronts: dict[str, dict[Scope, Breaker]] = {
            front: {each.scope: Breaker.restored(each, now=steady(), at=now()) for each in kept}
            for front, kept in before.items()
        }

    @property
    def open(self) -> int:
        """How many are."""
        return sum(each.is_open for breakers in self._fronts.values() for each in breakers.values())

    def told(self) -> Iterator[tuple[str, Told]]:
        """What a worker that is new has to know."""
        for front, breakers in self._fronts.items():
            for scope, breaker in breakers.items():
                yield front, self._of(scope, breaker)

    def report(self, front: str, report: Report) -> bool:
        """Whether one tripped."""
        now, scope = self._steady(), report.scope
        breakers = self._fronts.setdefault(front, {})
        is_new = scope not in breakers
        if is_new and len(breakers) >= MOST_SCOPES:
            self._make_room(front, breakers)
        breaker = breakers.setdefault(scope, Breaker(now=now))
        too_many = breaker.note(report.credential, report.refused, now=now)
        if (too_many or report.at_once) and breaker.trip(report.cause, now=now):
            self._tell(front, self._of(scope, breaker))
            self._noted(front, BreakerChange(scope, breaker.pause, report.cause))
            return True
        if report.is_good and breaker.is_mended(now):
            self._noted(front, BreakerChange(scope, 0.0, "its probe was not refused so"))
            self._forget(front, scope)
        elif not (breaker.is_open or breaker.is_watched):
            self._forget(front, scope)
        elif is_new:
            self._tell(front, self._of(scope, breaker))
        return False

    def probe(self, worker: int, front: str, scopes: Iterable[Scope], *, urged: bool) -> float:
        """0.0, and a message of the worker's that is of all these scopes probes them; or the seconds that it waits.
        urged: an operator wants it tried now, whatever the pause.
        """
        now = self._steady()
        known = self._fronts.get(front, {})
        concerned = [known[scope] for scope in scopes if scope in known and known[scope].is_open]
        wait = max((each.urged_wait(now) if urged else each.wait(now) for each in concerned), default=0.0)
        if wait:
            return wait
        for breaker in concerned:
            breaker.probe(worker, now=now)
        return 0.0

    def left(self, worker: int) -> None:
        """It is dead, and what it probed may be probed by another."""
        for breakers in self._fronts.values():
            for breaker in breakers.values():
                breaker.lose(worker)

    def kept(self) -> dict[str, tuple[KeptBreaker, ...]]:
        """For a restart."""
        now, at = self._steady(), self._now()
        for front, breakers in list(self._fronts.items()):
            for scope in [scope for scope, each in breakers.items() if max(each.heard_at, each.until) + KEPT < now]:
                self._forget(front, scope)
        return {
            front: tuple(breaker.kept(scope, now=now, at=at) for scope, breaker in breakers.items())
            for front, breakers in self._fronts.items()
        }

    def _of(self, scope: Scope, breaker: Breaker) -> Told:
        pause = breaker.wait(self._steady()) if breaker.is_open else None
        return Told(scope, pause, breaker.cause)

    def _make_room(self, front: str, breakers: Mapping[Scope, Breaker]) -> None:
        """A hoster's customers are many sender domains. The first that is not open makes room."""
        first = next((scope for scope, breaker in breakers.items() if not breaker.is_open), None)
        if first is not None:
            self._forget(front, first)

    def _forget(self, front: str, scope: Scope) -> None:
        breakers = self._fronts[front]
        has_closed = breakers.pop(scope).is_open
        if not breakers:
            del self._fronts[front]
        self._tell(front, Told(scope, is_watched=False, has_closed=has_closed))
