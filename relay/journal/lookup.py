"""journal.lookup: questions to one day file.

Each question names the index it goes by (INDEXED BY), so that the path is the one that was measured and not a
planner's guess; the other filters are looked at on the way. Indexes that begin with the segment are asked once for
each segment, the newest first, until there is enough.

Newest first means by time, and among equal times as they were recorded. Where the clock was set back by hours, events
more than a segment apart may come in the order in which they were recorded instead.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from types import MappingProxyType

from relay.journal.encoding import SEGMENT_BITS, address_key, bare, decode, key_range
from relay.journal.query import NULL_SENDER, Query
from relay.mail.event import Event, Kind

_PATHS = MappingProxyType(
    {
        "message": "event_message WHERE message = :message",
        # `recipient <> ''` is the condition of the partial index.
        "to": "event_recipient WHERE segment = :segment AND recipient <> '' AND recipient BETWEEN :to AND :to_end",
        "sender": "event_sender WHERE segment = :segment AND sender >= :sender AND sender < :sender_end",
        "credential": "event_credential WHERE credential = :credential",
        "status": "event_kind WHERE kind = :status",
        "time": "event_at WHERE at >= :since",
    }
)
_QUESTIONS = MappingProxyType(
    {
        name: f"SELECT event FROM event INDEXED BY {path}"  # noqa: S608  # of the paths above; every value is a parameter
        " AND at >= :since AND at < :until"
        " AND (:credential = '' OR credential = :credential) AND (:status = '' OR kind = :status)"
        " AND (:to IS NULL OR recipient >= :to AND recipient < :to_end)"
        " AND (:sender IS NULL OR sender >= :sender AND sender < :sender_end)"
        " ORDER BY at DESC, id DESC LIMIT :limit"
        for name, path in _PATHS.items()
    }
)
_MESSAGES = (
    "SELECT DISTINCT message FROM event INDEXED BY event_header"
    " WHERE segment = :segment AND header_message_id <> '' AND header_message_id = :header"
)
# All in one row: SQLite gives up the interpreter for each, and on a busy loop it may take 5 ms to have it back. EXISTS
# ends with the first event found, of the newest segment that has one, however much mail a recipient gets.
_KNOWN = (
    "WITH RECURSIVE newest(number) AS"
    " (SELECT max(id) >> :bits FROM event UNION ALL SELECT number - 1 FROM newest WHERE number > 0)"
    " SELECT json_group_array(value) FROM json_each(:recipients) WHERE EXISTS"
    " (SELECT 1 FROM newest CROSS JOIN event INDEXED BY event_recipient"
    " WHERE segment = number AND recipient <> '' AND recipient = value"
    " AND credential = :credential AND kind IN ('accepted', 'suppressed'))"
)
_STORY = "SELECT event FROM event INDEXED BY event_message WHERE message = ? ORDER BY id"
_ENDLESS = 1e18


def search(connection: sqlite3.Connection, query: Query) -> list[Event]:
    """At most query.limit events, newest first. query.message: a queue id or ""."""
    path = _path(query)
    if path in ("to", "sender"):
        return _by_segment(connection, _QUESTIONS[path], _values(query), limit=query.limit)
    return _events(connection, _QUESTIONS[path], _values(query))


def _path(query: Query) -> str:
    """The filter that leaves least to look at, as a rule."""
    for path in ("message", "to", "sender", "credential", "status"):
        if getattr(query, path):
            return path
    return "time"


def messages_of(connection: sqlite3.Connection, header_message_id: str) -> set[str]:
    """The queue ids of the messages accepted with this Message-ID."""
    wanted = bare(header_message_id)
    return {
        message
        for segment in _segments(connection)
        for (message,) in connection.execute(_MESSAGES, {"segment": segment, "header": wanted})
    }


def story(connection: sqlite3.Connection, message: str) -> list[Event]:
    """All of a message's events, as they happened."""
    return [decode(octets) for (octets,) in connection.execute(_STORY, (message,))]


def known(connection: sqlite3.Connection, credential: str, recipients: Iterable[str]) -> set[str]:
    """Those of `recipients`, as `address_key` writes them, that this credential has sent to: their mail was accepted,
    if only to find them suppressed.
    """
    values = {"bits": SEGMENT_BITS, "credential": credential, "recipients": json.dumps(list(recipients))}
    ((found,),) = connection.execute(_KNOWN, values)
    return set(json.loads(found))


def known_pending(pending: Iterable[Event], credential: str) -> set[str]:
    """Whom `known` would find, of events in memory."""
    arrivals = (Kind.ACCEPTED, Kind.SUPPRESSED)
    return {address_key(each.recipient) for each in pending if each.credential == credential and each.kind in arrivals}


def matches(event: Event, query: Query) -> bool:
    """What `search` asks, of an event in memory."""
    return (
        query.since <= event.at < (query.until or _ENDLESS)
        and query.message in ("", event.message)
        and query.credential in ("", event.credential)
        and query.status in (None, event.kind)
        and (not query.to or (bool(event.recipient) and _in_range(event.recipient, query.to)))
        and (not query.sender or _in_range(event.sender, _sender(query)))
    )


def has_header(event: Event, header_message_id: str) -> bool:
    return event.kind is Kind.ACCEPTED and bare(event.header_message_id) == bare(header_message_id)


def _by_segment(
    connection: sqlite3.Connection, question: str, values: dict[str, str | float | None], *, limit: int
) -> list[Event]:
    found: list[Event] = []
    for segment in _segments(connection):
        found.extend(_events(connection, question, values | {"segment": segment}))
        if len(found) >= limit:
            break
    return sorted(found, key=lambda event: -event.at)[:limit]


def _events(connection: sqlite3.Connection, question: str, values: dict[str, str | float | None]) -> list[Event]:
    return [decode(octets) for (octets,) in connection.execute(question, values)]


def _segments(connection: sqlite3.Connection) -> Iterator[int]:
    ((last,),) = connection.execute("SELECT coalesce(max(id), -1) FROM event")
    return iter(range(last >> SEGMENT_BITS, -1, -1))


def _values(query: Query) -> dict[str, str | float | None]:
    to, to_end = key_range(query.to) if query.to else (None, None)
    sender, sender_end = key_range(_sender(query)) if query.sender else (None, None)
    return {
        "message": query.message,
        "credential": query.credential,
        "status": query.status or "",
        "since": query.since,
        "until": query.until or _ENDLESS,
        "to": to,
        "to_end": to_end,
        "sender": sender,
        "sender_end": sender_end,
        "limit": query.limit,
    }


def _sender(query: Query) -> str:
    return "" if query.sender == NULL_SENDER else query.sender


def _in_range(address: str, pattern: str) -> bool:
    low, end = key_range(pattern)
    return low <= address_key(address) < end
