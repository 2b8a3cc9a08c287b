"""cli.source_orders: `relay source rest|resume`: send nothing from an address for a while, and send from it again.

The order is kept in the registry, where every worker sees it, so it can be given whether a server runs or not; the
commands return when all workers say that it is in force, or over.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from relay.cli import invocation, options, printing, source_facts, source_log
from relay.errors import NotFound

IN_FORCE_WITHIN = 5.0  # seconds; the workers look four times a second
_LOOK_EVERY = 0.05

Order = dict[str, Any] | None


def rest(
    context: typer.Context,
    *,
    address: source_log.Address,
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help='"2h"; default: until resumed.')] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever asks.")] = "",
    as_json: options.Json = False,
) -> None:
    """Send nothing from it. Mail goes from others of its pool; with none it waits, and only its expiry ends it."""
    from relay.registry.suspensions import from_source

    here = invocation.of(context)
    seconds = options.order_length(length)
    facts = source_facts.meant(here, address)
    until = here.now() + seconds if seconds else 0.0

    async def work() -> None:
        async with here.registry() as registry:
            orders = [(from_source(facts.address), ())]
            await registry.suspend_sites(orders, until=until, by=here.operator, reason=reason)
            order = registry.snapshot().resting(now=here.now())[facts.address]
        source_log.note(here, facts.address, "put to rest", order.words)

    invocation.run(work())
    told = _wait(here, facts.address, lambda order: _is_in_force(order, until=until) or 0 < until <= here.now())
    if as_json:
        value = {"until": printing.iso(until), "by": here.operator, "reason": reason or None, "in_force": told}
        printing.as_json({"address": facts.address, **value})
        return
    end = f"until {printing.when(until)}" if until else f"until it is resumed: relay source resume {facts.address}"
    printing.line(f"{facts.address} rests {end}")
    _note(told)


def _is_in_force(order: Order, *, until: float) -> bool:
    return order is not None and order["until"] == until


def resume(context: typer.Context, *, address: source_log.Address, as_json: options.Json = False) -> None:
    """Send from it again."""
    from relay.registry.suspensions import from_source

    here = invocation.of(context)
    wanted = _resting(here, address)

    async def work() -> list[str]:
        async with here.registry() as registry:
            return await registry.resume_sites([from_source(wanted)], by=here.operator)

    if invocation.run(work()):
        source_log.note(here, wanted, "resumed", f"by {here.operator}")
    told = _wait(here, wanted, lambda order: order is None)
    if as_json:
        printing.as_json({"address": wanted, "in_force": told})
        return
    printing.line(f"{wanted} is resumed")
    _note(told)


def _resting(here: invocation.Invocation, address: str) -> str:
    """The address that is meant, which relay.toml need not name any more. Raises NotFound."""
    import ipaddress

    async def ordered() -> list[str]:
        async with here.registry() as registry:
            return list(registry.snapshot().resting(now=here.now()))

    resting = invocation.run(ordered())
    try:
        wanted = str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        wanted = ""
    if wanted not in resting:
        among = f"at rest are {', '.join(resting)}" if resting else "no address is"
        raise NotFound(f'"{address}" was not put to rest', remedy=f"See relay source list; {among}.")
    return wanted


def _wait(here: invocation.Invocation, address: str, is_so: Callable[[Order], bool]) -> bool:
    """Until every worker obeys; whether all do. Where no server runs the next one will."""
    until = time.monotonic() + IN_FORCE_WITHIN
    while True:
        if all(map(is_so, source_facts.orders(here, address))):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_EVERY)


def _note(is_in_force: bool) -> None:
    if not is_in_force:
        printing.note("Not every worker has taken notice yet: see relay source list and the log.")
