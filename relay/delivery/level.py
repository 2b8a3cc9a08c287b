"""delivery.level: one quantity that a site's replies teach: connections at once, or messages per second. Pure.

It grows with each message taken until the site refuses more. Then it is halved, and what the site was seen to take is
remembered as the ceiling: it grows back to there and rests, so that a site at its limit is not pushed against it by
every second message. Above the ceiling it is probed, one step at a time and seldom: ten seconds apart, and after a
hundred messages, so that a probe costs at most one refusal in a hundred. A probe that is refused takes back its step
and halves nothing, for it told what was expected. One that is taken is followed at once by one twice as far, so that a
site which takes more than it did is soon used.

A server that counts messages lets some more pass before it refuses. So a rate is probed for longer, and when the second
of two probes is refused, the first is believed by half.

A ceiling that nobody ran into for an hour is forgotten.
"""

from abc import ABC, abstractmethod

PROBE_AFTER = 10.0  # seconds since the last refusal, at least ...
PROBE_MESSAGES = 100  # ... and messages taken since
FORGOTTEN = 3600.0  # seconds


class Level(ABC):
    """value: what is allowed. ceiling: the most the site was seen to take, None while it never refused more. Times are
    seconds that never jump.
    """

    __slots__ = ("_before", "_probe_at", "_refused_at", "_since", "_stride", "ceiling", "value")

    least: float
    rounds: float  # as many messages as the value, so often, and a probe has been taken
    trust: float  # the part, at least, of a probe that was taken that is believed when the next one is refused
    settle: float  # seconds after a refusal in which others lower nothing more: the server counts what came before

    def __init__(self, value: float) -> None:
        self.value = value
        self.ceiling: float | None = None
        self._before = value  # the ceiling before the last probe that was taken
        self._stride = 1
        self._since = 0
        self._probe_at = 0.0
        self._refused_at = float("-inf")

    @abstractmethod
    def growth(self) -> float:
        """How much one message taken adds below the ceiling."""

    @abstractmethod
    def step(self) -> float:
        """How much a probe adds to the ceiling, at which the value is."""

    @property
    def is_probing(self) -> bool:
        return self.ceiling is not None and self.value > self.ceiling

    def taken(self, messages: int, *, most: float, now: float) -> None:
        """While all that is allowed was in use. most: what configuration allows."""
        self.age(now)
        self._since += messages
        if self.ceiling is None or self.value < self.ceiling:
            top = most if self.ceiling is None else min(most, self.ceiling)
            self.value = max(self.least, min(top, self.value + messages * self.growth()))
        elif self.is_probing:
            self._prove(most)
        elif now >= self._probe_at and self._since >= PROBE_MESSAGES:
            self._probe(most)

    def age(self, now: float) -> None:
        """Forget a ceiling that is old."""
        if self.ceiling is not None and now - self._refused_at >= FORGOTTEN:
            self.ceiling = None

    def _prove(self, most: float) -> None:
        if self._since < self.rounds * self.value:
            return
        self._stride *= 2
        self._before = self.ceiling or self.value
        self.ceiling = self.value
        self._probe(most)

    def _probe(self, most: float) -> None:
        self.value = max(self.value, min(most, self.value + self._stride * self.step()))
        self._since = 0

    def refused(self, seen: float, *, now: float) -> None:
        """More than the site takes. seen: what it does take."""
        if now - self._refused_at < self.settle:
            return
        if self.is_probing and self.ceiling is not None:
            self.value = self.ceiling = self._believed(self.ceiling)
        else:
            self.ceiling = max(self.least, seen)
            self.halve()
        self._refused_at = now
        self._probe_at = now + PROBE_AFTER
        self._since = 0
        self._stride = 1

    def _believed(self, ceiling: float) -> float:
        """Of a ceiling beyond which a probe was refused. Where it was itself a probe until then, it may not last."""
        if self._stride == 1:
            return ceiling
        return max(self.trust * ceiling, (self._before + ceiling) / 2)

    def resume(self, ceiling: float, *, now: float) -> None:
        """With a ceiling that was learnt before."""
        self.ceiling = max(self.least, ceiling)
        self.value = min(self.value, self.ceiling)
        self._refused_at = now
        self._probe_at = now + PROBE_AFTER

    def halve(self) -> None:
        self.value = max(self.least, self.value / 2)


class Connections(Level):
    """A site begins with two."""

    __slots__ = ()

    least = 1.0
    rounds = 2.0
    trust = 1.0
    settle = 0.0

    def __init__(self) -> None:
        super().__init__(2.0)

    def growth(self) -> float:
        return 1 / self.value

    def step(self) -> float:
        return 1.0


class MessagesPerSecond(Level):
    """Not less than one a minute; from a half back to the ceiling in five seconds."""

    __slots__ = ()

    least = 1 / 60
    rounds = 5.0
    trust = 0.9
    settle = 2.0

    def growth(self) -> float:
        return 0.1 * (self.ceiling or self.value) / self.value

    def step(self) -> float:
        return self.value / 10
