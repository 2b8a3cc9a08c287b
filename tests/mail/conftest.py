"""What the tests of pure parsers share: a measure of linearity."""

import gc
import time
from collections.abc import Callable
from typing import Any

import pytest

SIZE = 16_000
GROWTH = 4
TRIES = 5
NOISE = 0.004  # seconds

Linear = Callable[[Callable[[int], Any], Callable[[Any], object]], None]


@pytest.fixture(scope="session")
def linear() -> Linear:
    """`linear(make, run)`: fails when an input of four times the size takes far more than four times as long.

    What is quadratic takes sixteen times as long, and seconds at this size, however often it is tried; ten, and a few
    tries, leave room for a busy machine.
    """

    def check(make: Callable[[int], Any], run: Callable[[Any], object]) -> None:
        small, large = make(SIZE), make(SIZE * GROWTH)
        assert any(_best(run, large) < 2.5 * GROWTH * _best(run, small) + NOISE for _ in range(TRIES))

    return check


def _best(run: Callable[[Any], object], value: Any) -> float:
    """Without the collector, which looks through all that other tests have left."""
    times = []
    gc.disable()
    try:
        for _ in range(3):
            start = time.process_time()
            run(value)
            times.append(time.process_time() - start)
    finally:
        gc.enable()
    return min(times)
