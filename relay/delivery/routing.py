"""delivery.routing: which way a recipient goes. Pure.

The routes of relay.toml in order, first match wins, direct to MX by default. What a route says is a `Way`; how one
transaction goes is a `Hop`: to the MX hosts of its domain from one of our addresses, or to a smarthost. A way has one
hop or more: the addresses of a pool, or the smarthosts of a route. `delivery.shares` chooses one for each message. A
smarthost may be at a loopback or private address, because the operator wrote it down. "simulator" is the built-in
receiving server, a smarthost on a loopback port that the server fills in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from relay.config import models
from relay.config.models import Route
from relay.config.sources import DEFAULT_POOL, Source
from relay.errors import ConfigError, PermissionRefused
from relay.mail.address import AddressError, ascii_domain


class Direct(Struct, frozen=True, cache_hash=True):
    """To the MX hosts of the recipient's domain. address: ours that it leaves from, "" for the system's choice, which
    may be of either family. hostname: what EHLO says there, "" for the server's.
    """

    address: str = ""
    hostname: str = ""

    @classmethod
    def of(cls, source: Source) -> "Direct":
        return cls(str(source.address), source.hostname)

    def __str__(self) -> str:
        return self.address or "the system's address"

    @property
    def source(self) -> str:
        """Our address that it leaves from, as far as that is chosen here."""
        return self.address

    def reaches(self, address: str) -> bool:
        """Whether it is of our address's family."""
        return not self.address or (":" in self.address) == (":" in address)


class Discard(Struct, frozen=True):
    """Taken and thrown away; journaled as delivered, so that a test set-up shows what it would have sent."""


class Smarthost(Struct, frozen=True, cache_hash=True):
    """host: a DNS name or an address literal without brackets. name: of its table in relay.toml, "" for one without.
    ca: a CA file to trust besides the system's. secret: "" where no login is configured.

    Two that differ in anything share nothing: what one demands of a session another may not. Only the site's name, to
    which the machine's limits belong, is the same after a reload.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    login: str = ""
    secret: str = ""
    name: str = ""
    ca: Path | None = None

    def __repr__(self) -> str:
        """Without the secret: a traceback may show it."""
        return f"Smarthost({self.site!r})"

    def __str__(self) -> str:
        return self.site

    @property
    def source(self) -> str:
        """It knows us by our account, whatever the address."""
        return ""

    @property
    def site(self) -> str:
        """Its name in logs, metrics and commands. Two logins at one host are two sites."""
        if self.name:
            return self.name
        place = f"{self.host}:{self.port}"
        return f"{self.login}@{place}" if self.login else place


Hop = Direct | Smarthost


class Way(Struct, frozen=True, cache_hash=True):
    """One hop or more, all of one kind, in the order of relay.toml, and the share of the messages of each."""

    members: tuple[Hop, ...]
    weights: tuple[int, ...]

    @classmethod
    def of(cls, *members: Hop, weights: tuple[int, ...] = ()) -> "Way":
        """Without weights all goes by the first, while it can."""
        return cls(members, weights or (1, *[0] * (len(members) - 1)))

    @property
    def is_direct(self) -> bool:
        return isinstance(self.members[0], Direct)


DIRECT = Way.of(Direct())


class Traits(Struct, frozen=True):
    """What a route can match on. Domains are lower-case; sender_domain is "" for the null sender."""

    recipient_domain: str
    sender_domain: str
    credential: str
    stream: str


class Routes:
    """The compiled table. smarthosts: by the names that routes give them. sources: our addresses. `simulator_port` is
    where the built-in receiver listens, 0 when it does not run. `smarthosts` has all that a route leads to, each once;
    `pools` has our addresses, by pool; `hops` all that mail may go by;
    `pool_of_smarthosts` our addresses that mail to them leaves from, none where the system chooses.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        smarthosts: Mapping[str, models.Smarthost],
        sources: Sequence[Source] = (),
        *,
        simulator_port: int,
    ) -> None:
        """Raises ConfigError, PermissionRefused for a secret that cannot be read."""
        self.pools = _pools(sources)
        self._default = self.pools.get(DEFAULT_POOL, DIRECT)  # without one, routes leave nothing over for it
        self.pool_of_smarthosts = tuple(
            hop for hop in self._default.members if isinstance(hop, Direct) and hop.address
        )
        named = {name: _named(name, table) for name, table in smarthosts.items()}
        self._table = tuple((_wanted(route), self._way(route, named, simulator_port)) for route in routes)
        ways = [way for _, way in self._table if isinstance(way, Way)]
        hops = dict.fromkeys(member for way in ways for member in way.members)
        self.smarthosts = tuple(hop for hop in hops if isinstance(hop, Smarthost))
        self.hops = frozenset((*hops, *(hop for pool in (self._default, *self.pools.values()) for hop in pool.members)))

    def choose(self, traits: Traits) -> Way | Discard:
        for wanted, way in self._table:
            if _matches(wanted, traits):
                return way
        return self._default

    def _way(self, route: Route, named: Mapping[str, Smarthost], simulator_port: int) -> Way | Discard:
        if route.via == "direct":
            return self.pools[route.pool] if route.pool else self._default
        if route.via == "discard":
            return Discard()
        return _through(route, named, simulator_port)


def _wanted(route: Route) -> Traits:
    """Domains as A-labels; "" matches anything. Raises ConfigError."""
    try:
        recipient_domain, sender_domain = _comparable(route.recipient_domain), _comparable(route.sender_domain)
    except AddressError as error:
        domains = " and ".join(filter(None, (route.recipient_domain, route.sender_domain)))
        raise ConfigError(f"[[route]] for {domains}: {error}", remedy="correct the domain in relay.toml") from None
    return Traits(recipient_domain, sender_domain, route.credential, route.stream)


def _matches(wanted: Traits, traits: Traits) -> bool:
    return (
        wanted.credential in ("", traits.credential)
        and wanted.stream in ("", traits.stream)
        and _domain_matches(wanted.recipient_domain, traits.recipient_domain)
        and _domain_matches(wanted.sender_domain, traits.sender_domain)
    )


def _domain_matches(pattern: str, domain: str) -> bool:
    """Compared as A-labels, as everywhere."""
    if not pattern:
        return True
    domain = _comparable(domain)
    return domain.endswith(pattern[1:]) if pattern.startswith("*.") else domain == pattern


def _comparable(domain: str) -> str:
    domain = domain.lower()
    if domain.isascii():
        return domain
    star = "*." if domain.startswith("*.") else ""
    return star + ascii_domain(domain.removeprefix("*."))


def _named(name: str, table: models.Smarthost) -> Smarthost:
    return Smarthost(
        host=table.host,
        port=table.port,
        security=table.security,
        login=table.login,
        secret=_read_secret(f"[smarthost.{name}]", table.secret_file) if table.secret_file else "",
        name=name,
        ca=table.ca,
    )


def _pools(sources: Sequence[Source]) -> Mapping[str, Way]:
    """In the order of relay.toml."""
    members: dict[str, list[Source]] = {}
    for source in sources:
        members.setdefault(source.pool, []).append(source)
    return {pool: Way.of(*map(Direct.of, of), weights=tuple(e.weight for e in of)) for pool, of in members.items()}


def _through(route: Route, named: Mapping[str, Smarthost], simulator_port: int) -> Way:
    """Smarthosts."""
    if route.smarthosts:
        return Way.of(*(named[name] for name in route.smarthosts), weights=route.weights)
    if route.via == "simulator":
        return Way.of(Smarthost(host="127.0.0.1", port=simulator_port, security="none"))
    host, _, port = str(route.via).removeprefix("smtp://").rpartition(":")
    secret = _read_secret("[[route]]", route.secret_file) if route.secret_file else ""
    return Way.of(Smarthost(host.strip("[]"), int(port), route.security, route.login, secret))


def _read_secret(table: str, path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        kind = PermissionRefused if isinstance(error, PermissionError) else ConfigError
        raise kind(
            f"{table} secret_file: {path} cannot be read: {error.strerror}", remedy="let the relay's user read it"
        ) from error
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise ConfigError(f"{table} secret_file: {path} holds no secret", remedy="write it there, as one line of text")
    return secret
