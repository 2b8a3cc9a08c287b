"""peers.waiting: wait for what another process does, with an end."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0  # seconds


def eventually(look: Callable[[], T], *, what: str, within: float = PATIENCE, every: float = 0.02) -> T:
    """The first true value `look` gives; the test fails when it gives none in time. what: what should have come."""
    ends = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(every)
