"""log.log: what the rest of Relay calls.

Levels: debug is for following one session or attempt; info is every fact an operator may ask for; warning is what may
need somebody; error is what does. The time is UTC to the millisecond.
"""

import time
import traceback
from collections.abc import Callable, Mapping
from enum import IntEnum

from relay.log.line import Field, encode
from relay.log.output import Output

FLOOD_LINES = 20  # of one warning or error in ...
FLOOD_SECONDS = 10.0
_EVENTS_WATCHED = 1000
_MOST_FRAMES = 12


class Level(IntEnum):
    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40

    @classmethod
    def named(cls, name: str) -> "Level":
        """relay.toml's word."""
        return cls[name.upper()]


_NAMES = {level: level.name.lower() for level in Level}


class Log:
    """now: POSIX seconds. context: fields of every line, such as the worker's number."""

    def __init__(
        self, output: Output, *, now: Callable[[], float], level: Level = Level.INFO, **context: Field
    ) -> None:
        self._writer = _Writer(output, now, level)
        self._context: dict[str, Field] = context

    def bind(self, **context: Field) -> "Log":
        """The same log, with these fields in every line too."""
        bound = object.__new__(Log)
        bound._writer = self._writer
        bound._context = {**self._context, **context}
        return bound

    @property
    def output(self) -> Output:
        return self._writer.output

    def set_level(self, level: Level) -> None:
        """For this log and all bound from the same one."""
        self._writer.level = level

    def debug(self, event: str, /, **fields: Field) -> None:
        if self._writer.level <= Level.DEBUG:
            self._writer.write(Level.DEBUG, event, self._context, fields)

    def info(self, event: str, /, **fields: Field) -> None:
        if self._writer.level <= Level.INFO:
            self._writer.write(Level.INFO, event, self._context, fields)

    def warning(self, event: str, /, **fields: Field) -> None:
        if self._writer.level <= Level.WARNING:
            self._writer.write_unless_flooding(Level.WARNING, event, self._context, fields)

    def error(self, event: str, /, **fields: Field) -> None:
        self._writer.write_unless_flooding(Level.ERROR, event, self._context, fields)

    def exception(self, event: str, error: BaseException, /, **fields: Field) -> None:
        """An error that should not have happened: with the places it came through, never with values."""
        frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
        places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        self.error(event, **{**fields, "error": f"{type(error).__name__}: {error}", "traceback": places})


class _Writer:
    """What a log and those bound from it share."""

    def __init__(self, output: Output, now: Callable[[], float], level: Level) -> None:
        self.output = output
        self.level = level
        self._now = now
        self._floods: dict[str, _Flood] = {}
        self._second = -1
        self._prefix = ""

    def write(self, level: Level, event: str, context: Mapping[str, Field], fields: Mapping[str, Field]) -> None:
        output = self.output
        if output.lost and output.has_room:
            lost, output.lost = output.lost, 0
            self.write(Level.WARNING, "log lines lost", context, {"lines": lost})
        line = {"time": self._time(), "level": _NAMES[level], "event": event, **context, **fields}
        output.add(encode(line), urgent=level is Level.ERROR)

    def write_unless_flooding(
        self, level: Level, event: str, context: Mapping[str, Field], fields: Mapping[str, Field]
    ) -> None:
        flood = self._floods.get(event)
        if flood is None:
            if len(self._floods) >= _EVENTS_WATCHED:
                self._floods.clear()
            flood = self._floods[event] = _Flood()
        if flood.passes(self._now()):
            if flood.left_out:
                fields = {**fields, "left_out": flood.left_out}
                flood.left_out = 0
            self.write(level, event, context, fields)

    def _time(self) -> str:
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"


class _Flood:
    """Counts one event's lines within FLOOD_SECONDS."""

    __slots__ = ("began", "left_out", "lines")

    def __init__(self) -> None:
        self.began = 0.0
        self.lines = 0
        self.left_out = 0

    def passes(self, now: float) -> bool:
        if not 0 <= now - self.began < FLOOD_SECONDS:
            self.began, self.lines = now, 0
        self.lines += 1
        if self.lines > FLOOD_LINES:
            self.left_out += 1
            return False
        return True
