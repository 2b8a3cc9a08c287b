"""cli.site_orders: `relay site suspend|resume`: send nothing to a site for a while, and send again.

A suspension is kept in the registry, where every worker sees it; the commands return when all workers say that it is in
force, or over. To end one needs no server: then the sites are known by the names and MX hosts they were suspended with.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, shards, site_events, site_facts
from relay.cli.site_facts import SiteFacts
from relay.errors import NotFound

if TYPE_CHECKING:
    from relay.registry.suspensions import Suspension

IN_FORCE_WITHIN = 5.0  # seconds; the workers look four times a second
_LOOK_EVERY = 0.05
_NO_SITE = "-"  # for an answer that is only about suspensions

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A site's name, a recipient domain, or an MX host: then all its sites.")
]


def suspend(
    context: typer.Context,
    *,
    name: Name,
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help='"2h"; default: until resumed.')] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks.")] = "",
    as_json: options.Json = False,
) -> None:
    """Open no connection and send nothing there. Its mail is accepted and waits, and only its expiry ends it."""
    here = invocation.of(context)
    seconds = options.order_length(length)
    sites = list({site.name: site for site in site_facts.meant(here, name)}.values())
    until = here.now() + seconds if seconds else 0.0

    async def work() -> None:
        async with here.registry() as registry:
            named = [(site.name, site.mx) for site in sites]
            await registry.suspend_sites(named, until=until, by=here.operator, reason=reason)
            suspended = registry.snapshot().suspended(now=here.now())
        for site in sites:
            site_events.note(here, site.name, "suspended", suspended[site.name].words)

    invocation.run(work())
    told = _wait(here, lambda known: _are_in_force(sites, known, until=until) or 0 < until <= here.now())
    if as_json:
        value = {"until": printing.iso(until), "by": here.operator, "reason": reason or None, "in_force": told}
        printing.as_json([{"site": site.name, "queued": site.waiting.queued, **value} for site in sites])
        return
    for site in sites:
        end = f"until {printing.when(until)}" if until else f"until it is resumed: relay site resume {site.name}"
        printing.line(f"{site.name} is suspended {end}")
        if site.waiting.queued:
            printing.line(f"  {printing.count(site.waiting.queued, 'recipient')} waiting; they expire in their time")
    _note(told)


def _are_in_force(sites: list[SiteFacts], known: dict[str, Any], *, until: float) -> bool:
    return all(site.name in known and known[site.name]["until"] == until for site in sites)


def resume(context: typer.Context, *, name: Name, as_json: options.Json = False) -> None:
    """Send there again."""
    here = invocation.of(context)

    async def suspended() -> "dict[str, Suspension]":
        async with here.registry() as registry:
            return registry.snapshot().suspended(now=here.now())

    names = _meant(here, name, invocation.run(suspended()))

    async def work() -> list[str]:
        async with here.registry() as registry:
            return await registry.resume_sites(names, by=here.operator)

    resumed = invocation.run(work())
    for site in resumed:
        site_events.note(here, site, "resumed", f"by {here.operator}")
    told = _wait(here, lambda known: not any(name in known for name in resumed))
    if as_json:
        printing.as_json([{"site": site, "in_force": told} for site in resumed])
        return
    for site in resumed:
        printing.line(f"{site} is resumed")
    _note(told)


def _meant(here: invocation.Invocation, name: str, suspended: "dict[str, Suspension]") -> list[str]:
    """Those of the suspended sites that a name means: for all our addresses, but where the name says for which. Raises
    NotFound.
    """
    from relay.mail.site import place_parts

    host = name.lower().rstrip(".")
    found = [each for each in suspended if host in (each.lower(), place_parts(each)[0].lower())]
    found = found or [each for each, one in suspended.items() if host in one.mx_hosts]
    if not found:
        names = {site.name for site in site_facts.meant(here, name)}
        found = [each for each in suspended if place_parts(each)[0] in names]
    if not found:
        among = f"suspended are {', '.join(suspended)}" if suspended else "no site is"
        raise NotFound(f'"{name}" is not suspended', remedy=f"See relay site list; {among}.")
    return found


def _wait(here: invocation.Invocation, is_so: Callable[[dict[str, Any]], bool]) -> bool:
    """Until every worker obeys; whether all do. Where no server runs the next one will."""
    until = time.monotonic() + IN_FORCE_WITHIN
    while True:
        answers = invocation.run(shards.ask_owners(here, "sites", {"name": _NO_SITE})).values()
        if all(is_so({each["site"]: each for each in told["suspended"]}) for told in answers if told is not None):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_EVERY)


def _note(is_in_force: bool) -> None:
    if not is_in_force:
        printing.note("Not every worker has taken notice yet: see relay status and the log.")
