"""config.consistency: what relay.toml must keep to beyond its single values, found without asking any other machine.

Each check yields Problems. They are about safety (an open relay, HTTP for everyone) or about contradictions (a route
for a stream nobody has, two listeners on one port) that would show only when it is too late.
"""

import ipaddress
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta

from relay.config.lines import KeyPath
from relay.config.models import SMARTHOST_NAME, Config, MxNumbers, Route, Site, Trusted
from relay.config.problem import Problem
from relay.config.profiles import bare, is_below
from relay.config.sources import DEFAULT_POOL
from relay.config.values import Network, format_duration
from relay.mail.address import AddressError, ascii_domain

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
_FIRST_WARM_UP = date(2026, 1, 1)
_AHEAD = timedelta(days=366)
_WIDEST = {4: 16, 6: 48}  # prefix lengths of one site
_HOSTNAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")


def streams(config: Config) -> tuple[str, ...]:
    """The names a credential or a route may give for a stream."""
    return tuple(dict.fromkeys((*BUILT_IN_STREAMS, *config.stream)))


def contradictions(config: Config, *, today: date) -> Iterator[Problem]:
    """All that is wrong with a config whose single values are right. today: of UTC."""
    yield from _hostnames(config)
    yield from _listeners(config)
    for index, trusted in enumerate(config.submission.trusted):
        yield from _trusted(trusted, ("submission", "trusted", index))
    yield from _blocklists(config)
    yield from _smarthosts(config)
    yield from _sources(config)
    yield from _warm_ups(config, today)
    yield from _routes(config)
    yield from _sites(config)
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


def _blocklists(config: Config) -> Iterator[Problem]:
    zones: set[str] = set()
    for index, each in enumerate(config.blocklist):
        path = ("blocklist", index, "zone")
        zone = bare(each.zone)
        if not _HOSTNAME.fullmatch(zone) or "." not in zone:
            yield Problem(path, 'write the name of its zone, such as "zen.spamhaus.org"')
        elif zone in zones:
            yield Problem(path, "it is named twice; keep one of the tables")
        elif not config.source:
            text = "there is no [[source]] whose address could be looked up; add one for the address that you send from"
            yield Problem(path, text)
        zones.add(zone)


def _routes(config: Config) -> Iterator[Problem]:
    known = streams(config)
    for index, route in enumerate(config.route):
        if route.stream and route.stream not in known:
            text = f"there is no such stream; the streams are {', '.join(known)} (add [stream.{route.stream}] for it)"
            yield Problem(("route", index, "stream"), text)
        for name in route.smarthosts:
            if name not in config.smarthost:
                text = f"there is no [smarthost.{name}]; add it" + _or_named(config.smarthost)
                yield Problem(("route", index, "via"), text)
        if str(route.via).startswith("smtp://") and not 0 < int(str(route.via).rpartition(":")[2]) < 65536:
            yield Problem(("route", index, "via"), "write a port from 1 to 65535")


def _sources(config: Config) -> Iterator[Problem]:
    """An address is there once; each pool can be shared among its addresses; mail that goes by a pool finds it."""
    first: dict[str, int] = {}
    for index, source in enumerate(config.source):
        first.setdefault(source.pool, index)
        if source.address in [other.address for other in config.source[:index]]:
            text = "it is there twice; a [[source]] has one pool, and more than one route can name it"
            yield Problem(("source", index, "address"), text)
        if _cannot_be_a_hosts(source.address):
            text = "no mail can leave from it; write an address that this machine has, of IPv4 or of IPv6"
            yield Problem(("source", index, "address"), text)
        elif source.address.version == 6 and (source.address.is_link_local or source.address.scope_id):
            # RFC 4291 2.5.6: no router forwards what comes from there, and nothing is bound without its interface.
            text = "it is of one link alone, and no mail leaves that; write a global address of this machine"
            yield Problem(("source", index, "address"), text)
    for pool, index in first.items():
        if not any(source.weight for source in config.source if source.pool == pool):
            text = f'no address of the pool "{pool}" has a share; give one of them a weight of 1 or more'
            yield Problem(("source", index, "weight"), text)
    yield from _pools(config, tuple(first))


def _warm_ups(config: Config, today: date) -> Iterator[Problem]:
    """A day that is none of a warm-up is a slip of the pen: the address would send without a limit, or nothing."""
    for index, source in enumerate(config.source):
        if source.warm_up is not None and source.warm_up < _FIRST_WARM_UP:
            text = (
                "it is before Relay had warm-ups, so the address would be warm; write the day on which it begins, or"
                " leave it out for an address that is known already"
            )
            yield Problem(("source", index, "warm_up"), text)
        if source.warm_up is not None and source.warm_up > today + _AHEAD:
            text = (
                f"it is more than a year from now ({today}), and the address would send nothing until then; write the"
                " day on which its warm-up begins"
            )
            yield Problem(("source", index, "warm_up"), text)


def _cannot_be_a_hosts(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Any address, all of them, or an IPv4 address in IPv6 form, which reaches no IPv6 host."""
    is_mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    return address.is_unspecified or address.is_multicast or is_mapped or str(address) == "255.255.255.255"


def _pools(config: Config, pools: Sequence[str]) -> Iterator[Problem]:
    named = f"; name one of {', '.join(pools)}" if pools else ""
    for index, route in enumerate(config.route):
        if route.pool and route.pool not in pools:
            yield Problem(("route", index, "pool"), f'no [[source]] has pool = "{route.pool}"{named}')
    if pools and DEFAULT_POOL not in pools and not _leave_nothing_over(config.route):
        text = (
            'no [[source]] has pool = "default", which has all mail that no route sends elsewhere; give one of them'
            " that pool, or end the routes with one that matches everything and names another"
        )
        yield Problem(("source", 0), text)


def _leave_nothing_over(routes: Sequence[Route]) -> bool:
    """No direct mail is left for the default pool."""
    takes_all = (
        not (each.recipient_domain or each.sender_domain or each.credential or each.stream) for each in routes
    )
    return any(takes_all) and all(route.pool or route.via != "direct" for route in routes)


def _or_named(smarthosts: Iterable[str]) -> str:
    names = ", ".join(smarthosts)
    return f", or name one of {names}" if names else ""


def _smarthosts(config: Config) -> Iterator[Problem]:
    for name, smarthost in config.smarthost.items():
        if not SMARTHOST_NAME.fullmatch(name):
            text = "name it with small letters, digits, - and _, and not direct, discard or simulator"
            yield Problem(("smarthost", name), text)
        if not (_HOSTNAME.fullmatch(smarthost.host.lower()) or _is_address(smarthost.host)):
            text = 'write a name such as "smtp.example.net", or an address; its port is a key of its own'
            yield Problem(("smarthost", name, "host"), text)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _sites(config: Config) -> Iterator[Problem]:
    """Each table must name sites and limits, and must be able to win over those before it."""
    before: list[Site] = []
    for index, site in enumerate(config.site):
        problem = _names_of(site) or _limits_of(site) or _in_vain(site, before)
        if problem:
            key, text = problem
            yield Problem(("site", index, key) if key else ("site", index), text)
        before.append(site)


def _names_of(site: Site) -> tuple[str, str] | None:
    """The key that is wrong, "" for the table, and what to do."""
    if bool(site.mx_suffix) == bool(site.domain):
        return "", "say which sites are meant by mx_suffix or by domain, by one of the two"
    if site.mx_suffix and not _HOSTNAME.fullmatch(bare(site.mx_suffix)):
        return "mx_suffix", 'write a host name or its end, such as "mx.example.com" (an IDN as its xn-- form)'
    if site.domain and not _is_domain(site.domain):
        return "domain", 'write a recipient domain, such as "example.com"'
    return None


def _is_domain(text: str) -> bool:
    try:
        ascii_domain(bare(text))
    except AddressError:
        return False
    return True


def _limits_of(site: Site) -> tuple[str, str] | None:
    if all(getattr(site, name) is None for name in MxNumbers.model_fields):
        return "", f"it names no limit; add one of {', '.join(MxNumbers.model_fields)}, or remove the table"
    return None


def _in_vain(site: Site, before: Sequence[Site]) -> tuple[str, str] | None:
    key = "domain" if site.domain else "mx_suffix"
    for number, other in enumerate(before, start=1):
        if site.domain and other.domain and bare(site.domain) == bare(other.domain):
            return key, f"[[site]] {number} names the same domain and wins; keep one of them"
        if site.mx_suffix and other.mx_suffix and is_below(site.mx_suffix, other.mx_suffix):
            return key, f'[[site]] {number} wins, for its "{other.mx_suffix}" fits the same hosts; put this table first'
    return None


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
