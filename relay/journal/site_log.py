"""journal.site_log: what happened at receiving sites and to our addresses, of no recipient: a line of JSON for each.

Limits that were lowered and raised again, breakers, suspensions, setbacks, and when one of our addresses rested, each
with its cause and number, written by whoever changes it: the server, or a command. There is a file for each day, and a
line is one write to its end (`O_APPEND`), so processes need no lock for it, and a killed one has lost nothing. A
machine that crashes may lose the last half minute: nothing waits for the disk here, for the supervisor serves all
workers, and no mail depends on it.

A process writes no more than 50 lines a second; it tells its log when that begins, and the next line how many were left
out. A line that cannot be written is left out in the same way. Whoever reads passes over a line that is cut.
"""

import os
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

DIRECTORY = "site-log"
MOST_A_SECOND = 50
_SUFFIX = ".jsonl"
_OF_LIMITS = ("slowed", "sped up")


class SiteEvent(Struct, frozen=True, omit_defaults=True):
    """at: POSIX seconds. site: its name, or the provider's; "" where our address rests at all. source: our address, ""
    for the system's choice, or all. what: "slowed", "sped up", "breaker tripped", "breaker closed", "suspended",
    "resumed" or "set back"; of an address at all sites "put to rest" and "resumed", by somebody, or "rests" and "rests
    no longer". detail: cause and numbers, in words. left_out: events before it that are not here.
    """

    at: float
    site: str
    source: str
    what: str
    detail: str
    left_out: int = 0


class SiteLog:
    """One process's way to it. spool: the spool's directory. now: POSIX seconds. incomplete: told why, when events
    begin to be left out.
    """

    def __init__(self, spool: Path, *, now: Callable[[], float], incomplete: Callable[[str], None]) -> None:
        self._directory = spool / DIRECTORY
        self._now = now
        self._incomplete = incomplete
        self._second = 0
        self._written = 0
        self._left_out = 0

    def note(self, site: str, source: str, what: str, detail: str) -> None:
        """One more, now."""
        now = self._now()
        if self._second != int(now):
            self._second, self._written = int(now), 0
        if self._written >= MOST_A_SECOND:
            self._leave_out("too many a second")
            return
        self._written += 1
        event = SiteEvent(now, site, source, what, detail, self._left_out)
        try:
            self._append(day_of(now), msgspec.json.encode(event) + b"\n")
        except OSError as error:
            self._leave_out(str(error))
        else:
            self._left_out = 0

    def _append(self, day: date, line: bytes) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        path = self._directory / f"{day.isoformat()}{_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(file, line) < len(line):
                os.write(file, b"\n")  # no other line is to be cut with it
                raise OSError(f"{path}: it was written in part")
        finally:
            os.close(file)

    def _leave_out(self, why: str) -> None:
        if not self._left_out:
            self._incomplete(why)
        self._left_out += 1

    def expire(self, *, today: date, retention_days: int) -> list[date]:
        """Delete the days that are older; which. Any process may, and none minds another. Raises OSError."""
        over = [day for day in days(self._directory) if day < today - timedelta(days=retention_days)]
        for day in over:
            (self._directory / f"{day.isoformat()}{_SUFFIX}").unlink(missing_ok=True)
        return over


def read(spool: Path, names: Collection[str], *, since: float = 0.0, limit: int) -> list[SiteEvent]:
    """The last so many at the sites or providers of these names, in order. Raises OSError."""
    return _last(spool, lambda each: each.site in names, since=since, limit=limit)


def read_of(spool: Path, source: str, *, since: float = 0.0, limit: int) -> list[SiteEvent]:
    """The last so many that kept one of our addresses from sending, or no longer, in order. Raises OSError."""
    return _last(spool, lambda each: each.source == source and each.what not in _OF_LIMITS, since=since, limit=limit)


def _last(spool: Path, is_wanted: Callable[[SiteEvent], bool], *, since: float, limit: int) -> list[SiteEvent]:
    found: list[SiteEvent] = []
    directory = spool / DIRECTORY
    for day in reversed(days(directory)):
        if len(found) >= limit or (since and day < day_of(since)):
            break
        events = [each for each in _read(directory / f"{day.isoformat()}{_SUFFIX}") if is_wanted(each)]
        found = [*events, *found]
    return [each for each in found if each.at >= since][-limit:]


def day_of(at: float) -> date:
    return datetime.fromtimestamp(at, UTC).date()


def days(directory: Path) -> list[date]:
    """Those that there are, in order. Raises OSError."""
    if not directory.exists():
        return []
    return sorted(date.fromisoformat(each.stem) for each in directory.glob(f"????-??-??{_SUFFIX}"))


def _read(path: Path) -> Iterator[SiteEvent]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:  # its time was over
        return
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=SiteEvent)
        except (msgspec.MsgspecError, ValueError):
            continue
