"""bench.feedback: how a site's governor finds what a server takes, the table of Postfix's SCHEDULER_README for Relay.

    python -m tests.bench.feedback                 all cases, 8 minutes; writes docs/delivery.md and its plot
    python -m tests.bench.feedback --seconds 15    shorter phases; prints the table only

A receiving server on loopback takes 5 sessions at once and then, without a word, 10 and 3; or 20 messages per second,
then 40 and 12. Relay may use 20 connections, and there is always more mail waiting. A phase begins with the change,
so what it costs to find out is in it. All cases run at the same time; each message takes the server 250 ms, so that
they hardly notice each other.

refused: what the server refused of all that was tried, sessions and messages. deferred: messages put off, of those that
ended or were put off. throughput: the messages taken, as a share of the rate, or of what a Relay that is told the
number of sessions gets through: that is measured first, under the same load. Sessions that are open when the limit
falls stay, and a rate lets a second's messages pass at once: so it may be a little more than all.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.bench import feedback_page
from tests.delivery.outfit import Outfit, config, outfit
from tests.peers.limited import LimitedMx, Refuses
from tests.peers.mx import ScriptedMx

PHASE = 120.0  # seconds
TAKES = 0.25  # seconds a message takes the server
WAITING = 200  # messages that always wait
LOOK = 0.25  # seconds between two looks at the connections
CONNECTIONS = 20
WARM = 5.0  # seconds until what is possible is measured


@dataclass(frozen=True, slots=True)
class Case:
    """limits: of the phases, sessions at once, or messages per second where the server refuses RCPT."""

    what: str
    refuses: Refuses
    per_connection: int
    limits: tuple[int, ...]

    @property
    def is_rate(self) -> bool:
        return self.refuses is Refuses.RCPT


CASES = (
    Case("421 in the greeting, 50 messages a connection", Refuses.GREETING, 50, (5, 10, 3)),
    Case("421 in the greeting, 1 message a connection", Refuses.GREETING, 1, (5, 10, 3)),
    Case("421 to MAIL, 50 messages a connection", Refuses.MAIL, 50, (5, 10, 3)),
    Case("451 4.7.1 to RCPT above a rate", Refuses.RCPT, 50, (20, 40, 12)),
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Until now. deferred: recipients put off."""

    taken: int
    refused: int
    deferred: int


@dataclass(slots=True)
class Phase:
    """What one came to. possible: messages per second. open: connections at each look."""

    case: Case
    limit: int
    possible: float
    seconds: float
    taken: int
    refused: int
    deferred: int
    open: list[int] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.taken + self.refused)

    @property
    def deferred_share(self) -> float:
        return self.deferred / max(1, self.taken + self.deferred)

    @property
    def throughput(self) -> float:
        return self.taken / self.seconds / self.possible


class Run:
    """One case, from phase to phase."""

    def __init__(self, case: Case, server: LimitedMx, relay: Outfit) -> None:
        self._case = case
        self._server = server
        self._relay = relay

    async def phases(self, possible: Sequence[float], seconds: float) -> list[Phase]:
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(self._feed())
            limits = zip(self._case.limits, possible, strict=True)
            done = [await self._phase(limit, rate, seconds) for limit, rate in limits]
            feeding.cancel()
        return done

    async def rate(self, seconds: float) -> float:
        """Messages per second, once it runs."""
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(self._feed())
            await asyncio.sleep(WARM)
            began, before = time.monotonic(), self._server.taken
            await asyncio.sleep(seconds)
            rate = (self._server.taken - before) / (time.monotonic() - began)
            feeding.cancel()
        return rate

    async def _phase(self, limit: int, possible: float, seconds: float) -> Phase:
        server = self._server
        if self._case.is_rate:
            server.rate = limit
        else:
            server.sessions = limit
        began, before = time.monotonic(), self._counts()
        connections = []
        while (passed := time.monotonic() - began) < seconds:
            connections.append(server.open)
            await asyncio.sleep(LOOK)
        after = self._counts()
        return Phase(
            self._case,
            limit,
            possible,
            passed,
            taken=after.taken - before.taken,
            refused=after.refused - before.refused,
            deferred=after.deferred - before.deferred,
            open=connections,
        )

    def _counts(self) -> Counts:
        rows = self._relay.metrics.snapshot()["values"]["relay_recipients_deferred"]
        return Counts(self._server.taken, self._server.refused, sum(count for _, count in rows))

    async def _feed(self) -> None:
        """New mail for what was taken: deferred mail comes back besides."""
        fed = 0
        while True:
            wanted = self._server.taken + WAITING - fed
            if wanted > 0:
                await asyncio.gather(*(self._relay.submit("someone@[127.0.0.1]") for _ in range(wanted)))
                fed += wanted
            await asyncio.sleep(LOOK)


@asynccontextmanager
async def running(case: Case, limit: int, **numbers: float) -> AsyncIterator[Run]:
    """numbers: of the [[site]] table."""
    server = LimitedMx(case.refuses, seconds=TAKES)
    if case.is_rate:
        server.rate = float(limit)
    else:
        server.sessions = limit
    table = {"connections": CONNECTIONS, "messages_per_connection": case.per_connection, **numbers}
    async with AsyncExitStack() as opened:
        directory = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        listening = await opened.enter_async_context(ScriptedMx(server))
        settings = config(directory, port=listening.port, site=[{"mx_suffix": "127.0.0.1", **table}])
        yield Run(case, server, await opened.enter_async_context(outfit(settings)))


async def possible(case: Case, limit: int, seconds: float) -> float:
    """Messages per second: the rate, or what a Relay that is told the number of sessions gets through."""
    if case.is_rate:
        return float(limit)
    async with running(case, limit, connections=limit) as run:
        return await run.rate(seconds)


async def measure(case: Case, seconds: float) -> list[Phase]:
    rates = [await possible(case, limit, seconds / 4) for limit in case.limits]
    async with running(case, case.limits[0]) as run:
        return await run.phases(rates, seconds)


async def measure_all(cases: Sequence[Case], seconds: float) -> list[Phase]:
    runs = await asyncio.gather(*(measure(case, seconds) for case in cases))
    return [phase for phases in runs for phase in phases]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.feedback", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=PHASE, help="of each phase; %(default)s write the page")
    options = parser.parse_args()
    phases = uvloop.run(measure_all(CASES, options.seconds))
    sys.stdout.write(feedback_page.table(phases))
    if options.seconds == PHASE:
        feedback_page.write(phases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
