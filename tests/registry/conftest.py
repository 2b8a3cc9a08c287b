"""What the registry's tests share: a clock that is moved by hand, and opened databases in a directory of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions
from tests.registry.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def registry(tmp_path: Path, clock: Clock) -> AsyncIterator[Registry]:
    opened = await Registry.open(tmp_path, now=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def suppressions(tmp_path: Path, clock: Clock) -> AsyncIterator[Suppressions]:
    opened = await Suppressions.open(tmp_path, now=clock)
    yield opened
    await opened.close()
