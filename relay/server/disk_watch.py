"""server.disk_watch: how much room there is for mail, as it was a moment ago; a session asks for every message."""

from collections.abc import Callable
from pathlib import Path

from relay.config.models import SubmissionLimits
from relay.log import Log
from relay.server.machine import DiskSpace, disk_space


class DiskWatch:
    """limits: asked each time, so that a reload counts."""

    def __init__(self, directory: Path, *, limits: Callable[[], SubmissionLimits], log: Log) -> None:
        """Raises SpoolError."""
        self.space: DiskSpace = disk_space(directory)
        self._directory = directory
        self._limits = limits
        self._log = log
        self._was_low = False

    @property
    def is_low(self) -> bool:
        return self.space.is_low(self._limits())

    async def look(self) -> None:
        """Raises SpoolError."""
        self.space = disk_space(self._directory)
        if self.is_low and not self._was_low:
            self._log.warning("disk space low", free=self.space.free, free_inodes=self.space.free_inodes)
        elif self._was_low and not self.is_low:
            self._log.info("disk space enough again", free=self.space.free, free_inodes=self.space.free_inodes)
        self._was_low = self.is_low
