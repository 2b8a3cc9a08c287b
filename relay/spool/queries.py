"""spool.queries: everything that is asked of a shard, as SQL with what its rows mean.

The same questions are put by the owner, on a connection that only reads (`reads`), and by other processes (`reader`).
What is asked for every delivery goes through an index and takes a limit; `find`, `count`, `totals`, `domains` and
`waiting` look through the queue.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

from relay.errors import NotFound
from relay.mail.event import Event
from relay.mail.suppression import Strike, Suppression
from relay.spool import rows, stored
from relay.spool.content import StoredContent
from relay.spool.numbering import first_at, number_of
from relay.spool.outbox import Outbox, unpacked
from relay.spool.rows import Row
from relay.spool.stored import Found, Key
from relay.spool.values import Cursor, DomainTotal, QueuedRecipient, QueueEntry, Selection, Status, StatusTotal, Totals

T = TypeVar("T")

# Not an inner join: a recipient whose message cannot be found any more is damage to be told of, not to be left out.
_ITS_MESSAGE = "LEFT JOIN message m ON m.number = r.message"
_START: Cursor = (float("-inf"), 0, 0)
_FAR: Cursor = (float("inf"), 0, 0)
_END: Key = (2**62, 0)


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """result: from the rows to what was asked for."""

    sql: str
    parameters: tuple[Any, ...]
    result: Callable[[list[Row]], T]


def due(*, after: Cursor | None, until: float, limit: int, shard: int) -> Query[Found]:
    """Queued recipients with due_at at most `until`, in due order."""
    sql = (
        f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r INDEXED BY recipient_due {_ITS_MESSAGE}"
        f" WHERE r.status = {rows.QUEUED} AND r.due_at <= ?"
        " AND (r.due_at, r.message, r.position) > (?, ?, ?) ORDER BY r.due_at, r.message, r.position LIMIT ?"
    )
    return Query(sql, (until, *(after or _START), limit), partial(stored.queued_recipients, shard=shard))


def end_of_due(domain: str, *, after: Cursor | None, until: float, length: int) -> Query[Cursor | None]:
    """The cursor so many due recipients of a domain further on; None when there are not so many. domain: "" for all."""
    index, of_domain = _by_domain(domain)
    sql = (
        f"SELECT due_at, message, position FROM recipient r INDEXED BY {index}"
        f" WHERE r.status = {rows.QUEUED}{of_domain} AND due_at <= ? AND (due_at, message, position) > (?, ?, ?)"
        " ORDER BY due_at, message, position LIMIT 1 OFFSET ?"
    )
    return Query(sql, (*filter(None, (domain,)), until, *(after or _START), length - 1), _cursor)


def _by_domain(domain: str) -> tuple[str, str]:
    """The index in due order, and its condition."""
    return ("recipient_domain", " AND r.domain = ?") if domain else ("recipient_due", "")


def _cursor(found: list[Row]) -> Cursor | None:
    return (found[0][0], found[0][1], found[0][2]) if found else None


def due_in(
    domain: str, credential: str, *, after: Cursor | None, to: Cursor | None, until: float, limit: int, shard: int
) -> Query[Found]:
    """As `due`, of what a credential sent to one domain, or to all (""), up to a cursor. No index has the credential:
    it would cost every deferral more than to pass over others' mail costs now and then.
    """
    index, of_domain = _by_domain(domain)
    sql = (
        f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r INDEXED BY {index} {_ITS_MESSAGE}"
        f" WHERE r.status = {rows.QUEUED}{of_domain} AND r.due_at <= ? AND m.credential = ?"
        " AND (r.due_at, r.message, r.position) > (?, ?, ?) AND (r.due_at, r.message, r.position) <= (?, ?, ?)"
        " ORDER BY r.due_at, r.message, r.position LIMIT ?"
    )
    parameters = (*filter(None, (domain,)), until, credential, *(after or _START), *(to or _FAR), limit)
    return Query(sql, parameters, partial(stored.queued_recipients, shard=shard))


def next_due_at(after: float) -> Query[float | None]:
    sql = f"SELECT min(due_at) FROM recipient INDEXED BY recipient_due WHERE status = {rows.QUEUED} AND due_at > ?"
    return Query(sql, (after,), _only)


def in_doubt(*, limit: int, shard: int) -> Query[Found]:
    sql = (
        f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r INDEXED BY recipient_doubtful {_ITS_MESSAGE}"
        f" WHERE r.status = {rows.DOUBTFUL} ORDER BY r.message, r.position LIMIT ?"
    )
    return Query(sql, (limit,), partial(stored.queued_recipients, shard=shard))


def end_of_slice(after: Key, *, length: int) -> Query[Key | None]:
    """The key so many recipients further on; None when there are not so many."""
    sql = (
        "SELECT message, position FROM recipient WHERE (message, position) > (?, ?)"
        " ORDER BY message, position LIMIT 1 OFFSET ?"
    )
    return Query(sql, (*after, length - 1), _key)


def _key(found: list[Row]) -> Key | None:
    return (found[0][0], found[0][1]) if found else None


def out_of_time(
    *, after: Key, to: Key | None, expired_at: float, due_after: float, limit: int, shard: int
) -> Query[Found]:
    """In a slice of the queue, those to be delivered that have expired then or are due later than that. No index: it
    would cost every deferral more than looking at a slice now and then.
    """
    sql = (
        f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r {_ITS_MESSAGE}"
        " WHERE (r.message, r.position) > (?, ?) AND (r.message, r.position) <= (?, ?)"
        f" AND r.status IN ({rows.FRESH}, {rows.QUEUED}) AND (r.expires_at <= ? OR r.due_at > ?)"
        " ORDER BY r.message, r.position LIMIT ?"
    )
    parameters = (*after, *(to or _END), expired_at, due_after, limit)
    return Query(sql, parameters, partial(stored.queued_recipients, shard=shard))


def content(message_id: str, *, shard: int, directory: Path) -> Query[StoredContent | None]:
    return Query(
        "SELECT head, body, body_size, file, checksum FROM content WHERE message = ?",
        (number_of(message_id, shard=shard),),
        partial(_content, directory),
    )


def _content(directory: Path, found: list[Row]) -> StoredContent | None:
    if not found:
        return None
    head, body, body_size, file, checksum = found[0]
    return StoredContent(head, body, None if file is None else directory / str(file), body_size, checksum)


def not_found(message_id: str) -> NotFound:
    return NotFound(f"{message_id} is not in the queue", remedy="Its journal may tell: relay log show.")


# what an operator asks


def find(selection: Selection, *, limit: int, offset: int, now: float, shard: int) -> Query[list[QueueEntry]]:
    """By time of acceptance, oldest first."""
    condition, parameters = where(selection, now=now, shard=shard)
    sql = (
        f"SELECT {stored.ENTRY_COLUMNS} FROM recipient r {_ITS_MESSAGE}"
        f" WHERE {condition} ORDER BY r.message, r.position LIMIT ? OFFSET ?"
    )
    return Query(sql, (*parameters, limit, offset), partial(_entries, shard))


def _entries(shard: int, found: list[Row]) -> list[QueueEntry]:
    return [stored.queue_entry(row, shard=shard) for row in found]


def count(selection: Selection, *, now: float, shard: int) -> Query[int]:
    condition, parameters = where(selection, now=now, shard=shard)
    join = f" {_ITS_MESSAGE}" if "m." in condition else ""
    return Query(f"SELECT count(*) FROM recipient r{join} WHERE {condition}", parameters, _only)


def candidates(
    selection: Selection, *, eligible: str, after: tuple[int, int], limit: int, now: float, shard: int
) -> Query[list[QueuedRecipient]]:
    """Those of a selection a command may apply to (`eligible`: SQL), after a (number, position)."""
    condition, parameters = where(selection, now=now, shard=shard)
    sql = (
        f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r {_ITS_MESSAGE}"
        f" WHERE {condition} AND {eligible} AND (r.message, r.position) > (?, ?)"
        " ORDER BY r.message, r.position LIMIT ?"
    )
    return Query(sql, (*parameters, *after, limit), partial(_everyone, shard))


def _everyone(shard: int, found: list[Row]) -> list[QueuedRecipient]:
    return stored.everyone(stored.queued_recipients(found, shard=shard))


def recipients_of(message_id: str, *, shard: int) -> Query[list[QueuedRecipient]]:
    """All that are owed of one message, whatever their status."""
    sql = f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r {_ITS_MESSAGE} WHERE r.message = ? ORDER BY r.position"
    return Query(sql, (number_of(message_id, shard=shard),), partial(_everyone, shard))


def where(selection: Selection, *, now: float, shard: int) -> tuple[str, tuple[Any, ...]]:
    """A selection as a condition over recipient r and message m, with its parameters."""
    conditions: list[tuple[str, tuple[Any, ...]]] = []
    if selection.ids:
        numbers = tuple(number for text in selection.ids if (number := number_of(text, shard=shard)) is not None)
        conditions.append((f"r.message IN ({', '.join('?' * len(numbers))})", numbers))
    if selection.recipient_domain:
        conditions.append(("r.domain = ?", (selection.recipient_domain,)))
    if selection.sender is not None:
        conditions.append(("m.sender = ?", (selection.sender,)))
    if selection.credential:
        conditions.append(("m.credential = ?", (selection.credential,)))
    if selection.status is not None:
        conditions.append((_STATUS[selection.status], ()))
    if selection.older_than:
        conditions.append(("r.message < ?", (first_at(now - selection.older_than),)))
    if not conditions:
        return "true", ()
    return " AND ".join(text for text, _ in conditions), tuple(value for _, values in conditions for value in values)


_WAITING = f"r.status <> {rows.HELD}"
_STATUS = {
    Status.QUEUED: f"{_WAITING} AND r.attempts = 0",
    Status.DEFERRED: f"{_WAITING} AND r.attempts > 0",
    Status.HELD: f"r.status = {rows.HELD} AND r.damage IS NULL",
    Status.DAMAGED: f"r.status = {rows.HELD} AND r.damage IS NOT NULL",
}


def totals() -> Query[Totals]:
    parts = ", ".join(
        f"count(*) FILTER (WHERE {_STATUS[status]}), min(r.message) FILTER (WHERE {_STATUS[status]})"
        for status in Status
    )
    return Query(f"SELECT {parts} FROM recipient r", (), _totals)


def _totals(found: list[Row]) -> Totals:
    counts, numbers = found[0][::2], found[0][1::2]
    return Totals(*(StatusTotal(*each) for each in zip(counts, map(stored.oldest, numbers), strict=True)))


def domains(limit: int) -> Query[list[DomainTotal]]:
    """The domains most recipients wait for; why is said by the one put off furthest."""
    sql = (
        "SELECT most.domain, most.waiting, (SELECT last_reply FROM recipient r INDEXED BY recipient_domain"
        f" WHERE r.status = {rows.QUEUED} AND r.domain = most.domain ORDER BY r.due_at DESC LIMIT 1)"
        " FROM (SELECT domain, count(*) AS waiting FROM recipient INDEXED BY recipient_domain"
        f" WHERE status = {rows.QUEUED} GROUP BY domain ORDER BY waiting DESC, domain LIMIT ?) AS most"
    )
    return Query(sql, (limit,), _domains)


def _domains(found: list[Row]) -> list[DomainTotal]:
    return [DomainTotal(domain, waiting, reply) for domain, waiting, reply in found]


def waiting() -> Query[dict[str, StatusTotal]]:
    """By domain, all that is not held: not tried yet, being sent, deferred."""
    sql = f"SELECT domain, count(*), min(message) FROM recipient r WHERE {_WAITING} GROUP BY domain"
    return Query(sql, (), _waiting)


def _waiting(found: list[Row]) -> dict[str, StatusTotal]:
    return {domain: StatusTotal(count, stored.oldest(number)) for domain, count, number in found}


# what is to be carried over


def events(*, after: int, limit: int) -> Query[Outbox[Event]]:
    """One row: SQLite gives up the interpreter for each, and on a busy loop it may take 5 ms to have it back."""
    inner = "SELECT sequence, event FROM event WHERE sequence > ? ORDER BY sequence LIMIT ?"
    return Query(f"SELECT group_concat(sequence || ' ' || hex(event), ' ') FROM ({inner})", (after, limit), _events)


def _events(found: list[Row]) -> Outbox[Event]:
    words = (found[0][0] or "").split(" ") if found[0][0] else []
    pairs = zip(map(int, words[::2]), map(bytes.fromhex, words[1::2]), strict=True)
    return unpacked(sorted(pairs, key=itemgetter(0)), rows.unpack_event)


def suppressions(*, after: int, limit: int) -> Query[Outbox[Suppression | Strike]]:
    sql = "SELECT sequence, suppression FROM suppression WHERE sequence > ? ORDER BY sequence LIMIT ?"
    return Query(sql, (after, limit), partial(unpacked, unpack=rows.unpack_suppression))


def _only(found: list[Row]) -> Any:
    return found[0][0]
