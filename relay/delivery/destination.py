"""delivery.destination: where a domain's mail goes, from DNS.

RFC 5321 5.1: MX hosts by preference, equals shuffled, ourselves and worse dropped; the domain itself only when it has
no MX at all; RFC 7505: a null MX takes no mail. What a domain's DNS says is a value here: `Destination`,
`Undeliverable` (a bounce, with the reply that a report will carry) or `Unresolved` (try later). NXDOMAIN and a null
MX are the domain's own word; SERVFAIL, a timeout or an address we may not dial are not, and never end a recipient.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from relay.config.models import Delivery
from relay.config.values import Address
from relay.delivery.dialling import refusal
from relay.delivery.routing import Smarthost
from relay.mail.address import AddressError, ascii_domain, is_literal
from relay.mail.reply import Reply
from relay.mail.site import site_hosts, site_name
from relay.resolver import AddressAnswer, Failure, Found, MxAnswer, MxHost, NoDomain, NoRecords, NullMx

MOST_HOSTS = 20  # of a domain that are looked up: whoever owns it says how many there are


@dataclass(frozen=True, slots=True)
class Host:
    """One MX host or smarthost and the addresses it may be dialled at, in the order to try."""

    name: str
    addresses: tuple[str, ...]
    port: int
    preference: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """site: the name limits belong to. hosts: those to try, best first. mx: the names of all that make the site."""

    site: str
    hosts: tuple[Host, ...]
    mx: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all hosts, in the order to try."""
        return tuple([address for host in self.hosts for address in host.addresses])

    @property
    def best(self) -> frozenset[str]:
        """The names of the hosts that are preferred to the others."""
        return frozenset(host.name for host in self.hosts if host.preference == self.hosts[0].preference)


NOWHERE_YET = Destination("", ())


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """The domain's DNS says that it takes no mail. bad_domain: evidence enough to suppress for a while."""

    reply: Reply
    bad_domain: bool


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Nobody could say; try later. detail: what failed, in words."""

    detail: str


Answer = Found[Address] | NoRecords | NoDomain | Failure
Resolution = Destination | Undeliverable | Unresolved


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine is called and where it can be reached: what must not be delivered to.

    names: lower-case host names. addresses: of its interfaces. prefers_ipv6: a route and a PTR exist.
    """

    names: frozenset[str]
    addresses: frozenset[Address]
    prefers_ipv6: bool


class Names(Protocol):
    """What is asked of DNS: a `Resolver`, but for a dry run. Names are A-labels."""

    async def mx(self, domain: str) -> MxAnswer: ...

    async def addresses(self, host: str) -> AddressAnswer: ...


class Destinations:
    """Looks destinations up. Caching is the resolver's."""

    def __init__(self, resolver: Names, settings: Delivery, machine: Callable[[], Machine], random: Random) -> None:
        self._resolver = resolver
        self._settings = settings
        self._machine = machine
        self._random = random

    def reconfigure(self, settings: Delivery) -> None:
        """For what is looked up from now on."""
        self._settings = settings

    async def of_domain(self, domain: str) -> Resolution:
        """The MX hosts of a recipient's domain (lower-case, U- or A-labels, or an address literal)."""
        if is_literal(domain):
            return self._of_literal(domain)
        try:
            name = ascii_domain(domain)
        except AddressError as error:
            return Undeliverable(Reply(550, "5.1.2", f"{domain} cannot be a domain: {error}"), bad_domain=False)
        answer = await self._resolver.mx(name)
        match answer:
            case Found(records=records):
                return await self._of_hosts(name, records)
            case NoRecords():
                return await self._of_hosts(name, (MxHost(0, name),), implicit=True)
            case NullMx():
                return Undeliverable(Reply(556, "5.1.10", f"{domain} does not accept mail (null MX)"), bad_domain=True)
            case NoDomain():
                return Undeliverable(Reply(550, "5.1.2", f"{domain} does not exist"), bad_domain=True)
            case Failure(text=text):
                return Unresolved(text)

    async def of_smarthost(self, smarthost: Smarthost) -> Resolution:
        """A host named by the operator: any address will do."""
        host, port, site = smarthost.host, smarthost.port, smarthost.site
        try:
            return Destination(site, (Host(host, (str(ipaddress.ip_address(host)),), port),), site_hosts([host]))
        except ValueError:
            pass  # a name, not a literal
        answer = await self._resolver.addresses(host)
        if isinstance(answer, Found):
            return Destination(site, (Host(host, self._ordered(answer.records), port),), site_hosts([host]))
        return Unresolved(
            answer.text if isinstance(answer, Failure) else f"{host}, named in relay.toml, has no address"
        )

    def _of_literal(self, domain: str) -> Resolution:
        address = literal_address(domain)
        reason = refusal(address, allowed=self._settings.allow_networks, own=self._machine().addresses)
        if reason:
            return Unresolved(reason)
        return Destination(domain, (Host(str(address), (str(address),), self._settings.port),), (str(address),))

    async def _of_hosts(self, domain: str, records: Sequence[MxHost], *, implicit: bool = False) -> Resolution:
        others = _without_ourselves(self._by_preference(records), self._machine().names)
        answers = await self._answers(others)
        better = self._better_than_us(answers)
        if not better:
            return _loops_back(domain)
        found = _found(better)
        failed = [answer.text for _, answer in better if isinstance(answer, Failure)]
        if implicit and not found and not failed:
            return Undeliverable(
                Reply(550, "5.4.4", f"{domain} has neither an MX nor an address record"), bad_domain=False
            )
        hosts, refused = self._dialable(found)
        if hosts:
            mx = site_hosts([record.name for record in others])
            return Destination(site_name(mx), hosts, mx)
        names = ", ".join(record.name for record, _ in answers)
        return Unresolved("; ".join([*refused, *failed]) or f"no MX host of {domain} has an address ({names})")

    async def _answers(self, records: Sequence[MxHost]) -> list[tuple[MxHost, Answer]]:
        """The best hosts' addresses: of as many hosts as it takes to have the addresses that one attempt may try."""
        answers: list[tuple[MxHost, Answer]] = []
        at_once = self._settings.addresses
        for start in range(0, min(len(records), MOST_HOSTS), at_once):
            some = records[start : start + at_once]
            answers += zip(
                some, await asyncio.gather(*(self._resolver.addresses(each.name) for each in some)), strict=True
            )
            hosts, _ = self._dialable(_found(answers))
            if sum(len(host.addresses) for host in hosts) >= at_once:
                break
        return answers

    def _better_than_us(self, answers: list[tuple[MxHost, Answer]]) -> list[tuple[MxHost, Answer]]:
        """RFC 5321 5.1, by address: a host that is this machine, and every one that is no better, is dropped."""
        ours = [
            record.preference
            for record, answer in answers
            if isinstance(answer, Found) and self._is_ours(answer.records)
        ]
        return [(record, answer) for record, answer in answers if not ours or record.preference < min(ours)]

    def _dialable(self, found: Sequence[tuple[MxHost, Sequence[Address]]]) -> tuple[tuple[Host, ...], list[str]]:
        """The hosts with an address that may be dialled, and why the other addresses may not."""
        own = self._machine().addresses
        hosts: list[Host] = []
        refused: list[str] = []
        for record, addresses in found:
            reasons = {
                address: refusal(address, allowed=self._settings.allow_networks, own=own) for address in addresses
            }
            refused += [reason for reason in reasons.values() if reason]
            usable = [address for address, reason in reasons.items() if not reason]
            if usable:
                hosts.append(Host(record.name, self._ordered(usable), self._settings.port, record.preference))
        return tuple(hosts), refused

    def _by_preference(self, records: Sequence[MxHost]) -> list[MxHost]:
        shuffled = list(records)
        self._random.shuffle(shuffled)
        return sorted(shuffled, key=lambda record: record.preference)

    def _is_ours(self, addresses: Collection[Address]) -> bool:
        own = self._machine().addresses
        return any(address in own and not self._allowed(address) for address in addresses)

    def _allowed(self, address: Address) -> bool:
        return any(
            address.version == network.version and address in network for network in self._settings.allow_networks
        )

    def _ordered(self, addresses: Sequence[Address]) -> tuple[str, ...]:
        first = 6 if self._prefers_ipv6() else 4
        return tuple(str(address) for address in sorted(addresses, key=lambda address: address.version != first))

    def _prefers_ipv6(self) -> bool:
        if self._settings.ipv6 == "auto":
            return self._machine().prefers_ipv6
        return self._settings.ipv6 == "prefer"


def literal_address(domain: str) -> Address:
    """The address of "[192.0.2.1]" or "[IPv6:2001:db8::1]", as `mail.address` took it (RFC 5321 4.1.3)."""
    return ipaddress.ip_address(domain[1:-1].lower().removeprefix("ipv6:"))


def _found(answers: Sequence[tuple[MxHost, Answer]]) -> list[tuple[MxHost, Sequence[Address]]]:
    return [(record, answer.records) for record, answer in answers if isinstance(answer, Found)]


def _without_ourselves(ordered: Sequence[MxHost], names: Collection[str]) -> list[MxHost]:
    """RFC 5321 5.1: if we are in the list, drop ourselves and every host of the same or worse preference."""
    ours = [record.preference for record in ordered if record.name.lower().rstrip(".") in names]
    return [record for record in ordered if not ours or record.preference < min(ours)]


def _loops_back(domain: str) -> Undeliverable:
    text = f"mail for {domain} loops back to this relay: it is the domain's best MX host but not its final destination"
    return Undeliverable(Reply(550, "5.4.6", text), bad_domain=False)
