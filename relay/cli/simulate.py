"""cli.simulate: `relay simulate`: receiving servers on loopback that behave as large providers do when they are pushed.

A relay that asks its nameserver finds the providers' domains there, and reaches nobody else. It needs no relay.toml and
no rights; what the providers did is told at the end. With --dry-run nothing listens: relay.toml is looked at, and said
what would become of so much mail (`cli.dry_run`).
"""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing
from relay.cli.dry_run import dry_run as dry_run_command
from relay.cli.dry_run import parse_mix
from relay.errors import Unavailable, UsageError

if TYPE_CHECKING:
    import ssl

    from relay.config.providers import Provider
    from relay.dryrun.traffic import Traffic
    from relay.simulator.providers import SimulatedSite, Total

LISTEN, DNS = "127.0.0.2:2526", "127.0.0.1:2553"

Names = Annotated[
    list[str] | None, typer.Option("--provider", metavar="NAME", help="Only this one; give it again for others.")
]
File = Annotated[Path | None, typer.Option("--providers", metavar="FILE", help="Behaviours instead of those shipped.")]
Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="ADDRESS:PORT", help=f"Of the first provider, the next has the next; {LISTEN}."),
]
DnsListen = Annotated[
    str | None, typer.Option("--dns", metavar="ADDRESS:PORT", help=f"Of the nameserver that has them all; {DNS}.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would become of so much mail, in virtual time.")]
Messages = Annotated[int | None, typer.Option("--messages", min=1, max=10_000_000, help="In a dry run, so many.")]
Mix = Annotated[
    str | None, typer.Option("--mix", metavar="NAME=SHARE,...", help="... to these providers, by their shares.")
]
Rate = Annotated[float | None, typer.Option("--rate", min=0.001, help="... submitted so many a second; default: 1000.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, max=64, help="... by so many workers.")]
Seed = Annotated[int | None, typer.Option("--seed", help="... with this chance; equal ones come to the same.")]
On = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], metavar="DAY", help="... on this day of warm-ups; default: today."),
]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="... and draw it.")]


def simulate(
    context: typer.Context,
    *,
    provider: Names = None,
    providers: File = None,
    listen: Listen = None,
    dns: DnsListen = None,
    dry_run: DryRun = False,
    messages: Messages = None,
    mix: Mix = None,
    rate: Rate = None,
    workers: Workers = None,
    seed: Seed = None,
    on: On = None,
    plot: Plot = None,
    as_json: options.Json = False,
) -> None:
    """Be Google, Microsoft, Yahoo and others on loopback, until ^C; or say what would become of mail to them."""
    from relay.config.providers import load_providers

    served = {"--provider": provider, "--listen": listen, "--dns": dns}
    dry = {
        "--messages": messages,
        "--mix": mix,
        "--rate": rate,
        "--workers": workers,
        "--seed": seed,
        "--on": on,
        "--plot": plot,
    }
    _refuse_useless(served if dry_run else dry, dry_run=dry_run)
    known = load_providers(providers)
    if dry_run:
        traffic = _traffic(known, messages, mix, rate)
        here = invocation.of(context)
        day = on.date() if on is not None else None
        dry_run_command(here, known, traffic, workers=workers, seed=seed or 0, on=day, plot=plot, as_json=as_json)
        return
    chosen = _chosen(known, provider or [])
    listening, nameserver = _endpoint("--listen", listen or LISTEN), _endpoint("--dns", dns or DNS)
    invocation.run(_serve(chosen, listening, nameserver, as_json=as_json))


def _refuse_useless(given: Mapping[str, object], *, dry_run: bool) -> None:
    useless = next((option for option, value in given.items() if value is not None), None)
    if useless is not None:
        meant = "is nothing for a dry run" if dry_run else "is for a dry run"
        raise UsageError(f"{useless} {meant}", remedy="Leave it out." if dry_run else "Say --dry-run, or leave it out.")


def _traffic(known: "Mapping[str, Provider]", messages: int | None, mix: str | None, rate: float | None) -> "Traffic":
    from relay.dryrun.traffic import FASTEST, Traffic

    if messages is None or mix is None:
        missing = "--messages" if messages is None else "--mix"
        example = "relay simulate --dry-run --messages 100000 --mix google=60,microsoft=40"
        raise UsageError(f"a dry run needs {missing}", remedy=f"For example {example}")
    return Traffic(messages, parse_mix(mix, known), rate or FASTEST)


def _chosen(known: "Mapping[str, Provider]", names: Sequence[str]) -> "list[Provider]":
    """Raises UsageError."""
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise UsageError(f'no provider is called "{unknown}"', remedy=f"There are {', '.join(known)}.")
    return [known[name] for name in names or known]


def _endpoint(option: str, text: str) -> tuple[str, int]:
    from relay.config.values import parse_listen

    try:
        parse_listen(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", remedy=f"For example {option} 127.0.0.2:2526") from None
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


async def _serve(chosen: "Sequence[Provider]", listen: tuple[str, int], dns: tuple[str, int], *, as_json: bool) -> None:
    from relay.simulator.providers import sites, totals

    loop = asyncio.get_running_loop()
    simulated = sites(chosen, first_address=listen[0], clock=loop.time, seed=0)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as opened:
        port, dns_port = await _open(simulated, opened, port=listen[1], dns=dns)
        _tell(simulated, port=port, nameserver=f"{dns[0]}:{dns_port}", as_json=as_json)
        await stopped.wait()
    if as_json:
        printing.as_json([_value(total) for total in totals(simulated)])
        return
    printing.line()
    columns = ("provider", "sessions", "at once", "taken", "refused")
    printing.table(columns, (_row(total) for total in totals(simulated)), empty="")


async def _open(
    simulated: "Sequence[SimulatedSite]", opened: AsyncExitStack, *, port: int, dns: tuple[str, int]
) -> tuple[int, int]:
    """All of them, closed by `opened`: their port and the nameserver's. Raises Unavailable."""
    from relay.simulator.listening import Listening
    from relay.simulator.nameserver import Nameserver

    loop, context = asyncio.get_running_loop(), _context()
    try:
        for site in simulated:
            listening = await Listening.start(site.receiver, loop, host=site.address, port=port, context=context)
            opened.push_async_callback(listening.close)
            port = listening.port  # the same for all, as MX hosts have it
        nameserver = await Nameserver.start(simulated, host=dns[0], port=dns[1])
        opened.callback(nameserver.close)
    except OSError as error:
        raise Unavailable(
            f"it cannot listen: {error.strerror or error}", remedy="Name free ports with --listen and --dns."
        ) from None
    return port, nameserver.port


def _context() -> "ssl.SSLContext":
    """For STARTTLS: Google takes no mail without. The certificate is for no name that anybody verifies."""
    import datetime as dt
    import ssl
    import tempfile

    from relay.server.certificates import CHAIN, KEY, make_local_tls

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="relay-") as name:
        directory = Path(name)
        make_local_tls(directory, hostname="simulator.test", now=dt.datetime.now(tz=dt.UTC))
        context.load_cert_chain(directory / CHAIN, directory / KEY)
    return context


def _tell(simulated: "Sequence[SimulatedSite]", *, port: int, nameserver: str, as_json: bool) -> None:
    """How a relay gets there. With --json on standard error: the result is what comes at the end."""
    say = printing.note if as_json else printing.line
    say("In a relay.toml for trying out, so that mail to these providers comes here, and none leaves this machine:")
    for line in (
        "[dns]",
        f'nameservers = ["{nameserver}"]',
        "[delivery]",
        f"port = {port}",
        'allow_networks = ["127.0.0.0/8"]',
    ):
        say(f"  {line}")
    for name, its in _by_provider(simulated).items():
        domains = ", ".join(its[0].domains)
        more = f" and {len(its) - 1} more like it" if len(its) > 1 else ""
        say(f"{name}: {domains}{more}, at {its[0].address}:{port}")
    say("^C ends it.")
    sys.stdout.flush()


def _by_provider(simulated: "Sequence[SimulatedSite]") -> "dict[str, list[SimulatedSite]]":
    found: dict[str, list[SimulatedSite]] = {}
    for site in simulated:
        found.setdefault(site.provider, []).append(site)
    return found


def _value(total: "Total") -> dict[str, Any]:
    """Stable fields."""
    return {
        "provider": total.provider,
        "sessions": total.sessions,
        "most_sessions": total.most_open,
        "taken": total.taken,
        "refused": dict(total.refused),
    }


def _row(total: "Total") -> tuple[object, ...]:
    refused = ", ".join(f"{number} for {part}" for part, number in total.refused.items())
    return total.provider, total.sessions, total.most_open, total.taken, refused or "nothing"
