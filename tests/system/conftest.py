"""What the tests of the image and of the units share, and what those of a running relay share."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.certificates import Authority
from tests.peers.dns import authoritative
from tests.system.image import Image, build
from tests.system.relay_process import RelayProcess
from tests.system.zones import zones

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Built once. Tests that use it are in the xdist group "image"."""
    work = tmp_path_factory.mktemp("image")
    yield build(TOP, work=work)
    shutil.rmtree(work)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the clients trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one, with `zones.py`."""
    with authoritative(tmp_path_factory.mktemp("nsd"), zones()) as address:
        yield address


@pytest.fixture
def relay(tmp_path: Path, authority: Authority, nameserver: str) -> Iterator[Callable[..., RelayProcess]]:
    """Makes a relay that the test starts and stops; arguments are tables of relay.toml. Ends it whatever happens."""
    made: list[RelayProcess] = []

    def make(**tables: Any) -> RelayProcess:
        directory = tmp_path / f"relay-{len(made)}"
        directory.mkdir()
        made.append(RelayProcess(directory, authority, nameserver=nameserver, **tables))
        return made[-1]

    yield make
    for each in made:
        each.close()
