"""delivery.sites: the sites that a shard has met, and what is remembered of each.

A site is made when there is mail for it, with the limits it has then, and gets others when they change: a message
looks nothing up. What nobody uses is forgotten, once its trouble is too long ago to say anything; a smarthost that a
reload changed is another one, of which nothing is known.

A suspended site has its suspension from the moment it is made, and is remembered while that lasts. An operator suspends
a site for all our addresses, a rule for the one that the reply was about.

Breakers are the machine's, and common to all sites of a provider whose limits are, from one address; those of sender
domains from every address of ours, for they are refused whichever the mail comes from.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from relay.delivery.breaker import Scope
from relay.delivery.destination import Destination
from relay.delivery.governor import PROBE_FIRST, Governor
from relay.delivery.known_breakers import KnownBreakers
from relay.delivery.limiting import Limiting
from relay.delivery.routing import Direct, Hop
from relay.delivery.site import Site, SiteKey
from relay.delivery.sources import Sources
from relay.mail.site import place, place_parts
from relay.registry.suspensions import Suspension

SOURCES_TRIED = 2  # in an attempt, at hosts that give no session; and of a site that is down
LOOK_AT = 50  # sites at once, whether they may be forgotten: the scheduler may come round for every message
KEPT = 3600.0  # seconds a site's trouble is remembered after its next probe was due


class Sites:
    """One shard's. hops: those that mail may go by, asked each time, so that a reload counts. sources: which of our
    addresses rest.
    """

    def __init__(
        self, limiting: Limiting, hops: Callable[[], Collection[Hop]], sources: Sources, breakers: KnownBreakers
    ) -> None:
        self.by_key: dict[SiteKey, Site] = {}
        self._by_name: dict[str, list[Site]] = {}
        self._by_count: dict[str, list[Site]] = {}
        self._by_front: dict[str, list[Site]] = {}
        self._silent: dict[str, list[Site]] = {}  # in trouble, and not a word was heard
        self._to_look_at: list[Site] = []
        self._limiting = limiting
        self._hops = hops
        self._sources = sources
        self._breakers = breakers
        self._suspensions: Mapping[str, Suspension] = {}

    def of(self, destination: Destination, hop: Hop) -> Site:
        site = self.by_key.get((destination.site, hop))
        if site is None:
            limits = self._limiting.limits(destination.site, destination.mx)
            governor = Governor(limits, self._limiting.quota(destination.site, hop, limits))
            site = Site(destination.site, hop, destination.mx, governor, self._breakers)
            if isinstance(hop, Direct):
                site.last_error = next((other.last_error for other in self._silent.get(site.name, ())), "")
            site.suspension = self._suspension(site.name, hop)
            self.by_key[site.key] = site
            self._by_name.setdefault(site.name, []).append(site)
            self._index_limits(site)
        return site

    def concerned(self, front: str, scope: Scope) -> list[Site]:
        """Those at which a breaker holds mail. front: what judges our mail as one."""
        return [each for each in self._by_front.get(front, ()) if scope.sender_domain or each.source == scope.source]

    def _index_limits(self, site: Site) -> None:
        self._by_count.setdefault(site.counted_as, []).append(site)
        self._by_front.setdefault(site.front, []).append(site)

    def limit(self) -> None:
        """The limits may be others; each site goes on with what was learnt of it."""
        self._by_count.clear()
        self._by_front.clear()
        hops = self._hops()
        for site in self.by_key.values():
            site.is_gone = site.hop not in hops
            limits = self._limiting.limits(site.name, site.mx)
            site.limit(limits, self._limiting.quota(site.name, site.hop, limits))
            self._index_limits(site)

    def suspend(self, suspensions: Mapping[str, Suspension]) -> tuple[list[Site], set[str]]:
        """Those in force from now on, by place. The sites that are suspended now, the names of those no longer."""
        held = {site.suspension.site for site in self.by_key.values() if site.suspension is not None}
        ended = (self._suspensions.keys() | held) - suspensions.keys()
        self._suspensions = suspensions
        for site in self.by_key.values():
            site.suspension = self._suspension(site.name, site.hop)
        suspended = [site for site in self.by_key.values() if site.suspension is not None]
        return suspended, {place_parts(each)[0] for each in ended}

    def _suspension(self, name: str, hop: Hop) -> Suspension | None:
        return self._suspensions.get(name) or self._suspensions.get(place(name, hop.source))

    def named(self, name: str) -> Sequence[Site]:
        return self._by_name.get(name, ())

    def counted_as(self, name: str) -> Sequence[Site]:
        """Those that the machine counts together under this name."""
        return self._by_count.get(name, ())

    def heard(self, site: Site, *, is_silent: bool) -> None:
        """It gave no session. is_silent: and no reply."""
        silent = [each for each in self._silent.pop(site.name, ()) if each is not site]
        if silent or is_silent:
            self._silent[site.name] = [*silent, site] if is_silent else silent

    def down_until(self, name: str, hop: Hop, *, now: float) -> float:
        """How long at least it is left to others of our addresses, which hear nothing of it, to find out that it is up
        again; 0.0 where it is not. now: POSIX seconds that never jump.
        """
        silent = self._silent.get(name)
        if silent is None or not isinstance(hop, Direct):
            return 0.0
        silent[:] = [site for site in silent if site.governor.in_trouble]
        if not silent:
            del self._silent[name]
        probing = [site for site in silent if hop.reaches(site.source)]
        if len(probing) < SOURCES_TRIED or any(site.hop == hop for site in probing) or self._is_up(name, hop):
            return 0.0
        return max(now + PROBE_FIRST, *(site.governor.retry_at for site in probing))

    def _is_up(self, name: str, hop: Direct) -> bool:
        """One of our addresses has a session there, or may get one."""
        others = (site for site in self.named(name) if hop.reaches(site.source) and not site.governor.in_trouble)
        return any(site.couriers or site.idle for site in others)

    def is_suspended(self, name: str, hop: Hop) -> bool:
        """Whether there has been mail for it or not."""
        return bool(self._suspensions) and self._suspension(name, hop) is not None

    def forget_unused(self, *, now: float) -> None:
        """Looks at some of them, the next time at the next. now: POSIX seconds that never jump."""
        hops = self._hops()
        if not self._to_look_at:
            self._to_look_at = list(self.by_key.values())
        looked_at = self._to_look_at[-LOOK_AT:]
        del self._to_look_at[-LOOK_AT:]
        for site in looked_at:
            is_gone = site.hop not in hops
            is_held = site.suspension is not None or bool(site.breakers.open or self._sources.resting(site.source))
            is_old = not is_held and site.governor.retry_at + KEPT < now
            if site.is_unused and (is_gone or is_old) and self.by_key.get(site.key) is site:
                self._forget(site)

    def _forget(self, site: Site) -> None:
        del self.by_key[site.key]
        self.heard(site, is_silent=False)
        indexes = ((self._by_name, site.name), (self._by_count, site.counted_as), (self._by_front, site.front))
        for index, name in indexes:
            index[name].remove(site)
            if not index[name]:
                del index[name]
