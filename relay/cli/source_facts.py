"""cli.source_facts: what is known of our addresses: from relay.toml, and from every worker of the running server."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relay.cli import invocation, printing, shards
from relay.cli.invocation import Invocation
from relay.errors import NotFound, UsageError

if TYPE_CHECKING:
    from relay.config.sources import Source


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One address. told: by each worker that knows it. schedule: of its warm-up, as relay.toml has it: begins, day,
    days, per_day; {} without one. blocklists: why one says nothing, by zone, "" where it does.
    """

    source: "Source"
    told: list[dict[str, Any]]
    schedule: dict[str, Any]
    blocklists: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.source.address)

    @property
    def rests(self) -> dict[str, Any] | None:
        """Why, and until when."""
        return next((each["rests"] for each in self.told if each["rests"]), None)

    @property
    def listings(self) -> list[dict[str, Any]]:
        """By zone, as the worker says that has known it longest."""
        found: dict[str, dict[str, Any]] = {}
        for each in sorted(_every(self.told, "listings"), key=lambda listing: -float(listing["since"])):
            found[each["zone"]] = each
        return [found[zone] for zone in sorted(found)]

    @property
    def progress(self) -> list[dict[str, Any]]:
        """Of its warm-up, by provider. All workers say the same, for one counts."""
        return next((each["warm_up"] for each in self.told if each["warm_up"]), [])

    def as_value(self) -> dict[str, Any]:
        """Stable fields. state: null where no server that runs knows the address."""
        rests = self.rests
        return {
            "address": self.address,
            "hostname": self.source.hostname,
            "pool": self.source.pool,
            "weight": self.source.weight,
            "state": ("resting" if rests else "ready") if self.told else None,
            "reason": rests["why"] if rests else None,
            "until": printing.iso(rests["until"]) if rests else None,
            "listed": [{**each, "since": printing.iso(each["since"])} for each in self.listings],
            "warm_up": self.schedule or None,
            "connections": sum(each["connections"] for each in self.told),
            "rests_at": sorted(set(_every(self.told, "rests_at"))),
            "sends_at": sorted(set(_every(self.told, "sends_at"))),
        }


def every(here: Invocation) -> list[SourceFacts]:
    """In the order of relay.toml."""
    told, blocklists = _told(here)
    return [
        SourceFacts(each, told.get(str(each.address), []), _schedule(here, each), blocklists)
        for each in here.config.source
    ]


def meant(here: Invocation, address: str) -> SourceFacts:
    """Raises NotFound."""
    wanted = named(here, address)
    return next(each for each in every(here) if each.address == wanted)


def named(here: Invocation, address: str) -> str:
    """The address as it is written everywhere. Raises NotFound for what is no [[source]]."""
    import ipaddress

    known = [str(each.address) for each in here.config.source]
    try:
        wanted = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        wanted = ""
    if wanted not in known:
        among = ", ".join(known) or "none"
        raise NotFound(f'"{address}" is no [[source]] of relay.toml', remedy=f"Those there are: {among}.")
    return wanted


def orders(here: Invocation, address: str) -> list[dict[str, Any] | None]:
    """An operator's, to rest, as each worker sees it."""
    return [each["ordered"] for each in _told(here)[0].get(address, [])]


def _told(here: Invocation) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """By address, and of blocklists; nothing where no server runs."""
    try:
        answers = invocation.run(shards.ask_owners(here, "sources"))
    except UsageError:  # a server of the version before does not know the question
        return {}, {}
    found: dict[str, list[dict[str, Any]]] = {}
    blocklists: dict[str, str] = {}
    for answer in filter(None, answers.values()):
        for each in answer["sources"]:
            found.setdefault(each["address"], []).append(each)
        blocklists |= {zone: why or blocklists.get(zone, "") for zone, why in answer["blocklists"].items()}
    return found, blocklists


def _schedule(here: Invocation, source: "Source") -> dict[str, Any]:
    from relay.delivery.warming import WarmUps, day_at, days_of

    if source.warm_up is None:
        return {}
    today = day_at(here.now())
    plan = here.config.warm_up
    stage = WarmUps(plan, [source]).stage(str(source.address), "", (), on=today)
    has_begun = source.warm_up <= today
    return {
        "begins": source.warm_up.isoformat(),
        "state": "warm" if stage is None else "warming" if has_begun else "later",
        "day": stage.day if stage is not None and has_begun else None,
        "days": days_of(plan),
        "per_day": stage.per_day if stage is not None else None,
    }


def _every(told: Iterable[dict[str, Any]], key: str) -> Iterable[Any]:
    return (each for answer in told for each in answer[key])
