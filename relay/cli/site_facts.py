"""cli.site_facts: what is known of sites: from every worker of the running server, and from the disk.

A site is told of once for each of our addresses that mail leaves from: what one of them may and meets there is nothing
to another. What waits for it waits for all of them.

Which domain belongs to which site only a server knows, for it asks DNS. What waits for them is counted on disk, so that
nothing is missed that is in no worker's memory.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from relay.cli import invocation, printing, shards
from relay.cli.invocation import Invocation
from relay.errors import NotFound, Unavailable

_DOMAINS = 10_000  # of a shard, those with most recipients, whose last replies are looked at
_NAMED = 10  # domains of a site that are told by name
_STATES = ("sending", "waiting", "idle", "out_of_quota", "in_trouble", "blocked", "resting", "suspended")  # best first


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one site. domains: the names of those most recipients wait for, out of `domain_count`."""

    queued: int = 0
    oldest: float = 0.0
    domains: tuple[str, ...] = ()
    domain_count: int = 0
    last_reply: str = ""


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """One site, from one of our addresses; source is "" where the system chooses, and where nothing goes on.
    counted_as: what its limits are common to, "" where it has them by itself. limits: by name, "value" and "origin".
    resting: why the address sends nowhere. connections, in_turn: open ones, and messages in memory that wait for one,
    of all workers. next_probe_at: POSIX seconds, 0 where it takes mail. out_of_quota: only our quota at a smarthost
    keeps mail from it until then. next_turn_at: until when its pace makes mail wait. suspended: since, until (0 for
    until it is resumed), by, reason. allowed: what its replies have taught, {} where no worker knows. changes: of that,
    the last. breakers: those open: scope ("" for our address), until, cause.
    """

    name: str
    source: str
    mx: list[str]
    profile: str
    counted_as: str
    limits: dict[str, dict[str, Any]]
    waiting: Waiting
    connections: int
    sending: int
    in_turn: int
    resting: str
    next_probe_at: float
    out_of_quota: bool
    next_turn_at: float
    last_error: str
    suspended: dict[str, Any] | None
    allowed: dict[str, float]
    changes: list[dict[str, Any]]
    breakers: list[dict[str, Any]]

    @property
    def state(self) -> str:
        if self.suspended:
            return "suspended"
        if self.resting:
            return "resting"
        if any(not breaker["scope"] for breaker in self.breakers):
            return "blocked"
        if self.next_probe_at:
            return "out_of_quota" if self.out_of_quota else "in_trouble"
        if self.sending:
            return "sending"
        return "waiting" if self.waiting.queued else "idle"

    def as_value(self, *, now: float) -> dict[str, Any]:
        """Stable fields."""
        waiting = self.waiting
        return {
            "site": self.name,
            "mx": self.mx,
            "profile": self.profile,
            "counted_as": self.counted_as or None,
            "limits": self.limits,
            "queued": waiting.queued,
            "oldest_seconds": round(now - waiting.oldest, 3) if waiting.oldest else None,
            "domains": list(waiting.domains),
            "domain_count": waiting.domain_count,
            **self.source_value(now=now),
        }

    def source_value(self, *, now: float) -> dict[str, Any]:
        """Stable fields, of what is the address's alone."""
        return {
            "source": self.source or None,
            "state": self.state,
            "resting": self.resting or None,
            "connections": self.connections,
            "next_probe_at": printing.iso(self.next_probe_at),
            "next_turn_at": printing.iso(self.next_turn_at) if self.next_turn_at > now else None,
            "last_error": self.last_error or None,
            "suspended": suspended_value(self.suspended) if self.suspended else None,
            "allowed": self.allowed or None,
            "changes": [change | {"at": printing.iso(change["at"])} for change in self.changes],
            "breakers": [breaker_value(each) for each in self.breakers],
        }


def breaker_value(breaker: dict[str, Any]) -> dict[str, Any]:
    """Stable fields, of what a worker says of an open one."""
    scope, probe_at = breaker["scope"] or None, printing.iso(breaker["until"])
    return {"scope": scope, "probe_at": probe_at, "cause": breaker["cause"]}


def breaker_words(breaker: dict[str, Any]) -> str:
    """As in "mail of example.com waits for a probe at ...: 550 5.7.515 ..."."""
    whose = f"mail of {breaker['scope']}" if breaker["scope"] else "all mail from our address"
    return f"{whose} waits for a probe at {printing.when(breaker['until'])}: {breaker['cause']}"


def suspended_value(suspended: dict[str, Any]) -> dict[str, Any]:
    """Stable fields, of what a worker says of a suspension."""
    return {
        "since": printing.iso(suspended["since"]),
        "until": printing.iso(suspended["until"]),
        "by": suspended["by"],
        "reason": suspended["reason"] or None,
    }


def suspended_words(suspended: dict[str, Any]) -> str:
    """As in "suspended since ... by root, until it is resumed: their request"."""
    until = printing.when(suspended["until"]) or "it is resumed"
    reason = f": {suspended['reason']}" if suspended["reason"] else ""
    return f"suspended since {printing.when(suspended['since'])} by {suspended['by']}, until {until}{reason}"


@dataclass(slots=True)
class Known:
    """sites: what each worker says of one, by name. site_of: by domain. suspended: by site."""

    sites: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    site_of: dict[str, str] = field(default_factory=dict)
    suspended: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, answer: dict[str, Any]) -> None:
        for site in answer["sites"]:
            self.sites.setdefault(site["name"], []).append(site)
        self.site_of |= answer["site_of"]
        self.suspended |= {each["site"]: each for each in answer.get("suspended", ())}

    def suspension(self, name: str, source: str) -> dict[str, Any] | None:
        """An operator's, of the site, or a rule's, of one of our addresses there."""
        from relay.mail.site import place

        return self.suspended.get(name) or self.suspended.get(place(name, source))

    def meant_by(self, name: str) -> list[str]:
        """The site of this name, else that of this recipient domain, else all that have this MX host."""
        exactly = [site for site in self.sites if site.lower() == name]
        if exactly:
            return exactly
        if self.site_of.get(name) in self.sites:
            return [self.site_of[name]]
        return sorted(site for site, told in self.sites.items() if name in told[0]["mx"])


def every(here: Invocation) -> tuple[list[SiteFacts], Waiting]:
    """All sites the server knows, and what waits for domains of which it has not asked DNS lately. Raises Unavailable
    where no server runs.
    """
    known = _known(here)
    waiting = _waiting(here, known.site_of)
    return _facts(known, waiting), waiting.get("", Waiting())


def at_work(here: Invocation, answers: Collection[dict[str, Any]]) -> tuple[list[SiteFacts], Waiting]:
    """As `every`, by what owners have answered to "status": those where something goes on or mail waits, without their
    MX hosts and limits. Where nobody has, each domain stands for itself.
    """
    known = Known()
    for answer in answers:
        known.add(answer)
    waiting = _waiting(here, known.site_of) if answers else _waiting(here, None)
    for name in waiting.keys() - known.sites.keys() - {""}:
        known.sites[name] = [{"name": name}]
    return _facts(known, waiting), waiting.get("", Waiting())


def meant(here: Invocation, text: str) -> list[SiteFacts]:
    """What a name means: a site of this name, a recipient domain's, or those of an MX host, from each of our addresses.
    Raises NotFound, Unavailable.
    """
    name = _comparable(text)
    found = _known(here, name)
    if not found.meant_by(name):
        found = _looked_up(here, name, text)
    names = found.meant_by(name)
    for site in names:  # other workers may know more domains that belong to it
        told = _known(here, site)
        found.site_of |= told.site_of
        found.sites[site] = told.sites.get(site, found.sites[site])
    found.sites = {site: found.sites[site] for site in names}
    return _facts(found, _waiting(here, found.site_of))


def _known(here: Invocation, name: str = "") -> Known:
    """All sites, or those that may be meant by a name."""
    answers = invocation.run(shards.ask_owners(here, "sites", {"name": name}))
    if all(answer is None for answer in answers.values()):
        raise Unavailable(
            f"no relay runs on {here.spool}, and only a running one knows the sites of domains",
            remedy="Start it. Until then relay queue list --to-domain DOMAIN shows what waits; queue hold keeps it.",
        )
    found = Known()
    for answer in answers.values():
        if answer is not None:
            found.add(answer)
    return found


def _looked_up(here: Invocation, domain: str, text: str) -> Known:
    """By the first worker that answers."""
    from relay.mail.address import AddressError, ascii_domain

    try:
        ascii_domain(domain)
    except AddressError as error:
        raise _names_none(text, str(error)) from None
    answers = invocation.run(shards.ask_owners(here, "look up", {"name": domain}))
    answer: dict[str, Any] = next(
        (each for each in answers.values() if each), {"sites": [], "unresolved": "the server does not answer"}
    )
    if answer.get("unresolved"):
        raise Unavailable(f'the site of "{text}" is not known: {answer["unresolved"]}', remedy="Ask again later.")
    if not answer["sites"]:
        raise _names_none(text, answer["nowhere"])
    found = Known()
    found.add(answer)
    return found


def _names_none(text: str, reason: str) -> NotFound:
    return NotFound(
        f'"{text}" names no site: {reason}',
        remedy="Give a recipient domain, an MX host or a site's name; relay site list shows those there are.",
    )


def _comparable(text: str) -> str:
    """A domain as it is compared; what is none as it stands."""
    from relay.mail.address import AddressError, ascii_domain

    name = text.lower().rstrip(".")
    try:
        return ascii_domain(name)
    except AddressError:
        return name


def _waiting(here: Invocation, site_of: dict[str, str] | None) -> dict[str, Waiting]:
    """By site; under "" all that waits for domains that are not in `site_of`. None: each domain stands for itself."""
    counts: dict[str, dict[str, int]] = {}
    oldest: dict[str, float] = {}
    replies: dict[str, str] = {}
    for reader in shards.readers(here):
        for domain, total in reader.waiting().items():
            site = domain if site_of is None else site_of.get(domain, "")
            domains = counts.setdefault(site, {})
            domains[domain] = domains.get(domain, 0) + total.count
            oldest[site] = min(oldest.get(site, total.oldest), total.oldest)
        for each in reader.domains(_DOMAINS):
            site = each.domain if site_of is None else site_of.get(each.domain, "")
            replies[site] = replies.get(site) or each.last_reply
    return {site: _of_site(domains, oldest[site], replies.get(site, "")) for site, domains in counts.items()}


def _of_site(domains: dict[str, int], oldest: float, last_reply: str) -> Waiting:
    most = sorted(domains, key=lambda domain: (-domains[domain], domain))
    return Waiting(sum(domains.values()), oldest, tuple(most[:_NAMED]), len(most), last_reply)


def _facts(known: Known, waiting: dict[str, Waiting]) -> list[SiteFacts]:
    return [
        _together(of_source, waiting.get(name, Waiting()), known.suspension(name, source))
        for name, told in known.sites.items()
        for source, of_source in _by_source(told).items()
    ]


def _by_source(told: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """What one worker knows of a site without having mail for it says nothing that another does not."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in told:
        found.setdefault(each.get("source", ""), []).append(each)
    if len(found) > 1 and all("couriers" not in each for each in found.get("", [])):
        found.pop("", None)
    return found


def of_all_sources(sites: list[SiteFacts]) -> SiteFacts:
    """One site, from whichever address: as well as it is from the one that is best off there."""
    if len(sites) == 1:
        return sites[0]
    best = min(sites, key=lambda site: _STATES.index(site.state))
    return replace(
        best,
        source="",
        connections=sum(site.connections for site in sites),
        sending=sum(site.sending for site in sites),
        in_turn=sum(site.in_turn for site in sites),
        last_error=_first(site.last_error for site in sites),
        allowed={},
        changes=[],
    )


def _together(told: list[dict[str, Any]], waiting: Waiting, suspended: dict[str, Any] | None) -> SiteFacts:
    """What the workers say of one site."""
    first = told[0]
    return SiteFacts(
        name=first["name"],
        source=first.get("source", ""),
        mx=first.get("mx", []),
        profile=first.get("profile", ""),
        counted_as=first.get("counted_as", ""),
        limits=first.get("limits", {}),
        waiting=waiting,
        connections=sum(each.get("connections", 0) for each in told),
        sending=sum(each.get("couriers", 0) for each in told),
        in_turn=sum(each.get("waiting", 0) for each in told),
        resting=_first(each.get("resting", "") for each in told),
        next_probe_at=min((each["next_probe_at"] for each in told if each.get("in_trouble")), default=0.0),
        out_of_quota=any(each.get("out_of_quota") for each in told),
        next_turn_at=max((each.get("next_turn_at", 0.0) for each in told), default=0.0),
        last_error=_first(each.get("last_error", "") for each in told) or waiting.last_reply,
        suspended=suspended,
        allowed=max((each["allowed"] for each in told if "allowed" in each), key=_connections, default={}),
        changes=_changes(told),
        breakers=_breakers(told),
    )


def _connections(allowed: dict[str, float]) -> float:
    return allowed["connections"]


def _changes(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last ones; workers are told the same, but not all at the same time."""
    return max((each.get("changes", []) for each in told), key=lambda one: one[-1]["at"] if one else 0.0)


def _breakers(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each scope the one that is probed last: each worker has its own."""
    found: dict[str, dict[str, Any]] = {}
    for breaker in sorted((b for each in told for b in each.get("breakers", ())), key=lambda b: float(b["until"])):
        found[breaker["scope"]] = breaker
    return list(found.values())


def _first(texts: Iterable[str]) -> str:
    return next(filter(None, texts), "")
