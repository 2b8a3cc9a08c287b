"""bench.growth.arrivals: the sink, and whether all that was sent arrived there, once.

Messages are numbered through all loads, of whichever Relay, so that one that comes late or twice is noticed later on
too. One with recipients in several domains, or with very many, arrives in several transactions.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.measuring import WrongResult
from tests.bench.programs import NUMBERS, Load, Sink, Totals, sink
from tests.peers.ports import Reserved

PER_TRANSACTION = 100  # recipients: Relay's default
WITHIN = 300.0  # seconds from the last 250


class Arrivals:
    def __init__(self, port: int, sink: Sink) -> None:
        self.port = port
        self._sink = sink
        self._next = 0
        self._expected = 0  # transactions

    @property
    def totals(self) -> Totals:
        return self._sink.totals

    def numbered(self, load: Load) -> Load:
        """The load with numbers that no other has."""
        first, self._next = self._next, self._next + load.messages
        if self._next > NUMBERS:
            raise RuntimeError(f"the sink cannot tell more than {NUMBERS} messages apart")
        return replace(load, first=first)

    def expect(self, load: Load) -> None:
        """Wait for all of it. Raises WrongResult."""
        self._expected += load.messages * transactions(load)
        ends = time.monotonic() + WITHIN
        while self.totals.messages < self._expected and time.monotonic() < ends:
            time.sleep(0.02)
        self.check(load)

    def check(self, load: Load) -> None:
        """Raises WrongResult."""
        numbers = range(load.first, load.first + load.messages)
        wrong = wrong_counts(numbers, [self._sink.came(number) for number in numbers], transactions(load))
        strays = self.totals.strays + self.totals.messages - self._expected
        if wrong or strays:
            raise WrongResult(f"of {load.messages} messages: {'; '.join(wrong[:5])}; {strays} strays")


def wrong_counts(numbers: Sequence[int], came: Sequence[int], wanted: int) -> list[str]:
    """In words, each message that did not arrive in as many transactions as it should."""
    return [
        f"message {number} came in {count} transactions of {wanted}"
        for number, count in zip(numbers, came, strict=True)
        if count != wanted
    ]


def transactions(load: Load) -> int:
    """In which each message is to arrive."""
    whole, rest = divmod(load.recipients, load.per_domain or load.recipients)
    return whole * _for(load.per_domain or load.recipients) + _for(rest)


def _for(recipients: int) -> int:
    return -(-recipients // PER_TRANSACTION)


@contextmanager
def arrivals(directory: Path, *, later: str = "") -> Iterator[Arrivals]:
    """later: recipients whose local part begins so are put off."""
    directory.mkdir()
    with Reserved() as reserved, sink(directory, port=reserved.port, later=later) as taking:
        yield Arrivals(reserved.port, taking)
