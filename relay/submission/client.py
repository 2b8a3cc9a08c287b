"""submission.client: who is at the other end of a connection.

One person behind IPv6 has a /64 of addresses at least, so what is counted per address is counted per /64 there; an
IPv4 address that came through a dual-stack socket is the IPv4 address.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from relay.config.values import Network
from relay.registry.usage import network_of


@dataclass(frozen=True, slots=True)
class Client:
    """address: its IP address in text. key: what it is counted under, the address or its IPv6 /64."""

    address: str
    key: str

    def is_in(self, networks: Iterable[Network]) -> bool:
        parsed = ipaddress.ip_address(self.address)
        return any(parsed in network for network in networks)


def client_at(host: str) -> Client:
    """host: as a socket names its peer, perhaps with an IPv6 zone."""
    if ":" not in host:
        return Client(host, host)
    parsed = ipaddress.IPv6Address(host.partition("%")[0])
    address = str(parsed.ipv4_mapped or parsed)
    return Client(address, network_of(address))
