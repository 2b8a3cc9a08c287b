"""cli.site_events: `relay site log`, and the last of it in `relay site show`: what happened at a site, and why.

Read from the site log, which needs no server; one that runs knows the site of a domain or an MX host.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, site_facts
from relay.errors import NotFound, SpoolError, Unavailable

if TYPE_CHECKING:
    from relay.journal.site_log import SiteEvent, SiteLog

Name = Annotated[str, typer.Argument(metavar="NAME", help="A site's name, a recipient domain, or an MX host.")]


def show_log(
    context: typer.Context,
    *,
    name: Name,
    since: options.Since = "",
    limit: options.Limit = 100,
    as_json: options.Json = False,
) -> None:
    """What happened there, newest last: limits lowered and raised, breakers, suspensions, setbacks; and why."""
    here = invocation.of(context)
    after = options.past(since, option="--since", now=here.now())
    found = read(here, _names(here, name), since=after, limit=limit)
    if as_json:
        printing.as_json([as_value(each) for each in found])
        return
    show(found, empty=f"Nothing is known to have happened at {name}.")


def show(events: Sequence["SiteEvent"], *, empty: str) -> None:
    source = ("source",) if any(each.source for each in events) else ()
    rows = ((printing.when(each.at), *((each.source,) if source else ()), each.what, words(each)) for each in events)
    printing.table(("when", *source, "what", "why"), rows, empty=empty)


def as_value(event: "SiteEvent") -> dict[str, Any]:
    return {
        "time": printing.iso(event.at),
        "site": event.site,
        "source": event.source or None,
        "what": event.what,
        "detail": event.detail,
        "left_out": event.left_out,
    }


def read(
    here: invocation.Invocation, names: Collection[str], *, since: float = 0.0, limit: int
) -> list["SiteEvent"]:
    """Raises SpoolError."""
    from relay.journal import site_log

    with reading():
        return site_log.read(here.spool, names, since=since, limit=limit)


@contextmanager
def reading() -> Iterator[None]:
    """Raises SpoolError."""
    try:
        yield
    except OSError as error:
        raise SpoolError(f"the site log cannot be read: {error}", remedy="Run the command as root.") from error


def note(here: invocation.Invocation, place: str, what: str, detail: str) -> None:
    """An operator's order."""
    from relay.mail.site import place_parts

    to_write(here).note(*place_parts(place), what, detail)


def to_write(here: invocation.Invocation) -> "SiteLog":
    from relay.journal.site_log import SiteLog

    return SiteLog(here.spool, now=here.now, incomplete=lambda why: printing.note(f"Not in the site log: {why}"))


def _names(here: invocation.Invocation, name: str) -> set[str]:
    """Under which it may be written, as far as a server tells."""
    given = name.lower().rstrip(".")
    try:
        sites = site_facts.meant(here, name)
    except (NotFound, Unavailable):
        return {given}
    return {given} | names_of(sites)


def names_of(sites: Sequence[site_facts.SiteFacts]) -> set[str]:
    """The sites, what counts them together, and the providers whose warm-ups are set back."""
    providers = {site.profile for site in sites} - {"default"}
    return {site.name for site in sites} | {site.counted_as for site in sites if site.counted_as} | providers


def words(event: "SiteEvent") -> str:
    more = f" ({printing.count(event.left_out, 'event')} before it left out)" if event.left_out else ""
    return event.detail + more
