"""config.profiles: what a receiving site allows, number by number, and who says so.

A profile belongs to a provider and is found by the name of an MX host: the longest suffix wins, whole labels only, so
that ".mail.protection.outlook.com" is not what ".olc.protection.outlook.com" says, and "notgoogle.com" is not Google.
A host that no profile names has the default. `config.rules` reads them from profiles.toml.

The [[site]] tables of relay.toml come before: the first that fits a site sets what it names; what it does not name
comes from the profile, what that does not name from the default. A smarthost is a site, and its own table, which speaks
of it alone, comes before all. `Limits` has each number with its origin, in words an operator finds again: the table by
its name or its place in relay.toml, the profile by its name.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import Field

from relay.config.models import EhloKeyword, MxNumbers, Numbers, Site, Smarthost, SmarthostNumbers, TlsNeed
from relay.mail.address import ascii_domain


class Profile(MxNumbers):
    """What is known of one provider's limits, for one source address, machine-wide. scope: whether each of its sites
    has them by itself, or all of them together.
    """

    name: str = Field(min_length=1)
    mx_suffixes: tuple[str, ...] = Field(default=())
    scope: Literal["site", "provider"] = "site"


DEFAULT = "default"

# Of what not even the default says.
_LAST = SmarthostNumbers(
    connections=10,
    messages_per_connection=50,
    messages_per_second=0.0,
    messages_per_minute=0,
    messages_per_hour=0,
    messages_per_day=0,
    recipients=100,
    idle=30.0,
    discard_ehlo_keywords=(),
)
_TLS: TlsNeed = "opportunistic"
# Of a smarthost, before the default: providers take less at once than the 100 recipients of RFC 5321 4.5.3.1.8.
_SMARTHOST = SmarthostNumbers(recipients=50)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one site allows. profile: its name. messages_per_second, _minute, _hour and _day: 0 for no limit; the day's
    is a smarthost's. recipients: in one transaction. idle: seconds. discard_ehlo_keywords: what is offered and not
    used. tls: of MX hosts. origins: where each of them comes from, by the names of those that its kind of site has.
    counted_as: the name under which all sites that have them together are counted, "" where the site has them by
    itself.
    """

    profile: str
    connections: int
    messages_per_connection: int
    messages_per_second: float
    messages_per_minute: int
    messages_per_hour: int
    messages_per_day: int
    recipients: int
    idle: float
    discard_ehlo_keywords: tuple[EhloKeyword, ...]
    tls: TlsNeed
    origins: Mapping[str, str]
    counted_as: str = ""

    @property
    def provider(self) -> str:
        """Whose profile it is; "" for one that nobody has a profile for."""
        return "" if self.profile == DEFAULT else self.profile


@dataclass(frozen=True, slots=True)
class Profiles:
    """by_suffix: "google.com" → its profile; suffixes without the leading dot, lower-case."""

    default: Profile
    by_suffix: Mapping[str, Profile]

    def for_host(self, mx_host: str) -> Profile:
        """The profile of an MX host by its name, in any case, with or without a final dot."""
        rest = bare(mx_host)
        while rest:
            profile = self.by_suffix.get(rest)
            if profile is not None:
                return profile
            rest = rest.partition(".")[2]
        return self.default

    def for_hosts(self, mx_hosts: Sequence[str]) -> Profile:
        """The profile of the first that has one of its own."""
        found = (self.for_host(host) for host in mx_hosts)
        return next((profile for profile in found if profile is not self.default), self.default)


@dataclass(frozen=True, slots=True)
class SiteRules:
    """sites: the [[site]] tables, in the order of relay.toml. smarthosts: the tables of those, by name. tls: what
    [delivery] says, of MX hosts of which nobody else says it.
    """

    profiles: Profiles
    sites: tuple[Site, ...] = ()
    smarthosts: Mapping[str, Smarthost] = field(default_factory=dict)
    tls: TlsNeed = _TLS

    @property
    def domains(self) -> frozenset[str]:
        """Those that [[site]] tables name, as A-labels."""
        return frozenset(_domain(site) for site in self.sites if site.domain)

    def limits(self, mx_hosts: Sequence[str], *, domains: Collection[str] = (), smarthost: str = "") -> Limits:
        """mx_hosts: of the site, by name. domains: which of `domains` have just these MX hosts. smarthost: the name of
        its table, where the site has one.
        """
        profile = self.profiles.for_hosts(mx_hosts)
        table = self.smarthosts.get(smarthost)
        layers: list[tuple[str, Numbers]] = []
        if table is not None:
            layers.append((f"[smarthost.{smarthost}] in relay.toml", table))
        site = next((each for each in enumerate(self.sites, start=1) if _fits(each[1], mx_hosts, domains)), None)
        if site is not None:
            layers.append((_words(*site), site[1]))
        if profile is not self.profiles.default:
            layers.append((f'profile "{profile.name}"', profile))
        if table is not None:
            layers.append(("default of smarthosts", _SMARTHOST))
        of_delivery = "default" if self.tls == _TLS else "[delivery] in relay.toml"
        layers += [("default", self.profiles.default), ("default", _LAST), (of_delivery, MxNumbers(tls=self.tls))]
        limits = _limits(profile.name, layers, told=MxNumbers if table is None else SmarthostNumbers)
        if profile.scope == "site":
            return limits
        return replace(limits, counted_as=_together(profile, site[1] if site else None))


def bare(name: str) -> str:
    """A host's or domain's name, or a suffix of one, as names are compared."""
    return name.lower().strip(".")


def is_below(host: str, suffix: str) -> bool:
    """Whole labels only; a name is below itself."""
    return f".{bare(host)}".endswith(f".{bare(suffix)}")


def _fits(site: Site, mx_hosts: Sequence[str], domains: Collection[str]) -> bool:
    if site.domain:
        return _domain(site) in domains
    return any(is_below(host, site.mx_suffix) for host in mx_hosts)


def _domain(site: Site) -> str:
    return ascii_domain(bare(site.domain))


def _together(profile: Profile, site: Site | None) -> str:
    """Those of a provider's sites that have the same numbers are counted together: a [[site]] table that fits some of
    them has taken these out. One that names a domain is for one site.
    """
    if site is None:
        return f"provider {profile.name}"
    return f"provider {profile.name} at {bare(site.mx_suffix)}" if site.mx_suffix else ""


def _words(number: int, site: Site) -> str:
    which = f'domain = "{site.domain}"' if site.domain else f'mx_suffix = "{site.mx_suffix}"'
    return f"[[site]] {number} in relay.toml: {which}"


def _limits(profile: str, layers: Sequence[tuple[str, Numbers]], *, told: type[Numbers]) -> Limits:
    """Each number from the first layer that names it."""
    found = {name: next(_named(layers, name)) for name in (*SmarthostNumbers.model_fields, "tls")}
    values = {name: value for name, (_, value) in found.items()}
    origins = {name: found[name][0] for name in told.model_fields}
    return Limits(profile=profile, **values, origins=origins)


def _named(layers: Sequence[tuple[str, Numbers]], name: str) -> Iterator[tuple[str, Any]]:
    values = ((origin, getattr(numbers, name, None)) for origin, numbers in layers)
    return ((origin, value) for origin, value in values if value is not None)
