"""cli.blocklist_checks: whether each blocklist of relay.toml answers us as a list in service does, and what it lists.

RFC 5782 5 gives every list two addresses to test it by: one that it must have, and one that it must not.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from relay.cli.finding import Finding, Grade
from relay.cli.invocation import Invocation
from relay.errors import RelayError

if TYPE_CHECKING:
    from relay.config.values import Address
    from relay.resolver import Resolver

_SUBJECT = "blocklist"
_REMEDY = "Correct its zone, ask it through a resolver of your own ([dns] nameservers), or remove the [[blocklist]]."


async def look(here: Invocation) -> AsyncIterator[Finding]:
    from relay.resolver import Resolver

    config = here.config
    try:
        resolver = Resolver(config.dns, here.now)
    except RelayError:
        return  # told with DNS
    addresses = [each.address for each in config.source]
    for each in config.blocklist:
        yield await _unfit(resolver, each.zone, addresses) or await _listed(resolver, each.zone, addresses)


async def _unfit(resolver: "Resolver", zone: str, addresses: "list[Address]") -> Finding | None:
    from relay.delivery.blocklists import LISTED_FOR_TESTS, ask, unfit

    for version in sorted({address.version for address in addresses}):
        why = await unfit(resolver, zone, version=version)
        if why:
            return Finding(Grade.WARNING, _SUBJECT, f"{zone} says nothing: {why}", _REMEDY)
        if not await ask(resolver, zone, LISTED_FOR_TESTS[version]):
            text = f"{zone} has no IPv{version} addresses, and some of ours are"
            return Finding(Grade.WARNING, _SUBJECT, text, "Find another list for these.")
    return None


async def _listed(resolver: "Resolver", zone: str, addresses: "list[Address]") -> Finding:
    from relay.delivery.blocklists import Unknown, ask

    found: dict[Address, tuple[str, ...]] = {}
    for address in addresses:
        answer = await ask(resolver, zone, address)
        if isinstance(answer, Unknown):
            return Finding(Grade.WARNING, _SUBJECT, f"{zone} says nothing: {answer.why}", _REMEDY)
        if answer:
            found[address] = answer
    if not found:
        return Finding(Grade.OK, _SUBJECT, f"{zone} lists none of our addresses")
    listed = " and ".join(f"{address} ({', '.join(codes)})" for address, codes in found.items())
    remedy = "Its pages say what the codes mean, and how to be taken off once the cause is gone."
    return Finding(Grade.WARNING, _SUBJECT, f"{zone} lists {listed}", remedy)
