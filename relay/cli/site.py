"""cli.site: `relay site`: the receiving sites, what each is allowed and why, and what is going on there."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from relay.cli import invocation, options, printing, site_events, site_facts, site_orders
from relay.cli.site_facts import SiteFacts, Waiting
from relay.errors import UsageError

LAST_EVENTS = 10

app = typer.Typer(help="Receiving sites: look, suspend, resume; limits and where they come from.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A site's name, a recipient domain, or the name of an MX host.")
]


@app.command("list")
def list_sites(context: typer.Context, limit: options.Limit = 100, as_json: options.Json = False) -> None:
    """Sites where mail waits or something goes on, those most recipients wait for first; one line for each of our
    addresses that mail leaves from.
    """
    here = invocation.of(context)
    sites, unknown = site_facts.every(here)
    now = here.now()
    shown = sorted(filter(_is_of_interest, sites), key=lambda site: (-site.waiting.queued, site.name, site.source))
    if as_json:
        printing.as_json([site.as_value(now=now) for site in shown[:limit]])
        return
    source = ("source",) if any(site.source for site in shown) else ()
    columns = ("site", *source, "state", "queued", "oldest", "connections", "profile", "last error")
    rows = (_row(site, now=now, with_source=bool(source)) for site in shown[:limit])
    printing.table(columns, rows, empty="No mail waits for a known site, and none is connected to.")
    if len(shown) > limit:
        printing.note(f"{len(shown) - limit} more; see them with --limit {len(shown)}")
    if unknown.queued:
        printing.note(_unknown_words(unknown))


@app.command()
def show(context: typer.Context, name: Name, as_json: options.Json = False) -> None:
    """One site: MX hosts, each limit with its origin, what waits, what is wrong."""
    here = invocation.of(context)
    sites = sorted(site_facts.meant(here, name), key=lambda site: site.source)
    names = dict.fromkeys(site.name for site in sites)
    if len(names) > 1:
        raise UsageError(
            f'"{name}" is an MX host of {len(names)} sites', remedy=f"Name one of them: {', '.join(names)}."
        )
    site, now = site_facts.of_all_sources(sites), here.now()
    events = site_events.read(here, site_events.names_of(sites), limit=LAST_EVENTS)
    if as_json:
        sources = {"sources": [each.source_value(now=now) for each in sites]}
        printing.as_json(site.as_value(now=now) | sources | {"log": list(map(site_events.as_value, events))})
        return
    printing.facts(_facts(site, now=now))
    if len(sites) > 1:
        printing.line()
        of_sources = (_source(each, now=now) for each in sites)
        printing.table(("source", "state", "takes now", "last error"), of_sources, empty="")
    printing.line()
    rows = ((each, _number(each, limit["value"]), limit["origin"]) for each, limit in site.limits.items())
    printing.table(("limit", "value", "from"), rows, empty="")
    for each in sites:
        if each.changes:
            printing.line()
            changes = ((printing.when(change["at"]), _change_words(change)) for change in each.changes)
            what = f"what it took from {each.source}, and why" if len(sites) > 1 else "what it took, and why"
            printing.table(("when", what), changes, empty="")
    if events:
        printing.line()
        site_events.show(events, empty="")


for order in (site_orders.suspend, site_orders.resume):
    app.command()(order)
app.command("log")(site_events.show_log)


def _is_of_interest(site: SiteFacts) -> bool:
    return site.state != "idle" or site.connections > 0


def _unknown_words(unknown: Waiting) -> str:
    recipients, domains = printing.count(unknown.queued, "recipient"), printing.count(unknown.domain_count, "domain")
    first = unknown.domains[0]
    return (
        f"{recipients} of {domains} besides, whose MX hosts were not asked for lately, such as {first};"
        f" look one up: relay site show {first}"
    )


def _source(site: SiteFacts, *, now: float) -> tuple[object, ...]:
    return site.source, _state_words(site, now=now), _allowed_words(site), site.last_error


def _row(site: SiteFacts, *, now: float, with_source: bool) -> tuple[object, ...]:
    waiting = site.waiting
    return (
        site.name,
        *((site.source,) if with_source else ()),
        site.state.replace("_", " "),
        waiting.queued,
        printing.span(now - waiting.oldest) if waiting.queued else "",
        site.connections,
        site.profile,
        site.last_error,
    )


def _facts(site: SiteFacts, *, now: float) -> Iterator[tuple[str, object]]:
    waiting = site.waiting
    recipients = printing.count(waiting.queued, "recipient")
    yield "site", site.name
    yield "source", site.source
    yield "MX hosts", ", ".join(site.mx)
    yield "profile", site.profile
    yield "limits are of", f"all sites of the {site.counted_as}, together" if site.counted_as else ""
    yield "state", _state_words(site, now=now)
    yield (
        "queued",
        f"{recipients}, the oldest for {printing.span(now - waiting.oldest)}" if waiting.queued else "nothing",
    )
    yield "domains", _domain_words(waiting)
    yield "last error", site.last_error
    yield "takes now", _allowed_words(site)
    for breaker in site.breakers:
        yield "breaker", site_facts.breaker_words(breaker)


def _state_words(site: SiteFacts, *, now: float) -> str:
    connections = printing.count(site.connections, "connection")
    match site.state:
        case "suspended":
            return f"{site_facts.suspended_words(site.suspended or {})} ({connections} open)"
        case "resting":
            again = _in_words(site.next_probe_at, now=now) if site.next_probe_at else ""
            return f"{site.resting}; it sends again {again} at the earliest" if again else site.resting
        case "blocked":
            return f"blocked: it refuses our address; one message probes it, and the others wait ({connections} open)"
        case "in_trouble":
            probe = _in_words(site.next_probe_at, now=now) if site.next_probe_at > now else "now"
            return f"in trouble: it takes no mail; one message probes it, next {probe}, and no other goes there"
        case "out_of_quota":
            return f"our quota there is used up; the next message goes {_in_words(site.next_probe_at, now=now)}"
        case "sending":
            return f"sending, {connections} open, {printing.count(site.in_turn, 'message')} waiting for one"
        case "waiting" if site.in_turn and site.next_turn_at > now:
            turn = _in_words(site.next_turn_at, now=now)
            return f"waiting for its pace, which allows the next message {turn}; {connections} open"
        case "waiting":
            return f"waiting until the next attempts are due, {connections} open"
    return f"idle, {connections} open"


def _in_words(at: float, *, now: float) -> str:
    return f"{printing.when(at)} (in {printing.span(at - now)})"


def _allowed_words(site: SiteFacts) -> str:
    """As far as it has shown."""
    if not site.allowed:
        return ""
    connections = printing.count(int(site.allowed["connections"]), "connection")
    rate = site.allowed["messages_per_second"]
    return f"{connections}, {rate:.3g} messages per second" if rate else connections


def _change_words(change: dict[str, Any]) -> str:
    """As in "18 → 9 connections: 421 4.7.0 ... from mx3.example"."""
    from relay.delivery.feedback import Change

    return str(Change(**change))


def _domain_words(waiting: Waiting) -> str:
    more = waiting.domain_count - len(waiting.domains)
    return ", ".join(waiting.domains) + (f" and {printing.count(more, 'more domain')}" if more else "")


def _number(limit: str, value: float | str | list[str]) -> str:
    """As relay.toml has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if limit == "idle":
        from relay.config.values import format_duration

        return format_duration(value)
    return f"{value:g}" if value else "no limit"
