"""cli.source: `relay source`: the addresses that mail leaves from, what keeps one from sending, and how far its warm-up
has come.
"""

from collections.abc import Iterator
from typing import Any

import typer

from relay.cli import invocation, options, printing, source_facts, source_log, source_orders
from relay.cli.source_facts import SourceFacts

_NAMED = 3  # sites that take nothing from an address, told by name
_LAST_EVENTS = 10

app = typer.Typer(help="Our sending addresses: pools, shares, warm-up; rest, resume, log.", no_args_is_help=True)


@app.command("list")
def list_sources(context: typer.Context, as_json: options.Json = False) -> None:
    """Every address of relay.toml with its pool, its share, its warm-up, and where it rests."""
    found = source_facts.every(invocation.of(context))
    if as_json:
        printing.as_json([each.as_value() for each in found])
        return
    columns = ("address", "EHLO name", "pool", "weight", "state", "warm-up", "connections", "rests at")
    printing.table(columns, map(_row, found), empty="relay.toml names no [[source]]: the system chooses the address.")


@app.command()
def show(context: typer.Context, address: source_log.Address, as_json: options.Json = False) -> None:
    """One address: what keeps it from sending and has kept it, who lists it, and its warm-up with each provider."""
    here = invocation.of(context)
    facts = source_facts.meant(here, address)
    events = source_log.read(here, facts.address, limit=_LAST_EVENTS)
    if as_json:
        blocklists = {zone: why or None for zone, why in facts.blocklists.items()}
        log = {"log": list(map(source_log.as_value, events))}
        printing.as_json(facts.as_value() | {"providers": facts.progress, "blocklists": blocklists} | log)
        return
    printing.facts(_facts(facts))
    if facts.progress:
        printing.line()
        columns = ("provider", "day", "used in 24 hours", "in an hour", "setbacks")
        printing.table(columns, map(_provider_row, facts.progress), empty="")
    if events:
        printing.line()
        source_log.show(events, empty="")


for order in (source_orders.rest, source_orders.resume):
    app.command()(order)
app.command("log")(source_log.show_log)


def _row(facts: SourceFacts) -> tuple[object, ...]:
    value = facts.as_value()
    return (
        *(value[key] for key in ("address", "hostname", "pool", "weight")),
        _state_words(facts),
        _schedule_words(facts.schedule),
        value["connections"],
        _sites_words(value["rests_at"]),
    )


def _facts(facts: SourceFacts) -> Iterator[tuple[str, object]]:
    value = facts.as_value()
    yield "address", facts.address
    yield "EHLO name", facts.source.hostname
    yield "pool", f"{facts.source.pool}, weight {facts.source.weight}"
    yield "state", _state_words(facts)
    for each in facts.listings:
        yield "listed", f"by {each['zone']} ({', '.join(each['codes'])}), seen since {printing.when(each['since'])}"
    for zone, why in facts.blocklists.items():
        if why:
            yield "blocklist", f"{zone} says nothing: {why}"
    yield "warm-up", _schedule_words(facts.schedule)
    yield "connections", value["connections"]
    yield "rests at", ", ".join(value["rests_at"])
    yield "sends at", ", ".join(f"{site} (no other can send instead)" for site in value["sends_at"])


def _state_words(facts: SourceFacts) -> str:
    rests = facts.rests
    if not facts.told:
        return "not known: no server runs with it"
    if rests:
        again = printing.when(rests["until"])
        return f"{rests['why']}; again at {again}" if again else str(rests["why"])
    listed = " and ".join(each["zone"] for each in facts.listings)
    return f"ready, although {listed} lists it: no other can send instead" if listed else "ready"


def _schedule_words(schedule: dict[str, Any]) -> str:
    """As relay.toml has it; setbacks are each provider's."""
    match schedule.get("state"):
        case "later":
            return f"begins {schedule['begins']}"
        case "warming":
            return f"day {schedule['day']} of {schedule['days']}: {schedule['per_day']} messages to each provider"
        case "warm":
            return "warm"
    return ""


def _provider_row(progress: dict[str, Any]) -> tuple[object, ...]:
    last = progress["setbacks"][-1:]
    return (
        progress["provider"],
        progress["day"],
        f"{progress['used_in_day']} of {progress['per_day']}",
        f"{progress['used_in_hour']} of {progress['per_hour']}",
        f"{len(progress['setbacks'])}, the last {last[0]['day']}: {last[0]['reply']}" if last else "",
    )


def _sites_words(sites: list[str]) -> str:
    more = len(sites) - _NAMED
    return ", ".join(sites[:_NAMED]) + (f" and {printing.count(more, 'more site')}" if more > 0 else "")
