"""dryrun.registry: what delivery writes into the registry: sites that a rule suspends, setbacks of warm-ups."""

import asyncio
from collections.abc import Callable, Collection

from relay.mail.site import place_parts
from relay.registry.setbacks import Setback
from relay.registry.snapshot import Snapshot
from relay.registry.suspensions import Suspension

_IN_FORCE_AFTER = 0.25  # seconds, in which the workers of a server take notice of a suspension


class Registry:
    """ordered: all suspensions, in order. now: POSIX seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.ordered: list[Suspension] = []
        self._now = now
        self._snapshot = Snapshot.of((), ())
        self._followers: list[Callable[[], None]] = []

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def follow(self, changed: Callable[[], None]) -> None:
        """When other sites are suspended than before."""
        self._followers.append(changed)

    async def suspend(self, suspension: Suspension) -> None:
        before = self._snapshot
        if suspension.site in before.suspended(now=self._now()):
            return  # as it was ordered
        self.ordered.append(suspension)
        others = [each for each in before.suspensions if each.site != suspension.site]
        self._snapshot = Snapshot.of((), (), [*others, suspension], before.setbacks)
        loop = asyncio.get_running_loop()
        for seconds in (_IN_FORCE_AFTER, suspension.until - self._now() + _IN_FORCE_AFTER):
            loop.call_later(seconds, self._tell)

    async def note_setback(self, setback: Setback) -> None:
        """Of a day the first."""
        before = self._snapshot
        if not any(_are_of_one_day(each, setback) for each in before.setbacks):
            self._snapshot = Snapshot.of((), (), before.suspensions, [*before.setbacks, setback])

    def count(self, sites: Collection[str]) -> int:
        """How often one of these was suspended, for whichever of our addresses."""
        return sum(place_parts(each.site)[0] in sites for each in self.ordered)

    def _tell(self) -> None:
        for changed in self._followers:
            changed()


def _are_of_one_day(one: Setback, other: Setback) -> bool:
    return (one.source, one.provider, one.day) == (other.source, other.provider, other.day)
