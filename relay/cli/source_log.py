"""cli.source_log: `relay source log`, and the last of it in `relay source show`: what kept an address from sending.

Read from the site log, which needs no server: rests at all sites, and at single ones breakers, suspensions and setbacks
of the address.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, site_events, source_facts
from relay.cli.invocation import Invocation

if TYPE_CHECKING:
    from relay.journal.site_log import SiteEvent

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="As [[source]] of relay.toml has it.")]


def show_log(
    context: typer.Context,
    *,
    address: Address,
    since: options.Since = "",
    limit: options.Limit = 100,
    as_json: options.Json = False,
) -> None:
    """What kept it from sending, newest last: rests at all sites; breakers, suspensions, setbacks at one; and why."""
    here = invocation.of(context)
    after = options.past(since, option="--since", now=here.now())
    known = source_facts.named(here, address)
    found = read(here, known, since=after, limit=limit)
    if as_json:
        printing.as_json([as_value(each) for each in found])
        return
    show(found, empty=f"Nothing is known to have kept {known} from sending.")


def show(events: "list[SiteEvent]", *, empty: str) -> None:
    rows = ((printing.when(each.at), each.site or "all sites", each.what, site_events.words(each)) for each in events)
    printing.table(("when", "where", "what", "why"), rows, empty=empty)


def as_value(event: "SiteEvent") -> dict[str, Any]:
    """site: null for all."""
    return site_events.as_value(event) | {"site": event.site or None}


def read(here: Invocation, address: str, *, since: float = 0.0, limit: int) -> "list[SiteEvent]":
    """Raises SpoolError."""
    from relay.journal import site_log

    with site_events.reading():
        return site_log.read_of(here.spool, address, since=since, limit=limit)


def note(here: Invocation, address: str, what: str, detail: str) -> None:
    """An operator's order."""
    site_events.to_write(here).note("", address, what, detail)
