"""delivery.blocklists: whether our addresses are in the DNS blocklists that relay.toml names (RFC 5782).

Each worker asks by itself, through its resolver, when it starts, when relay.toml names another list, and every ten
minutes or as the list's table has it. An answer in 127.0.0.0/8 lists the address, no such name does not. Everything
else says nothing, and what was last known holds: no answer; 127.255.255.0/24, by which Spamhaus and others refuse a
resolver or a misspelt zone; an answer outside 127.0.0.0/8, by a resolver that redirects what does not exist; and a list
that has not the address 127.0.0.2 or has 127.0.0.1, as no list in service does (RFC 5782 5): one that was given up may
list everything, or nothing. So each is tried by these whenever it is looked at.

What a listing leads to is decided elsewhere (`delivery.resting`).
"""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from relay.config.profiles import bare
from relay.config.sources import Blocklist
from relay.config.values import Address
from relay.log import Log
from relay.resolver import AddressAnswer, Failure, Found

_LISTING = ipaddress.ip_network("127.0.0.0/8")
_ERROR = ipaddress.ip_network("127.255.255.0/24")
_ERRORS = {
    "127.255.255.252": "its zone is misspelt",
    "127.255.255.254": "it refuses our resolver, which is a public one or has no name of its own",
    "127.255.255.255": "our resolver asks it too much",
}

# RFC 5782 5: those that must be in a list, and those that must not, by the version of IP. Many lists have no IPv6.
LISTED_FOR_TESTS = {4: ipaddress.ip_address("127.0.0.2"), 6: ipaddress.ip_address("::ffff:7f00:2")}
NEVER_LISTED = {4: ipaddress.ip_address("127.0.0.1"), 6: ipaddress.ip_address("::ffff:7f00:1")}


class Unknown(Struct, frozen=True):
    """The list does not say. why: in words."""

    why: str


class Listing(Struct, frozen=True):
    """codes: what the list answered, which is why; the list's pages have the meaning. since: when it was first seen, in
    POSIX seconds.
    """

    zone: str
    codes: tuple[str, ...]
    since: float = 0.0

    def __str__(self) -> str:
        return f"{self.zone} ({', '.join(self.codes)})"


class Lookup(Protocol):
    async def ipv4(self, name: str) -> AddressAnswer: ...


async def ask(resolver: Lookup, zone: str, address: Address) -> tuple[str, ...] | Unknown:
    """The codes by which a list has the address, () where it has it not."""
    return codes_of(await resolver.ipv4(question(zone, address)))


async def unfit(resolver: Lookup, zone: str, *, version: int) -> str:
    """Why what a list says of addresses of that version of IP says nothing; "" where it does."""
    must, must_not = LISTED_FOR_TESTS[version], NEVER_LISTED[version]
    found = await asyncio.gather(ask(resolver, zone, must), ask(resolver, zone, must_not))
    for answer in found:
        if isinstance(answer, Unknown):
            return answer.why
    if found[1]:
        return f"it lists {must_not}, and so everything"
    if not found[0] and version == 4:
        return f"it does not list {must}, which every list in service does"
    return ""


def question(zone: str, address: Address) -> str:
    """RFC 5782 2.1, 2.4: 192.0.2.99 as 99.2.0.192.ZONE; IPv6 by nibbles."""
    return f"{address.reverse_pointer.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{bare(zone)}"


def codes_of(answer: AddressAnswer) -> tuple[str, ...] | Unknown:
    if isinstance(answer, Failure):
        return Unknown(answer.text)
    if not isinstance(answer, Found):
        return ()
    if answer.stale:
        return Unknown("its servers do not answer")
    strange = [str(each) for each in answer.records if each not in _LISTING]
    if strange:
        return Unknown(
            f"it answers {', '.join(strange)}, which no list does; does our resolver redirect unknown names?"
        )
    errors = [str(each) for each in answer.records if each in _ERROR]
    if errors:
        return Unknown(f"it answers {errors[0]}: {_ERRORS.get(errors[0], 'an error of its own')}")
    return tuple(sorted(map(str, answer.records)))


class Blocklists:
    """One worker's. lists, addresses: those of relay.toml, asked each time, so that a reload counts. now: POSIX
    seconds. steady: seconds that never jump. troubles: by zone, why nothing new is known.
    """

    def __init__(
        self,
        lists: Callable[[], Sequence[Blocklist]],
        addresses: Callable[[], Sequence[Address]],
        resolver: Lookup,
        *,
        log: Log,
        now: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self.troubles: dict[str, str] = {}
        self._lists = lists
        self._addresses = addresses
        self._resolver = resolver
        self._log = log
        self._now = now
        self._steady = steady
        self._listings: dict[tuple[str, str], Listing] = {}
        self._next_look: dict[str, tuple[tuple[Address, ...], float]] = {}

    def of(self, address: str) -> list[Listing]:
        """By zone."""
        return [listing for (_, listed), listing in sorted(self._listings.items()) if listed == address]

    @property
    def zones(self) -> list[str]:
        return [bare(each.zone) for each in self._lists()]

    async def look(self) -> None:
        """At those whose time has come."""
        addresses = tuple(self._addresses())
        self._forget_others({str(each) for each in addresses})
        now = self._steady()
        due = [each for each in self._lists() if self._is_due(each, addresses, now)]
        for each in due:
            self._next_look[bare(each.zone)] = (addresses, now + each.every)
        await asyncio.gather(*(self._look_at(bare(each.zone), addresses) for each in due))

    def _is_due(self, blocklist: Blocklist, addresses: tuple[Address, ...], now: float) -> bool:
        asked_for, at = self._next_look.get(bare(blocklist.zone), ((), 0.0))
        return addresses != asked_for or at <= now

    def _forget_others(self, addresses: set[str]) -> None:
        zones = set(self.zones)
        self._listings = {key: each for key, each in self._listings.items() if key[0] in zones and key[1] in addresses}
        self._next_look = {zone: each for zone, each in self._next_look.items() if zone in zones}
        self.troubles = {zone: why for zone, why in self.troubles.items() if zone in zones}

    async def _look_at(self, zone: str, addresses: Sequence[Address]) -> None:
        found = await asyncio.gather(*(self._ask(zone, address) for address in addresses))
        for address, codes in zip(addresses, found, strict=True):
            if not isinstance(codes, Unknown):
                self._note(zone, str(address), codes)
        self._note_trouble(zone, next((each.why for each in found if isinstance(each, Unknown)), ""))

    async def _ask(self, zone: str, address: Address) -> tuple[str, ...] | Unknown:
        why = await unfit(self._resolver, zone, version=address.version)
        return Unknown(why) if why else await ask(self._resolver, zone, address)

    def _note(self, zone: str, address: str, codes: tuple[str, ...]) -> None:
        before = self._listings.pop((zone, address), None)
        if codes:
            since = before.since if before is not None else self._now()
            self._listings[zone, address] = Listing(zone, codes, since)
        if codes and (before is None or before.codes != codes):
            self._log.warning("source listed", source=address, blocklist=zone, codes=list(codes))
        if before is not None and not codes:
            self._log.info("source listed no longer", source=address, blocklist=zone)

    def _note_trouble(self, zone: str, why: str) -> None:
        before = self.troubles.pop(zone, "")
        if why:
            self.troubles[zone] = why
        if why and why != before:
            self._log.warning("blocklist does not answer", blocklist=zone, error=why)
        if before and not why:
            self._log.info("blocklist answers again", blocklist=zone)
