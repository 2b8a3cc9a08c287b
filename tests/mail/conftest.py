"""What the tests of pure parsers share: a measure of linearity."""

import time
from collections.abc import Callable
from typing import Any

import pytest

SIZE = 16_000
GROWTH = 4
NOISE = 0.004  # seconds

Linear = Callable[[Callable[[int], Any], Callable[[Any], object]], None]


@pytest.fixture(scope="session")
def linear() -> Linear:
    """`linear(make, run)`: fails when an input of four times the size takes far more than four times as long.

    What is quadratic takes sixteen times as long, and seconds at this size; ten leaves room for a busy machine.
    """

    def check(make: Callable[[int], Any], run: Callable[[Any], object]) -> None:
        assert _best(run, make(SIZE * GROWTH)) < 2.5 * GROWTH * _best(run, make(SIZE)) + NOISE

    return check


def _best(run: Callable[[Any], object], value: Any) -> float:
    times = []
    for _ in range(3):
        start = time.process_time()
        run(value)
        times.append(time.process_time() - start)
    return min(times)
