"""dryrun.sources: the addresses of [[source]], as a dry run has them: a loopback address for each, as any machine has.

Simulated providers have IPv4 addresses alone. So IPv6 addresses of ours are left out where their pool has others, as a
provider that has both gets its mail over one; where it has none they take part as if they were of IPv4.
"""

from collections.abc import Sequence
from ipaddress import ip_address

from msgspec import Struct

from relay.config.sources import Source

_FIRST = ip_address("127.128.0.1")


class Address(Struct, frozen=True):
    """One of ours. name: as relay.toml has it. bound: instead of it."""

    name: str
    bound: str
    pool: str


def addresses(sources: Sequence[Source]) -> list[Address]:
    """Of those that take part."""
    return [
        Address(str(source.address), str(_FIRST + number), source.pool)
        for number, source in enumerate(taking_part(sources))
    ]


def taking_part(sources: Sequence[Source]) -> list[Source]:
    with_ipv4 = {source.pool for source in sources if source.address.version == 4}
    return [source for source in sources if source.address.version == 4 or source.pool not in with_ipv4]


def standing_in(sources: Sequence[Source]) -> list[Source]:
    """Those that take part, at their stand-ins."""
    pairs = zip(taking_part(sources), addresses(sources), strict=True)
    return [source.model_copy(update={"address": ip_address(each.bound)}) for source, each in pairs]
