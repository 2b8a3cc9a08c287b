"""cli.smarthost_checks: whether each smarthost that a route leads to gives a session, with TLS and our login.

It is dialled as the server dials it, all at once, and left without a transaction. What it would say to a message (a
sender that is not verified there, a quota used up) only a message tells: `relay send-test`.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from relay.cli.finding import Finding, Grade
from relay.cli.invocation import Invocation
from relay.errors import RelayError

if TYPE_CHECKING:
    from relay.config.models import Config, Delivery
    from relay.delivery.destination import Destinations
    from relay.delivery.dialler import Dialler
    from relay.delivery.routing import Smarthost

_PATIENCE = 10.0  # seconds for each step


async def look(here: Invocation) -> AsyncIterator[Finding]:
    from relay.delivery.routing import Routes

    config = here.config
    try:
        smarthosts = Routes(config.route, config.smarthost, config.source, simulator_port=0).smarthosts
    except RelayError:
        return  # told among the files
    for finding in _unused(config, {each.name for each in smarthosts}):
        yield finding
    dialled = [each for each in smarthosts if each.port]  # the simulator has no port here
    if not dialled:
        return
    try:
        destinations, dialler = _way_out(here)
    except RelayError:
        return  # told with DNS
    for each in asyncio.as_completed([_finding(each, destinations, dialler) for each in dialled]):
        yield await each


def _unused(config: "Config", used: set[str]) -> Iterator[Finding]:
    for name in config.smarthost:
        if name not in used:
            remedy = f'Name it: via = "{name}" under [[route]].'
            yield Finding(Grade.WARNING, "smarthost", f"no route leads to [smarthost.{name}]", remedy)


def _way_out(here: Invocation) -> "tuple[Destinations, Dialler]":
    """Raises RelayError."""
    from relay.delivery.destination import Destinations, Machine
    from relay.delivery.dialler import Dialler
    from relay.delivery.known_hosts import KnownHosts
    from relay.delivery.routing import Routes
    from relay.delivery.sources import Sources
    from relay.log import Level, Log, Output
    from relay.resolver import Resolver
    from relay.smtpclient import TlsContexts

    config, chance = here.config, random.Random()
    quiet = Log(Output(), now=here.now, level=Level.ERROR)  # what fails is a finding
    settings = _impatient(config.delivery)
    machine = Machine(frozenset(), frozenset(), prefers_ipv6=False)
    destinations = Destinations(Resolver(config.dns, here.now), settings, lambda: machine, chance)
    dialler = Dialler(
        hostname=config.server.hostname,
        pool=Routes((), {}, config.source, simulator_port=0).pool_of_smarthosts,
        sources=Sources(steady=time.monotonic, log=quiet),
        known=KnownHosts(steady=time.monotonic, log=quiet),
        settings=settings,
        contexts=TlsContexts(monotonic=time.monotonic),
        random=chance,
    )
    return destinations, dialler


def _impatient(settings: "Delivery") -> "Delivery":
    times = {name: min(seconds, _PATIENCE) for name, seconds in settings.timeouts}
    return settings.model_copy(update={"timeouts": settings.timeouts.model_copy(update=times)})


async def _finding(smarthost: "Smarthost", destinations: "Destinations", dialler: "Dialler") -> Finding:
    from relay.delivery.destination import Destination, Unresolved
    from relay.delivery.site import Line

    answer = await destinations.of_smarthost(smarthost)
    if not isinstance(answer, Destination):
        detail = answer.detail if isinstance(answer, Unresolved) else str(answer.reply)
        return Finding(Grade.ERROR, "smarthost", f"{smarthost.site}: {detail}", "Correct its host in relay.toml.")
    outcome = await dialler.open(answer, smarthost, ())
    if not isinstance(outcome, Line):
        remedy = _remedy(smarthost, str(outcome.stage))
        return Finding(Grade.ERROR, "smarthost", f"{smarthost.site}: {outcome.detail}", remedy)
    tls, place = outcome.connection.tls or "no TLS", outcome.connection.endpoint
    await outcome.connection.quit()
    takes = "takes our login" if smarthost.login else "gives a session"
    return Finding(Grade.OK, "smarthost", f"{smarthost.site}: {place} {takes}, {tls}")


def _remedy(smarthost: "Smarthost", stage: str) -> str:
    table = f"[smarthost.{smarthost.name}]" if smarthost.name else "its [[route]]"
    match stage:
        case "connect":
            return f"Is port {smarthost.port} open outwards? Many providers take 587, 465 and 2525."
        case "auth":
            return (
                f"Correct login and secret_file in {table}. Until then its mail waits, or goes to the next smarthost."
            )
        case "greeting" | "starttls":
            return (
                f'Correct security in {table}: "tls" is for port 465, "starttls" for others; ca names a CA of your own.'
            )
        case _:
            return ""
