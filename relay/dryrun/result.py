"""dryrun.result: what a dry run came to, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.config.profiles import Limits
from relay.delivery.feedback import Learnt
from relay.dryrun.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Sample:
    """How far it is at a moment: seconds since the beginning; recipients by their end; connections at once."""

    at: float
    delivered: int
    failed: int
    connections: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one front. provider: its name. smarthosts: by the names of their sites; () for a provider. failed: recipients
    that ended undelivered. deferred: attempts put off. finished: seconds until the last recipient ended. peak:
    connections at once, to all its sites. refusals: by the provider's parts. limits, learnt: of the site that most mail
    went to, from the address that most left from; learnt is None where it taught nothing. suspended: how often a rule
    suspended a site. sources: messages that left from each of our addresses that had some. warming: those whose warm-up
    had no room for more, where no other address was free to send.
    """

    provider: str
    smarthosts: Sequence[str]
    messages: int
    delivered: int
    failed: int
    deferred: int
    finished: float
    peak: int
    sites: int
    refusals: Mapping[str, int]
    limits: Limits
    learnt: Learnt | None
    suspended: int
    sources: Mapping[str, int]
    warming: Sequence[str]
    samples: Sequence[Sample]

    @property
    def places(self) -> int:
        """What has limits of its own: sites, as each of our addresses sees them."""
        return self.sites * max(1, len(self.sources))

    @property
    def deferred_share(self) -> float:
        """Of the attempts."""
        return self.deferred / max(1, self.delivered + self.failed + self.deferred)

    @property
    def failed_share(self) -> float:
        """Of the messages."""
        return self.failed / max(1, self.messages)

    @property
    def rate(self) -> float:
        """Messages delivered per second, on average."""
        return self.delivered / self.finished if self.finished else 0.0


@dataclass(frozen=True, slots=True)
class Sent:
    """From one of our addresses to MX hosts. messages: by provider. peak: connections at once. day: of its warm-up at
    the beginning, 0 where it is in none; per_day: messages that each provider may have then. setbacks: of the warm-up.
    """

    address: str
    pool: str
    messages: Mapping[str, int]
    peak: int
    day: int
    per_day: int
    setbacks: int


@dataclass(frozen=True, slots=True)
class Result:
    """peak: connections of the whole machine at once. submitted: seconds until the last message was accepted.
    discarded: messages, by a route. sources: our addresses that take part.
    """

    traffic: Traffic
    workers: int
    seed: int
    submitted: float
    peak: int
    discarded: int
    outcomes: Sequence[Outcome]
    sources: Sequence[Sent]

    @property
    def finished(self) -> float:
        return max((each.finished for each in self.outcomes), default=0.0)

    @property
    def deferred_share(self) -> float:
        """Of the attempts at all providers."""
        deferred = sum(each.deferred for each in self.outcomes)
        return deferred / max(1, sum(each.delivered + each.failed + each.deferred for each in self.outcomes))
