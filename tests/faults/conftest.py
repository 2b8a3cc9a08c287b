"""What the harness's own tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def directory() -> Iterator[Path]:
    """On a disk: /tmp may be in memory."""
    with tempfile.TemporaryDirectory(prefix="relay-faults-", dir="/var/tmp") as name:
        yield Path(name)
