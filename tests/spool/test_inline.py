"""A shard that waits for nothing keeps the same mail as one with threads, in the loop's own thread."""

import threading
from pathlib import Path

import pytest

from relay.errors import SpoolError
from relay.mail.event import Kind
from relay.spool import INLINE_OCTETS, Content, Selection
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, addresses_due, deferred, delivered, new_message


def threads() -> int:
    """But for the loop's own, which opens the shard."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


LARGE = b"x" * (INLINE_OCTETS + 1)


@pytest.mark.parametrize("inline", [pytest.param(True, id="inline"), pytest.param(False, id="with threads")])
async def test_a_messages_way(tmp_path: Path, inline: bool) -> None:
    before = threads()
    spool = await Spool.open(tmp_path, shard=0, now=Clock(), inline=inline)
    assert (threads() == before) == inline
    content = Content(head=b"From: shop@example.com\r\n\r\n", body=LARGE)
    one, two = await spool.accept(new_message(spool, "a@example.org", "b@example.net"), hand_over=True)
    await spool.accept(new_message(spool, "c@example.com", content=content), hand_over=False)
    await spool.settle(delivered(one))
    await spool.settle(deferred(two, until=NOON + 60))
    assert await addresses_due(spool, until=NOON) == ["c@example.com"]
    assert await addresses_due(spool, until=NOON + 60) == ["c@example.com", "b@example.net"]
    (last,) = await spool.due(until=NOON, limit=10)
    assert (await spool.content(last.message.id)).body_size == len(LARGE)
    await spool.settle(delivered(last))
    assert await spool.count(Selection()) == 1
    assert [event.kind for _, event in await spool.events()].count(Kind.DELIVERED) == 2
    await spool.close()
    assert threads() == before
    with pytest.raises(SpoolError):
        await spool.count(Selection())
