"""delivery.dialling: which addresses may be connected to. Pure.

A sender chooses the recipient's domain, and whoever owns that domain chooses its addresses; without this check a
relay can be made to talk SMTP to the machines of its own network (RFC 5321 7.8 speaks of the like). Checked on the
address dialled, after DNS, and through the disguises an IPv4 address can wear in IPv6. An operator's `allow_networks`
has the last word.
"""

import ipaddress
from collections.abc import Collection, Sequence

from relay.config.values import Address, Network

_CGNAT = ipaddress.ip_network("100.64.0.0/10")  # RFC 6598
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")  # RFC 3879


def refusal(address: Address, *, allowed: Sequence[Network], own: Collection[Address]) -> str:
    """Why `address` is not connected to; "" when it may be."""
    if any(address.version == network.version and address in network for network in allowed):
        return ""
    for candidate in _disguises(address):
        reason = _reason(candidate, own)
        if reason:
            return f"{address} is {reason}; delivery.allow_networks does not have it"
    return ""


def _disguises(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    inner = [mapped for mapped in (address.ipv4_mapped, address.sixtofour) if mapped is not None]
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [*inner, address]


def _reason(address: Address, own: Collection[Address]) -> str:
    if address in own:
        return "one of our own addresses"
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if isinstance(address, ipaddress.IPv4Address) and address in _CGNAT:
        return "a carrier-grade NAT address"
    if isinstance(address, ipaddress.IPv6Address) and (address in _SITE_LOCAL):
        return "a site-local address"
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return ""
    return "a private or reserved address" if address.is_private or address.is_reserved else ""
