"""journal.owed: recipients that were accepted and have no end, as the journal of one shard knows it.

For comparing with a queue of which a part was lost. A recipient is known by its message and address.
"""

from collections.abc import Iterable
from pathlib import Path

from relay.errors import RelayError
from relay.journal.dayfile import day_files, reading
from relay.journal.encoding import decode
from relay.mail.event import FINAL, Event, Kind

_ENDS = FINAL | {Kind.UNKNOWN}
_QUESTION = "SELECT event FROM event WHERE kind IN ({}) ORDER BY id"

Owed = dict[tuple[str, str], Event]


def owed(directory: Path, pending: Iterable[Event]) -> tuple[Owed, list[str]]:
    """Their acceptance, by message and address; and what could not be read. directory: the shard's.

    pending: events that are not in the journal yet.
    """
    found: Owed = {}
    unreadable: list[str] = []
    kinds = (Kind.ACCEPTED, *sorted(_ENDS))
    question = _QUESTION.format(", ".join("?" * len(kinds)))
    for _, path in sorted(day_files(directory).items()):
        try:
            with reading(path) as connection:
                for (octets,) in connection.execute(question, kinds) if connection else ():
                    _take(found, decode(octets))
        except (RelayError, ValueError) as error:
            unreadable.append(f"{path}: {error}")
    for event in pending:
        _take(found, event)
    return found, unreadable


def _take(found: Owed, event: Event) -> None:
    key = event.message, event.recipient
    if event.kind is Kind.ACCEPTED and event.recipient:
        found.setdefault(key, event)
    elif event.kind in FINAL or (event.kind is Kind.UNKNOWN and not event.next_attempt_at):
        found.pop(key, None)
