"""faults: Relay under faults, with a ledger of every message. `make faults` runs it.

    make faults                                  the long run, an hour or two; writes the table of docs/durability.md
    make faults ARGS=--short                     a few rounds of each in some minutes; writes nothing
    make faults ARGS="--only power --rounds 20"  one fault; writes its row of the table

The exit code is 1 when a message was lost, doubled without cause, altered or made up, or the server did not recover;
what the server kept and logged is then left where it says. Mounting file systems needs root.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import table
from tests.faults.faults import BY_NAME, FAULTS, Fault, Where
from tests.faults.house import Tampering, open_house
from tests.faults.ledger import Key, Verdict
from tests.faults.place import Cut, Plain, Small
from tests.faults.server import PROGRAM, Failed, Server

RATE = 60.0  # messages a second: enough for a commit at any moment, and time left for what is measured


@dataclass
class Row:
    """What came of one fault."""

    fault: Fault
    rounds: int
    verdict: Verdict = field(default_factory=Verdict)
    unjournaled: list[Key] = field(default_factory=list)
    restarts: int = 0
    seconds: float = 0.0
    failure: str = ""

    @property
    def is_good(self) -> bool:
        heard = not (self.fault.orderly and self.verdict.unknown)
        kept = self.fault.damages or not (self.unjournaled or self.verdict.named)
        return not self.failure and self.verdict.is_clean and heard and kept


async def play(
    fault: Fault, *, rounds: int, directory: Path, seed: int, rate: float, program: Sequence[str] = PROGRAM
) -> Row:
    """Never raises for what the server does: it is in the row."""
    row, began, is_good = Row(fault, rounds), time.monotonic(), False
    place = _place(fault, directory / "spool")
    try:
        await place.open()
        try:
            await _played(row, place, directory, seed=seed, rate=rate, program=program)
            is_good = row.is_good
        finally:
            await place.close(keep=not is_good)
    except (Failed, TimeoutError, OSError) as error:
        row.failure = f"{type(error).__name__}: {error}"
    row.seconds = time.monotonic() - began
    return row


async def _played(row: Row, place: Plain, directory: Path, *, seed: int, rate: float, program: Sequence[str]) -> None:
    fault = row.fault
    tampering = Tampering(directory) if fault.shim else None
    environment = tampering.environment if tampering else {}
    server = Server(directory, place.spool, fault.workers, program=program, environment=environment)
    house = open_house(
        place=place,
        server=server,
        tampering=tampering,
        seed=seed,
        rate=rate,
        in_flight=fault.in_flight,
        at_most_once=fault.at_most_once,
    )
    async with house as opened:
        for number in range(row.rounds):
            await fault.round(opened, number)
        row.verdict = await opened.settle_up()
        row.restarts = opened.restarts
        row.unjournaled = await opened.unjournaled()
        await server.stop()


def _place(fault: Fault, directory: Path) -> Plain:
    match fault.where:
        case Where.SMALL:
            return Small(directory)
        case Where.CUT:
            return Cut(directory)
    return Plain(directory)


async def play_all(asked: argparse.Namespace, directory: Path) -> list[Row]:
    """Some at a time: most of a round is waiting."""
    turn = asyncio.Semaphore(asked.jobs)

    async def one(fault: Fault) -> Row:
        async with turn:
            own = directory / fault.name
            own.mkdir()
            rounds = asked.rounds or (fault.short if asked.short else fault.long)
            row = await play(fault, rounds=rounds, directory=own, seed=asked.seed, rate=asked.rate)
            print(table.line(row), flush=True)
            if row.is_good:
                shutil.rmtree(own)
            return row

    chosen = [BY_NAME[name] for name in asked.only] if asked.only else list(FAULTS)
    if os.geteuid() != 0:
        chosen = [fault for fault in chosen if fault.where is Where.PLAIN]
        print("faults: not root: those that need a file system of their own are left out", file=sys.stderr)
    return list(await asyncio.gather(*map(one, chosen)))


def main() -> int:
    asked = _arguments()
    # Below /var/tmp, which is on a disk; /tmp may be in memory, where an fsync costs nothing.
    directory = Path(tempfile.mkdtemp(prefix="relay-faults-", dir="/var/tmp"))
    directory.chmod(0o755)
    print(table.HEADING, flush=True)
    rows = asyncio.run(play_all(asked, directory))
    bad = [row for row in rows if not row.is_good]
    for row in bad:
        print(table.complaint(row, directory / row.fault.name), file=sys.stderr)
    if not bad:
        shutil.rmtree(directory)
    if not asked.short:
        table.write([row for row in rows if row.is_good], seed=asked.seed)
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults ARGS=...")
    parser.add_argument("--short", action="store_true", help="few rounds of each")
    parser.add_argument("--only", action="append", choices=BY_NAME, help="this fault; may be given again")
    parser.add_argument("--rounds", type=int, default=0, help="of each")
    parser.add_argument("--rate", type=float, default=RATE, help=f"messages per second: {RATE:g}")
    parser.add_argument("--jobs", type=int, default=4, help="faults at a time: 4")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is left to chance")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
