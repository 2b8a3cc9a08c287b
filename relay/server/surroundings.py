"""server.surroundings: what this machine is called and can reach, looked at again from time to time.

An interface may come up after the start, and an IPv6 route may go: both change where mail may go and by which family
first. IPv6 comes first only where there is a route and the address it would leave from has a PTR, since large
receivers refuse mail over IPv6 without one.
"""

import ipaddress
from collections.abc import Callable

from relay.config.models import Config
from relay.delivery.destination import Machine
from relay.resolver import Found, Resolver
from relay.server.machine import ipv6_source, own_addresses

LOOK_EVERY = 300.0


class Surroundings:
    """`machine()` is what was seen last, under the names it has now; `look` looks."""

    def __init__(self, config: Callable[[], Config], resolver: Resolver) -> None:
        self._config = config
        self._resolver = resolver
        self._addresses = own_addresses()
        self._prefers_ipv6 = False

    def machine(self) -> Machine:
        config = self._config()
        names = frozenset(name.lower() for name in (config.server.hostname, *(each.hostname for each in config.source)))
        return Machine(names, self._addresses, prefers_ipv6=self._prefers_ipv6)

    async def look(self) -> None:
        self._addresses = own_addresses()
        self._prefers_ipv6 = await self._has_ipv6()

    async def _has_ipv6(self) -> bool:
        address = ipv6_source()
        if not address:
            return False
        return isinstance(await self._resolver.ptr(ipaddress.ip_address(address)), Found)
