"""mail.site: the name of a site, the set of MX hosts that limits and connections belong to.

All domains with the same set of MX hosts are one site, whatever the preferences: one set, one name. The name is used
in logs, metrics and commands, so it is stable (the same on every machine, in every release), readable and free of
characters a shell minds:

- one host is its own name: `mx.example.com`;
- several are what their names have in common, their number and twelve hex digits of the SHA-256 of the sorted set:
  `google.com+5-6a4f0c2e91d3`. Where they have less than two labels in common, the first host by name stands for them.

The digits make it unique: with 48 bits, a relay that knows a million sites of the same common name and number of
hosts has a chance of 1 in 500 that any two are taken for one, and then they would merely share their limits.

A site as one of our addresses sees it is a place: `mx.example.com from 203.0.113.10`.
"""

import hashlib
from collections.abc import Sequence


def site_hosts(mx_hosts: Sequence[str]) -> tuple[str, ...]:
    """The hosts that make a site, as they are compared: by name. mx_hosts: as for `site_name`."""
    return tuple(sorted({host.lower().rstrip(".") for host in mx_hosts}))


def site_name(mx_hosts: Sequence[str]) -> str:
    """mx_hosts: names of MX hosts in any order and case, with or without a final dot. Raises ValueError for none."""
    hosts = site_hosts(mx_hosts)
    if not hosts:
        raise ValueError("a site has at least one MX host")
    if len(hosts) == 1:
        return hosts[0]
    digest = hashlib.sha256("\n".join(hosts).encode()).hexdigest()[:12]
    return f"{_common_name(hosts)}+{len(hosts)}-{digest}"


def _common_name(hosts: Sequence[str]) -> str:
    common: list[str] = []
    for labels in zip(*(reversed(host.split(".")) for host in hosts), strict=False):
        if len(set(labels)) > 1:
            break
        common.append(labels[0])
    return ".".join(reversed(common)) if len(common) >= 2 else hosts[0]


def place(name: str, source: str) -> str:
    """Of a site's name, which has no space, and our address; "" where the system chooses it."""
    return f"{name} from {source}" if source else name


def place_parts(place: str) -> tuple[str, str]:
    """The site's name and our address, "" where the place has none."""
    name, _, source = place.partition(" from ")
    return name, source
