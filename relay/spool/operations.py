"""spool.operations: what one transaction does for one caller.

Each is a generator over `Tables`: it yields between pieces of some hundred rows, so that the event loop is never held
for long, and returns its result. It may be run again from its beginning after a rollback; so it changes nothing but
the tables.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from msgspec import Struct

from relay.mail.event import Event, Kind
from relay.spool import rows
from relay.spool.content import Kept
from relay.spool.tables import Removed, Tables
from relay.spool.values import NewMessage, Outcome, QueuedMessage, QueuedRecipient, Settled, Settlement

T = TypeVar("T")
Steps = Generator[None, None, T]
Work = Callable[[Tables], Steps[T]]

PIECE = 128  # rows between two yields


class Arrival(Struct, frozen=True):
    """A message to insert under its number, with the way its content is kept. status: FRESH, QUEUED or HELD."""

    number: int
    message: NewMessage
    kept: Kept
    status: int


class Settling(Struct, frozen=True):
    """A settlement with its message's number and its reports ready to insert."""

    number: int
    settlement: Settlement
    reports: tuple[Arrival, ...]


class SettledRows(Settled, frozen=True):
    """gone: the message, if it ended with this. took_reports: its reports are in the queue; not so if none of its
    recipients was there.
    """

    gone: Removed | None = None
    took_reports: bool = True


def accept(tables: Tables, arrival: Arrival) -> Steps[tuple[QueuedRecipient, ...]]:
    """Returns the recipients if they are FRESH: the caller has claimed them."""
    message, count = arrival.message, len(arrival.message.envelope.recipients)
    claimed: list[QueuedRecipient] = []
    queued = rows.queued_message(message)
    if count:
        tables.add_message(arrival.number, message, arrival.kept)
    for start in range(0, count, PIECE):
        stop = min(start + PIECE, count)
        tables.add_recipients(arrival.number, message, start=start, stop=stop, status=arrival.status)
        tables.add_events(_arrival_events(arrival, start, stop))
        if arrival.status == rows.FRESH:
            claimed.extend(_claimed(arrival, queued, range(start, stop)))
        yield
    for piece in _pieces(message.suppressed):
        tables.add_events(rows.pack_arrival(message, Kind.SUPPRESSED, recipient.address) for recipient in piece)
        yield
    return tuple(claimed)


def _arrival_events(arrival: Arrival, start: int, stop: int) -> Iterator[bytes]:
    message, on_hold = arrival.message, f"credential {arrival.message.credential} is on hold"
    for recipient in message.envelope.recipients[start:stop]:
        yield rows.pack_arrival(message, Kind.ACCEPTED, recipient.address)
        if arrival.status == rows.HELD:
            yield rows.pack_arrival(message, Kind.HELD, recipient.address, detail=on_hold)


def _claimed(arrival: Arrival, queued: QueuedMessage, positions: range) -> Iterator[QueuedRecipient]:
    recipients, number = arrival.message.envelope.recipients, arrival.number
    due_at, expires_at = arrival.message.accepted_at, arrival.message.expires_at
    for position in positions:
        cursor = (due_at, number, position)
        yield QueuedRecipient(
            message=queued,
            position=position,
            recipient=recipients[position],
            attempts=0,
            due_at=due_at,
            expires_at=expires_at,
            delay_reported=False,
            last_reply="",
            cursor=cursor,
        )


def settle(tables: Tables, settling: Settling) -> Steps[SettledRows]:
    """A settlement that meets none of its recipients does nothing: it was settled before, or all were cancelled."""
    settlement, number = settling.settlement, settling.number
    missing: list[int] = []
    for piece in _pieces(settlement.outcomes):
        tables.add_events(_applied(tables, number, piece, missing))
        yield
    if missing and len(missing) == len(settlement.outcomes):
        return SettledRows(tuple(missing), took_reports=False)
    if settlement.suppressions:
        tables.add_suppressions(settlement.suppressions)
    for report in settling.reports:
        yield from accept(tables, report)
    return SettledRows(tuple(missing), tables.remove_if_done(number, settlement.message_id))


def _applied(tables: Tables, number: int, outcomes: Iterable[Outcome], missing: list[int]) -> Iterator[bytes]:
    """Apply the outcomes; the events of those that met their recipient, the positions of the others into `missing`."""
    for outcome in outcomes:
        met = tables.end(number, outcome.position) if outcome.final else tables.defer(number, outcome)
        if met:
            yield rows.pack_event(outcome.event)
        else:
            missing.append(outcome.position)


def intend(tables: Tables, number: int, positions: Sequence[int]) -> Steps[tuple[int, ...]]:
    """Returns the positions that were not there to be sent."""
    missing: list[int] = []
    for piece in _pieces(positions):
        missing += [position for position in piece if not tables.intend(number, position)]
        yield
    return tuple(missing)


def give_back(tables: Tables, keys: Sequence[tuple[int, int]], *, due_at: float) -> Steps[None]:
    for piece in _pieces(keys):
        for number, position in piece:
            tables.give_back(number, position, due_at=due_at)
        yield


def record(tables: Tables, events: Sequence[Event]) -> Steps[None]:
    for piece in _pieces(events):
        tables.add_events(map(rows.pack_event, piece))
        yield


def forget(tables: Tables, table: str, upto: int) -> Steps[None]:
    """Drop the rows of an outbox table up to a sequence, which were carried over."""
    first = tables.first_sequence(table)
    if first is None:
        return
    for start in range(first, upto + 1, PIECE):
        tables.forget(table, start=start, stop=min(start + PIECE - 1, upto))
        yield


def leave_out(tables: Tables, table: str, sequences: Sequence[int]) -> Steps[None]:
    """Drop rows of an outbox table that nobody can read."""
    for piece in _pieces(sequences):
        for sequence in piece:
            tables.forget(table, start=sequence, stop=sequence)
        yield


def _pieces(items: Sequence[T]) -> Iterator[Sequence[T]]:
    if len(items) <= PIECE:
        if items:
            yield items
        return
    iterator = iter(items)
    while piece := list(islice(iterator, PIECE)):
        yield piece
