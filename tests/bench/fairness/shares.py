"""bench.fairness.shares: who waits for whom at a site that takes 50 messages a second.

A campaign of 200 000 messages of one credential is in the queues of four workers, and another credential's messages
come in one by one, to that site and to another. Latency is from the 250 to the last octet at the server. Some more of
the second credential's are in the middle of the queues when Relay is started, and are looked for from then on.

Then ten credentials with queues of 1000 to 50 000 messages: what each had of what the site took, while all had mail;
with a part of each at every worker, and with each at one worker, as an application has it that keeps one session open.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fairness.machine import (
    HERE,
    THERE,
    TRANSACTIONAL,
    WORKERS,
    Mail,
    Submitting,
    relay,
    taking,
)
from tests.bench.programs import Sink
from tests.peers.ports import Reserved
from tests.peers.waiting import eventually

RATE = 50
CAMPAIGN = 200_000
STORED = 5  # of each worker's queue, in the middle
FRESH, ELSEWHERE = 900_000, 950_000  # the first numbers of what is submitted
SESSIONS = 10
QUEUES = (1_000, 2_000, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000)

PACED = f'[[site]]\nmx_suffix = "{HERE}"\nmessages_per_second = {RATE}\n'
CROWDED = f'[[site]]\nmx_suffix = "{HERE}"\nconnections = {SESSIONS}\n'


@dataclass(frozen=True, slots=True)
class Waited:
    """Seconds, each list sorted. here: of what came in for the site. there: for another one. stored: from the start, of
    what was queued. taken: messages a second of the site. memory: megabytes of the largest worker.
    """

    here: Sequence[float]
    there: Sequence[float]
    stored: Sequence[float]
    taken: float
    memory: float


def campaign(count: int) -> list[Mail]:
    """And in the middle of it, another's."""
    half, queue, first = count // WORKERS // 2, list[Mail](), 0
    for worker in range(WORKERS):
        for some, credential, stream in (
            (half, "news", "bulk"),
            (STORED, "shop", TRANSACTIONAL),
            (half, "news", "bulk"),
        ):
            queue.append(Mail(worker, first, some, credential, stream))
            first += some
    return queue


def waiting(directory: Path, *, count: int, seconds: float, is_paced: bool) -> Waited:
    """is_paced: by Relay; else the server takes so long for each message that it takes no more."""
    queue = campaign(count)
    takes = 0.0 if is_paced else SESSIONS / RATE
    with ExitStack() as stack:
        port = stack.enter_context(Reserved(HERE, THERE)).port
        here = stack.enter_context(taking(directory / "here", port=port, takes=takes))
        there = stack.enter_context(taking(directory / "there", port=port, address=THERE))
        running = stack.enter_context(
            relay(directory / "relay", queue, port=port, tables=PACED if is_paced else CROWDED)
        )
        stored = [number for mail in queue if mail.credential == "shop" for number in mail.numbers]
        eventually(lambda: all(map(here.came, stored)), what="what was in the queue comes", within=120.0, every=0.1)
        began, before = time.monotonic(), here.totals.messages
        fresh, others = Submitting(running, FRESH, 1.0), Submitting(running, ELSEWHERE, 1.0, THERE)
        with fresh, others:
            time.sleep(seconds)
            taken = (here.totals.messages - before) / (time.monotonic() - began)
            memory = running.largest
        return Waited(
            fresh.latencies(here),
            others.latencies(there),
            sorted(here.came_at(number) - running.began for number in stored),
            taken,
            memory,
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """Messages by credential, in the order of QUEUES."""

    had: Sequence[int]

    @property
    def deviation(self) -> float:
        """The most by which a share is another than an equal one, as a part of it."""
        mean = sum(self.had) / len(self.had)
        return max(abs(had - mean) for had in self.had) / mean


def ten(directory: Path, *, at: Sequence[Sequence[int]], seconds: float, scale: float = 1.0) -> Shared:
    """at: the workers of each credential, by its place in QUEUES."""
    queue, mail_of = list[Mail](), list[list[Mail]]()
    for place, (count, workers) in enumerate(zip(QUEUES, at, strict=True)):
        each = int(count * scale) // len(workers)
        first = sum(mail.count for mail in queue)
        mail_of.append([Mail(worker, first + i * each, each, f"app{place}") for i, worker in enumerate(workers)])
        queue += mail_of[-1]
    with ExitStack() as stack:
        port = stack.enter_context(Reserved(HERE)).port
        sink = stack.enter_context(taking(directory / "sink", port=port))
        stack.enter_context(relay(directory / "relay", queue, port=port, tables=PACED))
        eventually(lambda: _have_all(sink, mail_of), what="each credential has had one", within=60.0, every=0.1)
        before = [_had(sink, each) for each in mail_of]
        time.sleep(seconds)
        return Shared([_had(sink, each) - had for each, had in zip(mail_of, before, strict=True)])


def _have_all(sink: Sink, mail_of: Sequence[Sequence[Mail]]) -> bool:
    return all(any(sink.came(number) for number in each[0].numbers) for each in mail_of)


def _had(sink: Sink, mails: Sequence[Mail]) -> int:
    return sum(sink.came(number) for mail in mails for number in mail.numbers)
