"""delivery.sources: which of our addresses cannot send now, and why. No IO.

An address rests at all sites when it cannot be bound: it is not this machine's any more, or not yet, or has no port
left. Then nothing is the message's fault or the site's: mail goes from another address of its pool in the same attempt,
and where there is none it waits on disk; no attempt is counted. After 30 s one connection tries again, then at doubling
intervals up to 15 minutes. Others may order an address to rest, for reasons of their own.

What rests an address at one site alone is that site's: its trouble, its breaker. At which sites one rests that others
are to replace, `delivery.trouble` knows.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct

from relay.delivery.routing import Direct, Way
from relay.log import Log

FIRST = 30.0
LONGEST = 900.0


UNTIL_ORDERED = 253_370_764_800.0  # 9999-01-01, for what has no end of its own


class Rest(Struct, frozen=True):
    """until: POSIX seconds that never jump. why: in words that name the address. instead: where there are any, it rests
    only at sites to which one of these can send.
    """

    until: float
    why: str
    instead: tuple[Direct, ...] = ()

    @property
    def ends_at(self) -> float:
        """0.0 where somebody has to end it."""
        return self.until if self.until != UNTIL_ORDERED else 0.0


class Sources:
    """One worker's. steady: POSIX seconds that never jump."""

    def __init__(self, *, steady: Callable[[], float], log: Log) -> None:
        self._steady = steady
        self._log = log
        self._failed: dict[str, tuple[Rest, int]] = {}  # how often, in a row
        self._ordered: Mapping[str, Rest] = MappingProxyType({})

    def resting(self, address: str) -> Rest | None:
        """What keeps the address from sending now."""
        if not (self._failed or self._ordered):
            return None
        ordered = self._ordered.get(address)
        if ordered is not None and ordered.until > self._steady():
            return ordered
        return self._failing(address)

    def fails(self, address: str) -> bool:
        """It could not be bound, and is not yet to be tried again."""
        return self._failing(address) is not None

    def _failing(self, address: str) -> Rest | None:
        failed = self._failed.get(address)
        return failed[0] if failed is not None and failed[0].until > self._steady() else None

    def resumes_at(self, address: str) -> float:
        """0.0 for now."""
        rest = self.resting(address)
        return rest.until if rest is not None else 0.0

    def can_send(self, pools: Mapping[str, Way]) -> dict[str, bool]:
        """Each address that relay.toml names, but for those that somebody wants to rest."""
        addresses = {hop.source for way in pools.values() for hop in way.members if hop.source}
        return {address: self.resting(address) is None for address in addresses - self._ordered.keys()}

    def order(self, rests: Mapping[str, Rest]) -> None:
        """These, by address, and no others."""
        self._ordered = rests

    def failed(self, address: str, why: str) -> None:
        """It could not be bound. What was under way when it was found out is told no second time."""
        rest, times = self._failed.get(address, (None, 0))
        now = self._steady()
        if rest is not None and rest.until > now:
            return
        pause = min(LONGEST, FIRST * 2 ** min(times, 10))
        self._failed[address] = (Rest(now + pause, why), times + 1)
        self._log.warning("source cannot send", source=address, error=why, tried_again_in=round(pause))

    def try_again(self) -> None:
        """relay.toml was read anew: somebody may have put right what was wrong."""
        self._failed.clear()

    def worked(self, address: str) -> None:
        """A connection was made from it."""
        if self._failed and self._failed.pop(address, None) is not None:
            self._log.info("source can send again", source=address)
