"""spool.reserve: a file that keeps room for what must be recorded when the disk is full.

What was delivered has to be settled even then, or a crash would deliver it again. So when a commit finds no room the
reserve is given up, what is owed is written, and nothing new is taken until the reserve could be made again.
"""

import contextlib
import os
from pathlib import Path

RESERVE_OCTETS = 4 * 1024 * 1024


class Reserve:
    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_there(self) -> bool:
        return self._path.exists()

    def restore(self) -> None:
        """Make it unless it is there. Raises OSError, leaving nothing."""
        if self.is_there:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_OCTETS)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(descriptor)

    def restore_if_possible(self) -> None:
        with contextlib.suppress(OSError):  # without it the spool works as well, until the disk is full
            self.restore()

    def give_up(self) -> bool:
        """Whether it was there."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
