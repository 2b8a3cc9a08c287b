"""journal.search: finding events in all shards and days, and in what has not been moved there yet.

Works beside running workers and with nobody running: files are opened read-only, one after the other, the newest day
first. What cannot be read, or was written by a newer relay, is named in the result, and the rest is searched all the
same.

Events still in the shards are given by the caller as `pending`, who must have read them before calling: then an event
that is moved meanwhile is found in the journal, and one found in both is told once. They are kept in the order they
are given.
"""

import asyncio
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from relay.errors import RelayError
from relay.journal import lookup
from relay.journal.dayfile import day_at, day_files, reading, set_aside
from relay.journal.encoding import address_key
from relay.journal.failure import translated
from relay.journal.query import FirstTime, Found, Query
from relay.mail import queue_id
from relay.mail.event import Event

T = TypeVar("T")


class Search:
    """spool: the directory that holds the shards."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool

    async def search(self, query: Query, *, pending: Sequence[Event] = ()) -> Found:
        """At most query.limit events, newest first."""
        return await asyncio.to_thread(self._search, query, pending)

    async def show(self, message: str, *, pending: Sequence[Event] = ()) -> Found:
        """All events of a message, as they happened. message: a queue id, or a Message-ID (then of all messages with
        it).
        """
        return await asyncio.to_thread(self._show, message, pending)

    async def first_time(
        self, credential: str, recipients: Collection[str], *, pending: Sequence[Event] = ()
    ) -> FirstTime:
        """Those of `recipients` that this credential has not sent to, as far back as the journal goes."""
        return await asyncio.to_thread(self._first_time, credential, recipients, pending)

    def _search(self, query: Query, pending: Sequence[Event]) -> Found:
        scan = _Scan(self._spool)
        if query.message and not queue_id.is_valid(query.message):
            found = [
                event
                for message in self._messages(scan, query.message, pending)
                for event in _newest(scan, replace(query, message=message), pending)
            ]
        else:
            found = _newest(scan, query, pending)
        return Found(tuple(_newest_first(found, limit=query.limit)), scan.unreadable)

    def _show(self, message: str, pending: Sequence[Event]) -> Found:
        scan = _Scan(self._spool)
        if queue_id.is_valid(message):
            events = _story(scan, message, pending)
        else:
            messages = sorted(self._messages(scan, message, pending))
            events = [event for each in messages for event in _story(scan, each, pending)]
        return Found(tuple(events), scan.unreadable)

    def _first_time(self, credential: str, recipients: Collection[str], pending: Sequence[Event]) -> FirstTime:
        scan = _Scan(self._spool)
        missing = {address_key(each) for each in recipients} - lookup.known_pending(pending, credential)
        with closing(scan.ask(lambda connection: lookup.known(connection, credential, missing))) as answers:
            while missing and (known := next(answers, None)) is not None:
                missing -= known
        return FirstTime(frozenset(each for each in recipients if address_key(each) in missing), scan.unreadable)

    def _messages(self, scan: "_Scan", header: str, pending: Sequence[Event]) -> set[str]:
        """Queue ids of the messages with this Message-ID."""
        known = {event.message for event in pending if lookup.has_header(event, header)}
        for found in scan.ask(lambda connection: lookup.messages_of(connection, header)):
            known |= found
        return known


@dataclass(slots=True)
class _Scan:
    """One search's way through the files, and which of them it could not read."""

    spool: Path
    unreadable: dict[str, str] = field(default_factory=dict)

    def ask(self, question: Callable[[Connection], T], *, day: date | None = None) -> Generator[T, None, None]:
        """The answer of each file, the newest day first; of one day's files only when `day` is given."""
        for path in self._paths(day):
            try:
                with reading(path) as connection:
                    if connection is not None:
                        yield question(connection)
            except (RelayError, ValueError) as error:
                self.unreadable[str(path)] = str(error)

    def _paths(self, wanted: date | None) -> list[Path]:
        found: list[tuple[date, Path]] = []
        for shard in sorted(self.spool.glob("shard-*")):
            try:
                found.extend(self._days_of(shard))
            except RelayError as error:
                self.unreadable[str(shard)] = str(error)
        return [path for day, path in sorted(found, reverse=True) if wanted in (None, day)]

    def _days_of(self, shard: Path) -> list[tuple[date, Path]]:
        with translated(shard):
            self.unreadable.update((str(path), "it was damaged and has been set aside") for path in set_aside(shard))
            return list(day_files(shard).items())


class _Newest:
    """The newest events found so far. Once there are enough, a file is only asked for what is newer than the last."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self.events: list[Event] = []

    def take_from(self, connection: Connection) -> None:
        query = self._query
        if 0 < query.limit == len(self.events):
            query = replace(query, since=max(query.since, self.events[-1].at))
        self.events = _newest_first([*self.events, *lookup.search(connection, query)], limit=query.limit)


def _newest(scan: _Scan, query: Query, pending: Sequence[Event]) -> list[Event]:
    newest = _Newest(query)
    day = day_at(queue_id.accepted_at(query.message)) if query.message else None
    for _ in scan.ask(newest.take_from, day=day):
        pass
    waiting = [event for event in reversed(pending) if lookup.matches(event, query)]
    return _newest_first([*_unknown(waiting, newest.events), *newest.events], limit=query.limit)


def _story(scan: _Scan, message: str, pending: Sequence[Event]) -> list[Event]:
    day = day_at(queue_id.accepted_at(message))
    answers = scan.ask(lambda connection: lookup.story(connection, message), day=day)
    moved = [event for answer in answers for event in answer]
    return [*moved, *_unknown([event for event in pending if event.message == message], moved)]


def _unknown(pending: Iterable[Event], found: Iterable[Event]) -> list[Event]:
    known = set(found)
    return [event for event in pending if event not in known]


def _newest_first(events: Iterable[Event], *, limit: int) -> list[Event]:
    return sorted(events, key=lambda event: -event.at)[:limit]
