"""cli.source_checks: whether mail can leave from each [[source]] of relay.toml, and whether receivers will like it.

Large receivers refuse an address whose PTR names no host, or one that is not at that address (RFC 1912 2.1), so both
ways are looked at, and the EHLO name with them. Of an address behind a translation, which is none of the Internet's,
DNS says nothing.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING

from relay.cli.finding import Finding, Grade
from relay.cli.invocation import Invocation
from relay.errors import RelayError

if TYPE_CHECKING:
    from relay.config.models import Config
    from relay.config.sources import Source
    from relay.resolver import Resolver


def on_this_machine(config: "Config") -> Iterator[Finding]:
    """What needs no DNS."""
    from relay.server.machine import why_not_bound

    for source in config.source:
        failure = why_not_bound(source.address)
        if failure:
            remedy = "Correct [[source]] in relay.toml, or add the address; `ip address` lists what there is."
            text = f"{source.address} is no address of this machine: {failure}"
            yield Finding(Grade.ERROR, "source", text, remedy)
    yield from _pools(config)


def _pools(config: "Config") -> Iterator[Finding]:
    from relay.config.sources import DEFAULT_POOL

    used = {DEFAULT_POOL, *(route.pool for route in config.route)}
    for pool in dict.fromkeys(source.pool for source in config.source):
        if pool not in used:
            remedy = f'Name it: via = "direct", pool = "{pool}" under [[route]].'
            yield Finding(Grade.WARNING, "source", f'no route leads to the pool "{pool}"', remedy)
        families = {source.address.version for source in config.source if source.pool == pool}
        if families == {6}:
            remedy = "Add a [[source]] with an IPv4 address, or remove these, so that the system chooses."
            text = f'the pool "{pool}" has IPv6 addresses only; most servers cannot be reached from them'
            yield Finding(Grade.WARNING, "source", text, remedy)


def warm_ups(config: "Config", *, now: float) -> Iterator[Finding]:
    """A pool without a warm address has nobody to take what is over the day's number."""
    from relay.delivery.warming import WarmUps, day_at

    known = WarmUps(config.warm_up, config.source)
    for pool in dict.fromkeys(source.pool for source in config.source):
        members = [str(source.address) for source in config.source if source.pool == pool]
        stages = [known.stage(each, "", (), on=day_at(now)) for each in members]
        if all(stages):
            most = sum(stage.per_day for stage in stages if stage)
            text = f'every address of the pool "{pool}" is in its warm-up: a provider gets {most} messages today'
            yield Finding(Grade.WARNING, "source", text, "What is over that waits. Add an address that is warm.")


async def in_dns(here: Invocation) -> AsyncIterator[Finding]:
    from relay.resolver import Resolver

    try:
        resolver = Resolver(here.config.dns, here.now)
    except RelayError:
        return  # told with the server's name
    for source in here.config.source:
        yield await _names(source, resolver)


async def _names(source: "Source", resolver: "Resolver") -> Finding:
    from relay.resolver import Failure, Found

    name, address = source.hostname, source.address
    if not address.is_global:
        return Finding(Grade.OK, "source", f"{address} is not of the Internet: what it is seen as is not checked")
    pointer, forward = await resolver.ptr(address), await resolver.addresses(name)
    failure = next((answer for answer in (pointer, forward) if isinstance(answer, Failure)), None)
    if failure is not None:
        remedy = "Is the resolver running? [dns] nameservers names others."
        return Finding(Grade.ERROR, "source", f"DNS does not tell of {address}: {failure.text}", remedy)
    names = [str(record) for record in pointer.records] if isinstance(pointer, Found) else []
    addresses = forward.records if isinstance(forward, Found) else ()
    if name.lower() not in (each.lower().rstrip(".") for each in names):
        remedy = f"Have the owner of the network set the PTR of {address} to {name}; or set hostname to what it names."
        return Finding(Grade.WARNING, "source", f"the PTR of {address} {_named(names)}, and not {name}", remedy)
    if address not in addresses:
        remedy = f"Publish an A or AAAA record of {name} with {address}; receivers compare it with the PTR."
        return Finding(Grade.WARNING, "source", f"{name} {_at(list(map(str, addresses)))}, and not {address}", remedy)
    return Finding(Grade.OK, "source", f"{address} is {name}, both ways")


def _named(names: Sequence[str]) -> str:
    return f"names {', '.join(names)}" if names else "names nothing"


def _at(addresses: Sequence[str]) -> str:
    return f"is {', '.join(addresses)}" if addresses else "has no address"
