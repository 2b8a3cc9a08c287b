"""dryrun.leaving_out: what a relay.toml has that a dry run does not look at, so that its answer is about another relay.

Said in the answer, and only what this relay.toml has: a list of what is never looked at would be read by nobody. What
holds for every dry run is in docs/simulate.md.
"""

from collections.abc import Iterable, Iterator

from relay.config.models import Config, MxNumbers
from relay.dryrun.machine import STREAM
from relay.dryrun.sources import taking_part

_DEMANDED = ("required", "verified")


def left_out(config: Config) -> tuple[str, ...]:
    """In words that begin with the tables' name; () where there is nothing."""
    return (*_routes(config), *_sources(config), *_tls(config))


def _routes(config: Config) -> Iterator[str]:
    if any(route.credential or route.sender_domain or route.stream not in ("", STREAM) for route in config.route):
        yield f'[[route]]: those of a credential, a sender domain or another stream than "{STREAM}" take no mail'


def _sources(config: Config) -> Iterator[str]:
    part = taking_part(config.source)
    if len(part) < len(config.source):
        yield "[[source]]: providers have no IPv6; addresses of it send nothing, since their pool has others"
    elif any(source.address.version == 6 for source in part):
        yield "[[source]]: providers have no IPv6; addresses of it send as if they were of IPv4"
    if config.source and config.blocklist:
        yield "[[blocklist]]: no address is in one"


def _tls(config: Config) -> Iterator[str]:
    if config.delivery.tls in _DEMANDED or _demands(config.site):
        yield "tls: mail goes in clear text, and none waits for TLS or a certificate"


def _demands(tables: Iterable[MxNumbers]) -> bool:
    return any(table.tls in _DEMANDED for table in tables)
