"""What the tests of the image and of the units share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.image import Image, build

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Built once. Tests that use it are in the xdist group "image"."""
    work = tmp_path_factory.mktemp("image")
    yield build(TOP, work=work)
    shutil.rmtree(work)
