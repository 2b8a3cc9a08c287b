"""config.consistency: what relay.toml must keep to beyond its single values, found without asking any other machine.

Each check yields Problems. They are about safety (an open relay, HTTP for everyone) or about contradictions (a route
for a stream nobody has, two listeners on one port) that would show only when it is too late.
"""

import ipaddress
import itertools
import math
import re
from collections.abc import Iterator

from relay.config.lines import KeyPath
from relay.config.models import Config, Network, Trusted, format_duration
from relay.config.problem import Problem

BUILT_IN_STREAMS = ("transactional", "bulk")

# Addresses no stranger can have (RFC 1918, RFC 4193, loopback, link-local). Not CGNAT: that is shared with strangers.
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
_WIDEST = {4: 16, 6: 48}  # prefix lengths of one site
_HOSTNAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")


def streams(config: Config) -> tuple[str, ...]:
    """The names a credential or a route may give for a stream."""
    return tuple(dict.fromkeys((*BUILT_IN_STREAMS, *config.stream)))


def contradictions(config: Config) -> Iterator[Problem]:
    """All that is wrong with a config whose single values are right."""
    yield from _hostnames(config)
    yield from _listeners(config)
    for index, trusted in enumerate(config.submission.trusted):
        yield from _trusted(trusted, ("submission", "trusted", index))
    yield from _routes(config)
    yield from _http(config)
    yield from _retention(config)


def _hostnames(config: Config) -> Iterator[Problem]:
    names: list[tuple[KeyPath, str]] = [(("server", "hostname"), config.server.hostname)]
    names += [(("source", index, "hostname"), source.hostname) for index, source in enumerate(config.source)]
    for path, name in names:
        if not _HOSTNAME.fullmatch(name.lower()):
            text = "write a host name of letters, digits, hyphens and dots (an IDN as its xn-- form)"
            yield Problem(path, text)


def _listeners(config: Config) -> Iterator[Problem]:
    """Two listeners on one port of one address: the second could not be bound. ("[::]" here is IPv6 only.)"""
    submission = config.submission
    listeners: list[tuple[KeyPath, str]] = [
        *((("submission", "starttls", index), listen) for index, listen in enumerate(submission.starttls)),
        *((("submission", "tls", index), listen) for index, listen in enumerate(submission.tls)),
        *((("submission", "trusted", index, "listen"), one.listen) for index, one in enumerate(submission.trusted)),
        (("http", "listen"), config.http.listen),
    ]
    for (_, first), (path, second) in itertools.combinations(listeners, 2):
        if _overlap(first, second):
            text = f'"{second}" and "{first}" cannot both listen; give one of them another port or address'
            yield Problem(path, text, names_value=True)


def _overlap(first: str, second: str) -> bool:
    (host, port), (other_host, other_port) = listen_address(first), listen_address(second)
    if port != other_port or port == 0 or host.version != other_host.version:
        return False
    return host == other_host or host.is_unspecified or other_host.is_unspecified


def listen_address(listen: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """The two parts of "[::1]:587": (IPv6Address("::1"), 587)."""
    host, _, port = listen.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")), int(port)


def _trusted(trusted: Trusted, path: KeyPath) -> Iterator[Problem]:
    for index, network in enumerate(trusted.networks):
        yield from _trusted_network(network, (*path, "networks", index))
    host, _ = listen_address(trusted.listen)
    if not host.is_loopback and trusted.behind_nat != "accepted":
        text = (
            f'"{trusted.listen}" is not loopback, and behind a container\'s proxy the whole Internet may look like one'
            ' private address; listen on 127.0.0.1, or set behind_nat = "accepted" if no such proxy is in front'
        )
        yield Problem((*path, "listen"), text, names_value=True)


def _trusted_network(network: Network, path: KeyPath) -> Iterator[Problem]:
    home = next(
        (private for private in _PRIVATE if private.version == network.version and _within(network, private)), None
    )
    if home is None:
        text = f'"{network}" is public: everyone in it could send without a password; give those clients a credential'
        yield Problem(path, text, names_value=True)
    elif not network.is_loopback and network.prefixlen < _WIDEST[network.version]:
        text = f'"{network}" is wider than /{_WIDEST[network.version]}; name the networks your clients are really in'
        yield Problem(path, text, names_value=True)


def _within(network: Network, other: Network) -> bool:
    return network.network_address in other and network.prefixlen >= other.prefixlen


def _routes(config: Config) -> Iterator[Problem]:
    known = streams(config)
    for index, route in enumerate(config.route):
        if route.stream and route.stream not in known:
            text = f"there is no such stream; the streams are {', '.join(known)} (add [stream.{route.stream}] for it)"
            yield Problem(("route", index, "stream"), text)
        if route.via.startswith("smtp://") and not 0 < int(route.via.rpartition(":")[2]) < 65536:
            yield Problem(("route", index, "via"), "write a port from 1 to 65535")


def _http(config: Config) -> Iterator[Problem]:
    host, _ = listen_address(config.http.listen)
    if not host.is_loopback and config.http.token_file is None:
        text = (
            f'"{config.http.listen}" is not loopback: everyone could read the metrics; listen on 127.0.0.1, or set'
            " token_file to a file with a bearer token"
        )
        yield Problem(("http", "listen"), text, names_value=True)


def _retention(config: Config) -> Iterator[Problem]:
    longest = max([config.delivery.retry.expire, *(stream.expire for stream in config.stream.values())])
    if config.journal.retention_days * 86400 < longest + 86400:
        days = math.ceil(longest / 86400) + 1
        text = (
            f"mail may wait {format_duration(longest)}, and what became of it would be forgotten before its end;"
            f" write {days} or more"
        )
        yield Problem(("journal", "retention_days"), text)
