from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.spool.spool import Spool
from tests.spool.letters import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def spool(tmp_path: Path, clock: Clock) -> AsyncIterator[Spool]:
    opened = await Spool.open(tmp_path, shard=0, now=clock)
    yield opened
    await opened.close()
