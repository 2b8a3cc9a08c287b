"""cli.suppression: `relay suppression`: addresses that are not sent to, with the evidence for each."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from relay.cli import invocation, options, printing, shards
from relay.cli.credential_flags import one_of
from relay.errors import DataError, NotFound, Unavailable, UsageError

if TYPE_CHECKING:
    from relay.mail.suppression import Suppression
    from relay.registry.suppressions import Imported, Suppressions

app = typer.Typer(help="Addresses that are not sent to.", no_args_is_help=True)

Addresses = Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="One or more addresses.")]
Scope = Annotated[str, typer.Option("--scope", help='"all", or "credential:NAME/STREAM".')]
FormatName = Annotated[
    str, typer.Option("--format", metavar="csv|jsonl", help="Default: by the file's name, else csv.")
]

_CAUSES = "hard_bounce|bad_domain|mailbox_full|complaint|manual"


@app.command("list")
def list_all(
    context: typer.Context,
    *,
    address: Annotated[str, typer.Option("--address", help="This address only.")] = "",
    domain: Annotated[str, typer.Option("--domain", help="Addresses in this domain.")] = "",
    cause: Annotated[str, typer.Option("--cause", metavar=_CAUSES, help="For this reason.")] = "",
    scope: Scope = "",
    limit: options.Limit = 100,
    as_json: options.Json = False,
) -> None:
    """Suppressions in force, newest first."""
    from relay.mail.suppression import Cause
    from relay.registry.suppression_rows import Filter

    here = invocation.of(context)
    wanted = Filter(address, domain, one_of(cause, Cause, option="--cause") if cause else None, scope)

    async def work() -> "tuple[list[Suppression], int]":
        async with here.suppressions() as suppressions:
            await _absorb_pending(here, suppressions)
            return await suppressions.find(wanted, limit=limit), await suppressions.count(wanted)

    found, total = invocation.run(work())
    if as_json:
        printing.as_json([as_value(each) for each in found])
        return
    columns = ("address", "cause", "since", "until", "scope", "message", "reply")
    printing.table(columns, map(_row, found), empty="No address is suppressed.")
    if total > len(found):
        printing.note(f"{total - len(found)} more; see them with --limit {total}, or: relay suppression export")


@app.command()
def add(
    context: typer.Context,
    *,
    addresses: Addresses,
    cause: Annotated[
        str,
        typer.Option(
            "--cause", metavar="manual|hard_bounce|complaint", help="A complaint is for one --scope, for good."
        ),
    ] = "manual",
    scope: Scope = "all",
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help='A date, "30d" from now, or "never".')
    ] = "never",
    as_json: options.Json = False,
) -> None:
    """Send nothing more to these addresses."""
    from relay.mail.suppression import Cause, Suppression

    here = invocation.of(context)
    now = here.now()
    why = one_of(cause, (Cause.MANUAL, Cause.HARD_BOUNCE, Cause.COMPLAINT), option="--cause")
    until = options.future(expires, option="--expires", now=now)
    if why is Cause.COMPLAINT:
        _refuse_beyond_complaint(scope, until)
    reply = f"added by {here.operator}"
    batch = [Suppression(_parsed(text), why, now, until, scope, reply=reply) for text in addresses]

    async def work() -> int:
        async with here.suppressions() as suppressions:
            return await suppressions.add(batch)

    changed = invocation.run(work())
    if as_json:
        printing.as_json({"added": changed, "unchanged": len(batch) - changed})
        return
    printing.line(f"{printing.count(changed, 'address', 'addresses')} added")
    if changed < len(batch):
        printing.note(f"{len(batch) - changed} were suppressed already for as long")


@app.command()
def remove(context: typer.Context, addresses: Addresses, scope: Scope = "", as_json: options.Json = False) -> None:
    """Send to these addresses again; without --scope, whatever the scope was."""
    here = invocation.of(context)
    wanted = [_parsed(text) for text in addresses]

    async def work() -> dict[str, int]:
        async with here.suppressions() as suppressions:
            await _absorb_pending(here, suppressions)
            return {address: await suppressions.remove(address, scope=scope) for address in wanted}

    removed = invocation.run(work())
    unknown = [address for address, number in removed.items() if number == 0]
    if unknown:
        remedy = f"Look for it: relay suppression list --domain {unknown[0].rpartition('@')[2]}"
        raise NotFound(f"not suppressed: {', '.join(unknown)}", remedy=remedy)
    if as_json:
        printing.as_json({"removed": sum(removed.values())})
    else:
        printing.line(f"removed: {', '.join(removed)}")


@app.command("import")
def import_list(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help='CSV with a column "address", or JSON lines; "-" for standard input.')],
    format_name: FormatName = "",
    as_json: options.Json = False,
) -> None:
    """Take over a list, all of it or nothing."""
    from relay.registry.suppression_files import Format

    here = invocation.of(context)
    form = Format(_format(file, format_name))

    async def work() -> "Imported":
        async with here.suppressions() as suppressions:
            with _reading(file) as lines:
                return await suppressions.import_from(lines, form)

    imported = invocation.run(work())
    if as_json:
        printing.as_json({"lines": imported.lines, "changed": imported.changed})
    else:
        printing.line(f"{printing.count(imported.lines, 'line')} read, {imported.changed} new or lasting longer")


@app.command()
def export(
    context: typer.Context,
    *,
    file: Annotated[Path, typer.Argument(help='Where to write; "-" for standard output.')] = Path("-"),
    format_name: FormatName = "",
    as_json: options.Json = False,
) -> None:
    """Write the whole list. With --json, standard output gets JSON lines: the list, or what became of the file."""
    from relay.registry.suppression_files import Format

    here = invocation.of(context)
    to_output = str(file) == "-"
    form = Format(_format(file, format_name or (Format.JSON_LINES if as_json and to_output else "")))

    async def work() -> int:
        async with here.suppressions() as suppressions:
            await _absorb_pending(here, suppressions)
            with _writing(file) as output:
                at_terminal = output.isatty()
                async for piece in suppressions.export(form):
                    if at_terminal:  # replies are peers' text
                        printing.block(piece)
                    else:
                        output.write(piece)
            return await suppressions.count()

    exported = invocation.run(work())
    if to_output:
        return
    if as_json:
        printing.as_json({"file": str(file), "addresses": exported})
    else:
        printing.line(f"{printing.count(exported, 'address', 'addresses')} written to {file}")


def _refuse_beyond_complaint(scope: str, until: float) -> None:
    """Whoever complains of one stream may want another's mail; and does not change their mind by themselves."""
    if not re.fullmatch(r"credential:[^/]+/.+", scope):
        raise UsageError(
            "a complaint is about one credential's stream", remedy="Name it: --scope credential:NAME/STREAM"
        )
    if until:
        raise UsageError("a complaint suppresses for good", remedy="Leave out --expires.")


def as_value(suppression: "Suppression") -> dict[str, Any]:
    """Stable fields."""
    return {
        "address": suppression.address,
        "cause": suppression.cause.value,
        "created_at": printing.iso(suppression.created_at),
        "expires_at": printing.iso(suppression.expires_at),
        "scope": suppression.scope,
        "message": suppression.message or None,
        "reply": suppression.reply or None,
    }


def _row(suppression: "Suppression") -> tuple[object, ...]:
    return (
        suppression.address,
        suppression.cause.value,
        printing.when(suppression.created_at),
        printing.when(suppression.expires_at) or "for good",
        suppression.scope,
        suppression.message,
        suppression.reply,
    )


async def _absorb_pending(here: invocation.Invocation, suppressions: "Suppressions") -> None:
    """What the shards have found and nobody has carried over yet. Each row counts once, whoever carries it."""
    for reader in shards.readers(here):
        after = 0
        while page := reader.suppressions(after=after):
            await suppressions.absorb(reader.shard, page)
            after = page[-1][0]


def _parsed(text: str) -> str:
    from relay.mail.address import AddressError, parse

    try:
        return parse(text)
    except AddressError as error:
        raise DataError(f'"{text}" is no address: {error}', remedy="Write local@example.com.") from None


def _format(file: Path, name: str) -> str:
    from relay.registry.suppression_files import Format

    if name:
        return one_of(name, Format, option="--format")
    return Format.JSON_LINES if file.suffix in (".jsonl", ".ndjson") else Format.CSV


@contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    """newline="": a line end inside quotes belongs to the value."""
    if str(file) == "-":
        sys.stdin.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            yield lines
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error.reason}", remedy="Convert it, for example with iconv.") from None
    except OSError as error:
        remedy = (
            f'The command runs as the spool\'s owner; if that may not read it: relay suppression import - < "{file}"'
        )
        raise Unavailable(f"{file} cannot be read: {error.strerror}", remedy=remedy) from None


@contextmanager
def _writing(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        return
    try:
        with file.open("w", encoding="utf-8", newline="") as output:
            yield output
    except OSError as error:
        remedy = (
            f'The command runs as the spool\'s owner; if that may not write it: relay suppression export > "{file}"'
        )
        raise Unavailable(f"{file} cannot be written: {error.strerror}", remedy=remedy) from None
