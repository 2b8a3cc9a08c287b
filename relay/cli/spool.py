"""cli.spool: `relay spool`: whether what is on disk is what was written, saving what is left of it, and copies."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, shards
from relay.errors import NotFound

if TYPE_CHECKING:
    from relay.spool.verifying import Damage, Verified

app = typer.Typer(help="What is on disk: verify it, save what is left of it, copy it.", no_args_is_help=True)

Shard = Annotated[int | None, typer.Option("--shard", metavar="N", help="This one alone.")]

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Not there yet, or empty.")]

_COUNTED = ("messages", "recipients", "contents", "events")
_RESTORE = "Stop Relay and restore it from a backup."
_MOVE_AWAY = "Move it away: a search no longer finds that day, and delivery does not need it."


@app.command()
def verify(context: typer.Context, as_json: options.Json = False) -> int:
    """Look at everything in the spool, while the server runs or not; nothing is changed."""
    here = invocation.of(context)
    found = []
    for value in _looked_at(here, told=not as_json):
        found.append(value)
        if not as_json:
            _show(value)
    damages = sum(len(each["damages"]) for each in found)
    if as_json:
        printing.as_json({"files": found, "damages": damages})
    else:
        printing.line(f"{printing.count(damages, 'damage')} found" if damages else "no damage found")
    return os.EX_DATAERR if damages else os.EX_OK


@app.command()
def recover(context: typer.Context, shard: Shard = None, as_json: options.Json = False) -> int:
    """Save what can be read of damaged shards, while no server runs, and name what cannot."""
    from relay.cli.spool_recovery import lines, recovered

    here = invocation.of(context)
    found = []
    for number in _chosen(here, shard):
        if not as_json:
            printing.note(f"looking at shard {number}")
        found.append(recovered(here, number))
        for line in lines(found[-1]) if not as_json else ():
            printing.line(line)
    if as_json:
        printing.as_json(found)
    return os.EX_DATAERR if any(each["lost"] for each in found) else os.EX_OK


@app.command()
def backup(context: typer.Context, directory: Directory, as_json: options.Json = False) -> int:
    """Copy the spool and relay.toml, while the server runs or not, so that they can be put in place elsewhere."""
    from relay.cli.spool_backup import lines, make

    value = make(invocation.of(context), directory.absolute(), told=_no_word if as_json else printing.note)
    if as_json:
        printing.as_json(value)
    else:
        for line in lines(value):
            printing.line(line)
    damaged = value["left_out"] or any(each["missing_files"] for each in value["shards"].values())
    return os.EX_DATAERR if damaged else os.EX_OK


def _no_word(_: str) -> None:
    """Programs are told at the end."""


def _chosen(here: invocation.Invocation, shard: int | None) -> list[int]:
    numbers = shards.numbers(here)
    if shard is None:
        return numbers
    if shard not in numbers:
        raise NotFound(f"there is no shard {shard}", remedy=f"There are: {', '.join(map(str, numbers)) or 'none'}")
    return [shard]


def _looked_at(here: invocation.Invocation, *, told: bool) -> Iterator[dict[str, Any]]:
    from relay.journal.dayfile import damages as damages_of_day
    from relay.journal.dayfile import day_files
    from relay.registry.database import damages as damages_of_registry
    from relay.spool.verifying import verify as verify_shard

    def begin(path: Path) -> None:
        if told:
            printing.note(f"looking at {path}")

    for name in ("registry.db", "suppression.db"):
        if (here.spool / name).exists():
            begin(here.spool / name)
            yield _plain(here.spool / name, damages_of_registry(here.spool / name), _RESTORE)
    for number in shards.numbers(here):
        begin(here.spool / f"shard-{number}" / "queue.db")
        yield _of_shard(verify_shard(here.spool, shard=number, now=here.now))
        for _, path in sorted(day_files(here.spool / f"shard-{number}").items()):
            begin(path)
            yield _plain(path, damages_of_day(path), _MOVE_AWAY)


def _plain(path: Path, damages: list[str], remedy: str) -> dict[str, Any]:
    return {
        "file": str(path),
        "damages": [{"message": None, "what": what, "remedy": remedy} for what in damages],
    }


def _of_shard(found: "Verified") -> dict[str, Any]:
    return {
        "file": str(found.file),
        "server_runs": found.owned,
        "thorough": found.thorough,
        "messages": found.messages,
        "recipients": found.recipients,
        "contents": found.contents,
        "events": found.events,
        "leftovers": found.leftovers,
        "damages": [_damage(each) for each in found.damages],
    }


def _damage(one: "Damage") -> dict[str, Any]:
    return {"message": one.message or None, "what": one.what, "remedy": one.remedy}


def _show(value: dict[str, Any]) -> None:
    counts = [printing.count(value[word], word[:-1]) for word in _COUNTED if word in value]
    printing.line(f"{value['file']}: {', '.join([*counts, 'damaged' if value['damages'] else 'no damage'])}")
    for each in value["damages"]:
        printing.line(f"  {each['message'] or 'damaged'}: {each['what']}")
        printing.line(f"    {each['remedy']}")
    if value.get("leftovers"):
        files = printing.count(len(value["leftovers"]), "content file")
        printing.line(f"  {files} of no message, which the next start removes: {', '.join(value['leftovers'][:10])}")
