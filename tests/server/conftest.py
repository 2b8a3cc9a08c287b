"""What is asynchronous runs on uvloop, as in a worker; what a supervisor does too runs on both loops."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.server.logbook import Logbook

ON_BOTH = frozenset({"test_channel", "test_passing"})


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    both = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return both if item.path.stem in ON_BOTH else {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def logbook(tmp_path: Path) -> Iterator[Logbook]:
    made = Logbook(tmp_path)
    yield made
    made.close()
