"""Every test here runs on asyncio's loop and on uvloop's: transports, TLS and set_protocol differ between them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from relay.smtpclient import TlsContexts
from tests.peers.certificates import Authority
from tests.smtpclient.sessions import Sessions


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def contexts(authority: Authority) -> TlsContexts:
    return TlsContexts(monotonic=time.monotonic, ca_file=authority.root)


@pytest_asyncio.fixture
async def sessions(contexts: TlsContexts) -> AsyncIterator[Sessions]:
    sessions = Sessions(contexts)
    yield sessions
    await sessions.close()


@pytest.fixture
def body_file(tmp_path: Path) -> Path:
    return tmp_path / "body"
