"""Being somebody else for a moment, with a directory both can reach. Tests run as root; anyone else skips these."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@contextmanager
def as_nobody() -> Iterator[None]:
    """The effective uid, of the whole process; only root comes back from it."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def directory_of(uid: int) -> Iterator[Path]:
    """Not below pytest's own, which nobody else may enter."""
    directory = Path(tempfile.mkdtemp(prefix="relay-"))
    try:
        os.chown(directory, uid, uid)
        yield directory
    finally:
        shutil.rmtree(directory)
