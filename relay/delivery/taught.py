"""delivery.taught: what sites have taught the machine, limits and breakers together: kept over a restart, and told.

A limit is learnt of a place, a site as one of our addresses sees it; a breaker stands at what judges our mail as one,
a site or a provider.
"""

from collections.abc import Callable

from msgspec import Struct

from relay.delivery.breaker import KeptBreaker
from relay.delivery.feedback import Change, Learnt
from relay.delivery.machine_breakers import BreakerChange
from relay.delivery.pace import Went


class Taught(Struct, frozen=True):
    """What outlives a restart. limits, went: by place. breakers: by site or provider."""

    limits: dict[str, Learnt]
    breakers: dict[str, tuple[KeptBreaker, ...]]
    went: dict[str, Went] = {}

    def __bool__(self) -> bool:
        return bool(self.limits or self.breakers or self.went)


NOTHING = Taught({}, {})

Noted = Callable[[str, Change | BreakerChange], None]
