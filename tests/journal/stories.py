"""Events to fill journals with."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from relay.journal.store import Journal
from relay.mail import queue_id
from relay.mail.event import Event, Kind

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DAY = 86400.0


def new_id(at: float, *, shard: int = 0, random: int = 0) -> str:
    return queue_id.new(now=at, shard=shard, random=random)


def event(
    at: float = NOW,
    kind: Kind = Kind.DELIVERED,
    *,
    message: str | None = None,
    sender: str = "shop@example.com",
    recipient: str = "ann@example.net",
    credential: str = "shop",
    reply: str = "250 2.0.0 Ok",
    header_message_id: str = "",
) -> Event:
    """message: accepted at `at` when not given."""
    return Event(
        at=at,
        kind=kind,
        message=new_id(at) if message is None else message,
        sender=sender,
        recipient=recipient,
        credential=credential,
        reply=reply,
        header_message_id=header_message_id,
    )


def refuse_damage(path: Path, why: str) -> None:
    raise AssertionError(f"{path}: {why}")


async def write(directory: Path, events: Sequence[Event], *, first: int = 1) -> int:
    """Into the journal of one shard, which is closed again."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    journal = await Journal.open(directory, damaged=refuse_damage)
    try:
        return await journal.ingest(list(enumerate(events, start=first)))
    finally:
        await journal.close()
