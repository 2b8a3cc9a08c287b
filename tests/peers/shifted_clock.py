"""peers.shifted_clock: the clock of the day as a process sees it, put forward or back while it runs.

clock = ShiftedClock(tmp_path)
process = subprocess.Popen(command, env={**os.environ, **clock.environment})
clock.shift(days=1)
"""

import struct
from pathlib import Path

from tests.peers.shared_object import shared_object

_DAY = 86400


class ShiftedClock:
    """directory: where its file lies."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "shifted-clock"
        self.shift(days=0)

    @property
    def environment(self) -> dict[str, str]:
        """What the process is to be started with."""
        return {"LD_PRELOAD": str(shared_object("shifted_clock")), "SHIFTED_CLOCK": str(self._path)}

    def shift(self, *, days: float) -> None:
        """From now on, against the machine's clock."""
        octets = struct.pack("=q", int(days * _DAY))
        with self._path.open("r+b" if self._path.exists() else "wb") as file:
            file.write(octets)
