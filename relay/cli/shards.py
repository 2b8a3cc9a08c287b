"""cli.shards: all shards of the spool, whoever owns them.

Questions are asked read-only of the files. Orders go to the process that owns a shard; where nobody does, the command
takes the shard's lock and carries the order out itself.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from relay.cli.invocation import Invocation
from relay.errors import SpoolLocked, Unavailable

if TYPE_CHECKING:
    from relay.mail.event import Event
    from relay.spool import QueueEntry, Selection, SpoolReader, Status

_PAGE = 1000
_TOLD_APART = 20_000


@dataclass(frozen=True, slots=True)
class Changed:
    """What an order changed: how many recipients, of how many messages (None: too many to tell apart)."""

    recipients: int
    messages: int | None


def readers(here: Invocation, *, ids: tuple[str, ...] = ()) -> "Iterator[SpoolReader]":
    """One after the other, for every shard, or for those of some messages."""
    from relay.spool import SpoolReader

    for number in numbers(here, ids=ids):
        with SpoolReader(here.spool, shard=number, now=here.now) as reader:
            yield reader


def numbers(here: Invocation, *, ids: tuple[str, ...] = ()) -> list[int]:
    from relay.mail.queue_id import shard_of
    from relay.spool import shards_in

    present = shards_in(here.spool)
    wanted = {shard_of(message) for message in ids}
    return [number for number in present if not ids or number in wanted]


def count(here: Invocation, selection: "Selection") -> int:
    return sum(reader.count(selection) for reader in readers(here, ids=selection.ids))


def find(here: Invocation, selection: "Selection", *, limit: int) -> "list[QueueEntry]":
    """Oldest first."""
    found = [entry for reader in readers(here, ids=selection.ids) for entry in reader.find(selection, limit=limit)]
    return sorted(found, key=lambda entry: (entry.message_id, entry.position))[:limit]


def pending_events(here: Invocation) -> "list[Event]":
    """What the journal does not have yet; to be read before the journal is."""
    events: list[Event] = []
    for reader in readers(here):
        after = 0
        while page := reader.events(after=after, limit=_PAGE):
            events += [event for _, event in page]
            after = page[-1][0]
    return events


# The statuses an order applies to; what is held already cannot be held again.
_APPLIES = {
    "hold": ("queued", "deferred"),
    "release": ("held", "damaged"),
    "retry": ("queued", "deferred"),
    "cancel": ("queued", "deferred", "held", "damaged"),
}


def would_change(here: Invocation, verb: str, selection: "Selection") -> Changed:
    """What `order` would change, had it been given now. Messages are told apart only among so many recipients."""
    meant = [replace(selection, status=status) for status in _statuses(verb, selection)]
    recipients = sum(count(here, each) for each in meant)
    if recipients > _TOLD_APART:
        return Changed(recipients, None)
    found = [entry.message_id for each in meant for entry in find(here, each, limit=_TOLD_APART)]
    return Changed(recipients, len(set(found)))


def _statuses(verb: str, selection: "Selection") -> "list[Status]":
    from relay.spool import Status

    applies = [Status(word) for word in _APPLIES[verb]]
    return [status for status in applies if selection.status in (None, status)]


async def order(here: Invocation, verb: str, selection: "Selection") -> Changed:
    """hold, release, retry or cancel, durably; the journal says who ordered it."""
    changes = [
        change
        for number in numbers(here, ids=selection.ids)
        for change in await _order_one(here, number, verb, selection)
    ]
    return Changed(len(changes), len(set(changes)))


async def _order_one(here: Invocation, number: int, verb: str, selection: "Selection") -> list[str]:
    """The message of each recipient it changed."""
    from relay.server.control import call

    parameters = {"selection": asdict(selection), "by": here.operator}
    try:
        answer = await call(here.spool, number, verb, parameters)
    except Unavailable as nobody:
        return await _order_alone(here, number, verb, selection, nobody)
    return [change["message_id"] for change in answer["changed"]]


async def _order_alone(
    here: Invocation, number: int, verb: str, selection: "Selection", nobody: Unavailable
) -> list[str]:
    from relay.spool.spool import Spool

    try:
        spool = await Spool.open(here.spool, shard=number, now=here.now)
    except SpoolLocked:  # its owner lives and did not answer
        raise nobody from None
    try:
        orders = {"hold": spool.hold, "release": spool.release, "retry": spool.retry, "cancel": spool.cancel}
        return [change.message_id async for changes in orders[verb](selection, by=here.operator) for change in changes]
    finally:
        await spool.close()


async def ask_owners(
    here: Invocation, verb: str, parameters: dict[str, Any] | None = None, *, ids: tuple[str, ...] = ()
) -> dict[int, dict[str, Any] | None]:
    """The answer of the owner of each shard, or of those of some messages; None where nobody owns it or nobody
    answers.
    """
    from relay.server.control import call

    answers: dict[int, dict[str, Any] | None] = {}
    for number in numbers(here, ids=ids):
        try:
            answers[number] = await call(here.spool, number, verb, parameters or {})
        except Unavailable:
            answers[number] = None
    return answers
