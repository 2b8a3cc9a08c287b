"""spool.tables: the writing statements, one method per change, for whoever holds the writing connection.

Nothing here begins or commits: `committer` does. Each change of a recipient carries its guard in its WHERE and says
whether it met anything. Sequences of events and suppressions come from memory: they are unique because one process
writes, ascending, never given twice (a group that is rolled back leaves a gap), and remembered across restarts by the
rows themselves and by `mark`.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from relay.mail.suppression import Strike, Suppression
from relay.spool import checksums, rows
from relay.spool.content import Kept
from relay.spool.values import NewMessage, Outcome

INFINITY = float("inf")

_ADD_MESSAGE = "INSERT INTO message VALUES (?, ?, ?, ?, ?)"
_ADD_CONTENT = "INSERT INTO content VALUES (?, ?, ?, ?, ?, ?)"
_ADD_RECIPIENT = "INSERT INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, 0, '', ?, NULL)"
_ADD_EVENT = "INSERT INTO event VALUES (?, ?)"
_ADD_SUPPRESSION = "INSERT INTO suppression VALUES (?, ?)"

_END = "DELETE FROM recipient WHERE message = ? AND position = ?"
# A recipient that was held while its attempt was under way stays held.
_DEFER = (
    f"UPDATE recipient SET status = iif(status = {rows.HELD}, {rows.HELD}, {rows.QUEUED}), attempts = attempts + ?,"
    " due_at = ?, delay_reported = max(delay_reported, ?), last_reply = ? WHERE message = ? AND position = ?"
)
# Again by the same owner: its connection was lost before anything was sent.
_INTEND = (
    f"UPDATE recipient SET status = {rows.INTENDED}"
    f" WHERE message = ? AND position = ? AND status IN ({rows.FRESH}, {rows.QUEUED}, {rows.INTENDED})"
)
_GIVE_BACK = (
    f"UPDATE recipient SET status = {rows.QUEUED}, due_at = ? WHERE message = ? AND position = ?"
    f" AND status IN ({rows.FRESH}, {rows.INTENDED})"
)
_REMOVE_MESSAGE = "DELETE FROM message WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1)"
_REMOVE_INLINE = "DELETE FROM content WHERE message = ? AND file IS NULL"
_REMOVE_STRAY = (
    "DELETE FROM content WHERE message = ?1 AND NOT EXISTS (SELECT 1 FROM message WHERE number = ?1)"
    " AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1) RETURNING file"
)
_REMOVE_CONTENT = "DELETE FROM content WHERE message = ? RETURNING file"


class Removed(Struct, frozen=True):
    """A message that is no more; its file, if it has one, is to be unlinked once that is committed."""

    message_id: str
    file: str | None


class Tables:
    """The writing connection. event_sequence, suppression_sequence: the last that were given.

    content_octets: of all contents written so far; a row of them may fill many pages of the log. earliest_due: of all
    that were queued since it was last set to infinity.
    """

    def __init__(self, connection: sqlite3.Connection, *, event_sequence: int, suppression_sequence: int) -> None:
        self._cursor = connection.cursor()
        self._event_sequence = event_sequence
        self._suppression_sequence = suppression_sequence
        self.content_octets = 0
        self.earliest_due = INFINITY

    def add_message(self, number: int, message: NewMessage, kept: Kept) -> None:
        execute, facts = self._cursor.execute, (message.envelope.sender, message.credential, rows.facts_of(message))
        execute(_ADD_MESSAGE, (number, *facts, checksums.of_message(number, *facts)))
        checksum = checksums.of_content(number, kept.head, kept.body_checksum)
        execute(_ADD_CONTENT, (number, kept.head, kept.body, kept.body_size, kept.file, checksum))
        self.content_octets += len(kept.head) + len(kept.body)

    def add_recipients(self, number: int, message: NewMessage, *, start: int, stop: int, status: int) -> None:
        """Those at the positions from start to stop."""
        due_at, expires_at = message.accepted_at, message.expires_at
        held_at = due_at if status == rows.HELD else 0.0
        recipients = enumerate(message.envelope.recipients[start:stop], start)
        facts = ((number, position, one.address, one.domain, one.notify, one.orcpt) for position, one in recipients)
        changing = (status, due_at, expires_at, held_at)
        if status == rows.QUEUED:
            self.queued_at(due_at)
        self._cursor.executemany(_ADD_RECIPIENT, [(*fact, *changing, checksums.of_recipient(*fact)) for fact in facts])

    def add_events(self, packed: Iterable[bytes]) -> None:
        for event in packed:
            self._event_sequence += 1
            self._cursor.execute(_ADD_EVENT, (self._event_sequence, event))

    def add_suppressions(self, values: Sequence[Suppression | Strike]) -> None:
        for value in values:
            self._suppression_sequence += 1
            self._cursor.execute(_ADD_SUPPRESSION, (self._suppression_sequence, rows.pack_suppression(value)))

    def end(self, number: int, position: int) -> bool:
        """The recipient leaves the queue; False if it was not there."""
        return self.change(_END, (number, position))

    def defer(self, number: int, outcome: Outcome) -> bool:
        reply = rows.last_reply(outcome.event)
        key = (number, outcome.position)
        self.queued_at(outcome.due_at)
        return self.change(_DEFER, (outcome.climbs, outcome.due_at, outcome.delay_reported, reply, *key))

    def intend(self, number: int, position: int) -> bool:
        return self.change(_INTEND, (number, position))

    def give_back(self, number: int, position: int, *, due_at: float) -> bool:
        self.queued_at(due_at)
        return self.change(_GIVE_BACK, (due_at, number, position))

    def queued_at(self, due_at: float) -> None:
        """A recipient may have been queued for then."""
        self.earliest_due = min(self.earliest_due, due_at)

    def change(self, statement: str, parameters: Sequence[Any] | dict[str, Any]) -> bool:
        """Whether the statement, guarded by its WHERE, met a row."""
        return self._cursor.execute(statement, parameters).rowcount == 1

    def remove_if_done(self, number: int, message_id: str) -> Removed | None:
        """The message and its content go with its last recipient."""
        if not self.change(_REMOVE_MESSAGE, (number,)):
            return None
        if self.change(_REMOVE_INLINE, (number,)):  # without RETURNING it takes half the time
            return Removed(message_id, None)
        removed = self._cursor.execute(_REMOVE_CONTENT, (number,)).fetchall()
        return Removed(message_id, removed[0][0] if removed else None)

    def remove_stray(self, number: int, message_id: str) -> Removed | None:
        """A content whose message had been lost by damage goes with the last recipient that was found of it."""
        removed = self._cursor.execute(_REMOVE_STRAY, (number,)).fetchall()
        return Removed(message_id, removed[0][0]) if removed else None

    def forget(self, table: str, *, start: int, stop: int) -> None:
        """Delete the rows from start to stop, both included; their sequences stay used."""
        self._cursor.execute(f"DELETE FROM {table} WHERE sequence BETWEEN ? AND ?", (start, stop))
        self._cursor.execute("UPDATE mark SET sequence = max(sequence, ?) WHERE name = ?", (stop, table))

    def first_sequence(self, table: str) -> int | None:
        first: int | None = self._cursor.execute(f"SELECT min(sequence) FROM {table}").fetchone()[0]
        return first
