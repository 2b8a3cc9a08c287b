"""cli.domain: `relay domain`: sender domains, their DKIM keys, and the DNS records that go with them."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing
from relay.cli.domain_records import Finding, Outcome, Record, check, expected, zone_file

if TYPE_CHECKING:
    from relay.registry.domains import NewKey, SenderDomain
    from relay.registry.snapshot import Snapshot

app = typer.Typer(help="Sender domains: DKIM keys and DNS records.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain of From addresses.")]


@app.command()
def add(context: typer.Context, domain: Domain, as_json: options.Json = False) -> None:
    """Make a domain's keys, which sign at once, and print the records to publish."""
    here = invocation.of(context)

    async def work() -> "SenderDomain":
        async with here.registry() as registry:
            return await registry.add_domain(domain, new_keys())

    added = invocation.run(work())
    _show_records(here, added, as_json=as_json)
    printing.note(f"When they are published: relay domain check {added.name}")


@app.command("list")
def list_all(context: typer.Context, as_json: options.Json = False) -> None:
    """All sender domains."""
    found = sorted(_snapshot(invocation.of(context)).domains.values(), key=lambda domain: domain.name)
    if as_json:
        printing.as_json([as_value(domain) for domain in found])
        return
    rows = ((domain.name, _signing(domain), _seen(domain), printing.when(domain.created_at)) for domain in found)
    columns = ("domain", "signs with", "seen in DNS", "created")
    printing.table(columns, rows, empty="There is no sender domain yet: relay domain add DOMAIN")


@app.command()
def show(context: typer.Context, domain: Domain, as_json: options.Json = False) -> None:
    """A domain's keys and the records to publish."""
    here = invocation.of(context)
    _show_records(here, find(_snapshot(here), domain), as_json=as_json)


@app.command("check")
def compare(context: typer.Context, domain: Domain, as_json: options.Json = False) -> None:
    """Compare what is published with what is expected. A new key that is seen signs from then on."""
    here = invocation.of(context)
    wanted = find(_snapshot(here), domain)
    printing.note(f"Asking DNS for what {wanted.name} and this machine need ...")  # which may take its time
    findings = invocation.run(_look(here, wanted))
    seen = [finding.selector for finding in findings if finding.selector]
    activated = _mark_seen(here, wanted, seen)
    if as_json:
        printing.as_json(
            {"domain": wanted.name, "ok": _is_fine(findings), "findings": [_value(each) for each in findings]}
        )
    else:
        rows = ((each.outcome.value, each.purpose, each.name, each.found, each.advice) for each in findings)
        printing.table(("", "record", "name", "found", "what to do"), rows, empty="")
    for selector in activated:
        printing.note(f"{selector} is seen in DNS and signs from now on")
    if not _is_fine(findings):
        raise typer.Exit(_exit_code(findings))


@app.command()
def rotate(context: typer.Context, domain: Domain, as_json: options.Json = False) -> None:
    """Make new keys; they sign once their records are seen by `relay domain check`."""
    here = invocation.of(context)

    async def work() -> "SenderDomain":
        async with here.registry() as registry:
            return await registry.rotate_domain(domain, new_keys())

    rotated = invocation.run(work())
    _show_records(here, rotated, as_json=as_json)
    printing.note(f"When the new ones are published: relay domain check {rotated.name}")


@app.command()
def remove(context: typer.Context, domain: Domain, as_json: options.Json = False) -> None:
    """Forget a domain and its keys; mail from it is refused from then on."""
    here = invocation.of(context)

    async def work() -> "SenderDomain":
        async with here.registry() as registry:
            return await registry.remove_domain(domain)

    removed = invocation.run(work())
    if as_json:
        printing.as_json(as_value(removed))
        return
    printing.line(f"{removed.name} removed. When its mail in flight has arrived, take out of DNS:")
    for key in removed.keys:
        printing.line(f"  {key.record_name}")


def new_keys() -> "tuple[NewKey, NewKey]":
    """RSA-2048, and Ed25519 as the second signature."""
    from relay.dkim import generate_keys, public_record
    from relay.registry.domains import NewKey

    rsa, ed25519 = generate_keys()
    return NewKey("rsa", rsa, public_record(rsa)), NewKey("ed25519", ed25519, public_record(ed25519))


def find(snapshot: "Snapshot", name: str) -> "SenderDomain":
    """Raises NotFound with the nearest name."""
    from relay.mail.address import AddressError, ascii_domain
    from relay.registry.nearest import not_found

    try:
        domain = snapshot.domains.get(ascii_domain(name.lower().rstrip(".")))
    except AddressError:
        domain = None
    if domain is None:
        raise not_found("domain", name, among=snapshot.domains)
    return domain


def as_value(domain: "SenderDomain") -> dict[str, Any]:
    """Stable fields; never a private key."""
    return {
        "domain": domain.name,
        "created_at": printing.iso(domain.created_at),
        "keys": [
            {
                "selector": key.selector,
                "algorithm": key.algorithm,
                "state": key.state.value,
                "created_at": printing.iso(key.created_at),
                "seen_at": printing.iso(key.seen_at),
            }
            for key in domain.keys
        ],
    }


def _snapshot(here: invocation.Invocation) -> "Snapshot":
    async def work() -> "Snapshot":
        async with here.registry() as registry:
            return registry.snapshot()

    return invocation.run(work())


def _show_records(here: invocation.Invocation, domain: "SenderDomain", *, as_json: bool) -> None:
    records = expected(domain, here.config)
    if as_json:
        printing.as_json({**as_value(domain), "records": [_record_value(record) for record in records]})
        return
    for record in records:
        printing.line(f"; {record.purpose}{f': {record.note}' if record.note else ''}")
        printing.line(zone_file(record))
        printing.line()


def _record_value(record: Record) -> dict[str, str]:
    return {"purpose": record.purpose, "name": record.name, "type": record.type, "value": record.value}


async def _look(here: invocation.Invocation, domain: "SenderDomain") -> list[Finding]:
    from relay.resolver import Resolver

    return await check(domain, here.config, Resolver(here.config.dns, here.now), now=here.now())


def _mark_seen(here: invocation.Invocation, domain: "SenderDomain", selectors: list[str]) -> list[str]:
    """The selectors that sign from now on and did not before."""
    if not selectors:
        return []

    async def work() -> None:
        async with here.registry() as registry:
            await registry.mark_seen(domain.name, selectors)

    invocation.run(work())
    return [key.selector for key in domain.keys if key.selector in selectors and key.state.value == "pending"]


def _is_fine(findings: list[Finding]) -> bool:
    return all(finding.outcome in (Outcome.OK, Outcome.WARNING) for finding in findings)


def _exit_code(findings: list[Finding]) -> int:
    wrong = any(finding.outcome is Outcome.WRONG for finding in findings)
    return os.EX_CONFIG if wrong else os.EX_TEMPFAIL


def _value(finding: Finding) -> dict[str, Any]:
    return {
        "record": finding.purpose,
        "name": finding.name,
        "outcome": finding.outcome.value,
        "found": finding.found,
        "advice": finding.advice or None,
    }


def _signing(domain: "SenderDomain") -> str:
    return ", ".join(f"{key.algorithm} {key.selector}" for key in domain.signing_keys)


def _seen(domain: "SenderDomain") -> str:
    unseen = [key.selector for key in domain.keys if key.state.value != "retired" and not key.seen_at]
    return f"not yet: {', '.join(unseen)}" if unseen else "yes"
