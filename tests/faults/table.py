"""faults.table: what came of the faults, as lines while they are played and as the table of docs/durability.md."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.faults import BY_NAME

if TYPE_CHECKING:
    from tests.faults.run import Row

DOCUMENT = Path(__file__).parents[2] / "docs" / "durability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEADING = (
    f"{'fault':16}{'rounds':>7}{'acked':>8}{'recipients':>11}{'lost':>6}{'named':>7}{'twice':>7}{'oldest':>8}{'s':>6}"
)
SHOWN = 5
_ROW = re.compile(r"^\|.*`--only (\S+) .*\n", re.MULTILINE)
_COLUMNS = (
    "| fault | rounds | acknowledged (recipients) | lost | named | twice | oldest | on | `make faults ARGS=...` |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def line(row: "Row") -> str:
    verdict = row.verdict
    text = (
        f"{row.fault.name:16}{row.rounds:7}{verdict.messages:8}{verdict.recipients:11}{len(verdict.lost):6}"
        f"{len(verdict.named):7}"
        f"{len(verdict.doubled):7}{_milliseconds(row):>8}{row.seconds:6.0f}"
    )
    return text if row.is_good else f"{text}  FAILED"


def complaint(row: "Row", kept: Path) -> str:
    verdict = row.verdict
    said = [f"{row.fault.name}: {row.failure or 'see below'} (kept in {kept})"]
    if row.fault.orderly and verdict.unknown:
        said.append(f"  {verdict.unknown} clients never heard what became of their message")
    for name, keys in (
        ("lost", verdict.lost),
        ("twice without cause", verdict.doubled_without_cause),
        ("altered", verdict.altered),
        ("made up", verdict.made_up),
        ("not in the journal", row.unjournaled),
    ):
        if keys:
            said.append(f"  {len(keys)} {name}: {', '.join(map(str, keys[:SHOWN]))}")
    return "\n".join(said)


def write(rows: Sequence["Row"], *, seed: int) -> None:
    """Each row in its place in the document; those of faults that were not played stay as they are."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    known = {found[1]: found[0] for found in _ROW.finditer(between)}
    known |= {row.fault.name: _row(row, seed) for row in rows}
    lines = "".join(known[name] for name in BY_NAME if name in known)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{_COLUMNS}{lines}{END}{after}", encoding="utf-8")


def _row(row: "Row", seed: int) -> str:
    verdict, today = row.verdict, datetime.now(UTC).strftime("%-d %B %Y")
    return (
        f"| {row.fault.words} | {row.rounds} | {verdict.messages} ({verdict.recipients}) | {len(verdict.lost)}"
        f" | {len(verdict.named)} | {len(verdict.doubled)} | {_milliseconds(row)} | {today}"
        f" | `--only {row.fault.name} --rounds {row.rounds} --seed {seed}` |\n"
    )


def _milliseconds(row: "Row") -> str:
    """How long before a fault the answer to the first of two copies came, at most."""
    oldest = row.verdict.oldest_double
    return f"{oldest * 1000:.0f} ms" if oldest else "-"
