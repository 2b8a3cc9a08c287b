"""A log that a test reads back."""

import json
import time
from pathlib import Path
from typing import Any

from relay.log import Level, Log, Output


class Logbook:
    """`log` writes to a file; `lines` gives what was written."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "relay.log"
        self.log = Log(Output(self._path), now=time.time, level=Level.DEBUG)

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """All, or those of one event."""
        self.log.output.flush()
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [line for line in lines if event in ("", line["event"])]

    def close(self) -> None:
        self.log.output.close()
