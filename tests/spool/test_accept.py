import os
from pathlib import Path

import pytest

from relay.errors import NotFound, SpoolError
from relay.mail.event import Kind
from relay.spool import INLINE_OCTETS, Content, IncomingFile, Selection, Status
from relay.spool.spool import Spool
from tests.spool.letters import FIVE_DAYS, NOON, Clock, addresses_due, delivered, kinds, new_message

LARGE = b"0123456789abcdef" * (INLINE_OCTETS // 16) + b"and more"


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "shard-0" / "content").iterdir())


async def test_what_is_handed_over_is_claimed_and_not_due(spool: Spool) -> None:
    message = new_message(spool, "a@example.org", "b@example.net")
    claimed = await spool.accept(message, hand_over=True)
    assert [(one.position, one.recipient.address, one.attempts) for one in claimed] == [
        (0, "a@example.org", 0),
        (1, "b@example.net", 0),
    ]
    assert claimed[0].message is claimed[1].message
    assert claimed[0].message.id == message.id and claimed[0].expires_at == NOON + FIVE_DAYS
    assert await addresses_due(spool) == []


async def test_what_is_not_handed_over_is_due_at_once(spool: Spool) -> None:
    assert await spool.accept(new_message(spool, "a@example.org"), hand_over=False) == ()
    assert await addresses_due(spool) == ["a@example.org"]


async def test_a_claimed_recipient_equals_the_one_read_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    claimed = await spool.accept(new_message(spool, "a@example.org", "b@example.org"), hand_over=True)
    await spool.close()
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert tuple(await spool.due(until=NOON, limit=10)) == claimed
    await spool.close()


async def test_every_recipient_has_its_event(spool: Spool) -> None:
    await spool.accept(new_message(spool, "a@example.org", "b@example.net"), hand_over=True)
    assert await kinds(spool) == [(Kind.ACCEPTED, "a@example.org"), (Kind.ACCEPTED, "b@example.net")]


async def test_a_held_message_is_not_handed_over_but_held(spool: Spool) -> None:
    assert await spool.accept(new_message(spool, "a@example.org", held=True), hand_over=True) == ()
    assert await addresses_due(spool) == []
    (entry,) = await spool.find(Selection(status=Status.HELD))
    assert (entry.status, entry.held_at, entry.due_at) == (Status.HELD, NOON, 0.0)
    assert await kinds(spool) == [(Kind.ACCEPTED, "a@example.org"), (Kind.HELD, "a@example.org")]


async def test_suppressed_recipients_are_journaled_and_never_queued(spool: Spool) -> None:
    message = new_message(spool, "a@example.org", suppressed=("dead@example.org",))
    assert len(await spool.accept(message, hand_over=True)) == 1
    assert await kinds(spool) == [(Kind.ACCEPTED, "a@example.org"), (Kind.SUPPRESSED, "dead@example.org")]


async def test_a_message_whose_recipients_are_all_suppressed_leaves_only_events(spool: Spool) -> None:
    message = new_message(spool, suppressed=("dead@example.org",))
    assert await spool.accept(message, hand_over=True) == ()
    assert await kinds(spool) == [(Kind.SUPPRESSED, "dead@example.org")]
    assert await spool.count(Selection()) == 0
    with pytest.raises(NotFound):
        await spool.content(message.id)


async def test_a_thousand_recipients_keep_their_places(spool: Spool) -> None:
    addresses = [f"user{n}@example.org" for n in range(1000)]
    claimed = await spool.accept(new_message(spool, *addresses), hand_over=True)
    assert [one.recipient.address for one in claimed] == addresses
    assert [one.position for one in claimed] == list(range(1000))
    assert await spool.count(Selection()) == 1000


async def test_an_id_of_another_shard_is_refused(tmp_path: Path, spool: Spool) -> None:
    other = await Spool.open(tmp_path, shard=1, now=Clock())
    with pytest.raises(ValueError, match="no id of shard 0"):
        await spool.accept(new_message(other, "a@example.org"), hand_over=True)
    await other.close()


async def test_an_id_given_twice_fails_the_second_and_keeps_the_first(spool: Spool) -> None:
    message = new_message(spool, "a@example.org")
    await spool.accept(message, hand_over=False)
    with pytest.raises(SpoolError, match="UNIQUE"):
        await spool.accept(message, hand_over=False)
    assert await addresses_due(spool) == ["a@example.org"]


async def test_a_small_content_is_read_as_it_was_given(tmp_path: Path, spool: Spool) -> None:
    message = new_message(spool, "a@example.org", body=b"\x00\xff.\r\n")
    await spool.accept(message, hand_over=True)
    content = await spool.content(message.id)
    assert (content.head, content.body, content.path, content.body_size) == (
        message.content.head,
        b"\x00\xff.\r\n",
        None,
        5,
    )
    assert b"".join(content.chunks(2)) == b"\x00\xff.\r\n"
    assert files_in(tmp_path) == []


async def test_a_body_that_came_as_a_file_stays_one(tmp_path: Path, spool: Spool) -> None:
    file = spool.incoming()
    for start in range(0, len(LARGE), 1000):
        file.write(LARGE[start : start + 1000])
    message = new_message(spool, "a@example.org", content=Content(b"head\r\n\r\n", file=file))
    assert message.size == len(LARGE) + 8
    (one,) = await spool.accept(message, hand_over=True)
    content = await spool.content(message.id)
    assert content.path == file.path and content.body_size == len(LARGE)
    assert b"".join(content.chunks()) == LARGE
    file.discard()
    assert file.path.exists(), "the spool owns it"
    await spool.settle(delivered(one))
    await spool.close()
    assert files_in(tmp_path) == []


async def test_a_large_body_in_memory_becomes_a_file(tmp_path: Path, spool: Spool) -> None:
    message = new_message(spool, "a@example.org", body=LARGE)
    await spool.accept(message, hand_over=False)
    content = await spool.content(message.id)
    assert content.path is not None and b"".join(content.chunks(4096)) == LARGE
    assert files_in(tmp_path) == [content.path.name]


async def test_contents_are_read_back_when_they_are_no_longer_in_memory(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    small, large = new_message(spool, "a@example.org", body=b"small"), new_message(spool, "a@example.org", body=LARGE)
    for message in (small, large):
        await spool.accept(message, hand_over=True)
    remembered = [await spool.content(message.id) for message in (small, large)]
    await spool.close()
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert [await spool.content(message.id) for message in (small, large)] == remembered
    await spool.close()


async def test_a_file_that_is_discarded_is_gone(tmp_path: Path, spool: Spool) -> None:
    file = spool.incoming()
    file.write(b"half a mess")
    file.discard()
    file.discard()
    assert files_in(tmp_path) == []


async def test_a_content_nobody_has_is_not_found(spool: Spool) -> None:
    for message_id in (spool.next_id(), "garbage"):
        with pytest.raises(NotFound, match="not in the queue"):
            await spool.content(message_id)


def test_what_could_not_be_written_may_be_emptied_while_its_error_is_kept(tmp_path: Path) -> None:
    file = IncomingFile(tmp_path / "content")
    os.close(file._descriptor)
    octets = bytearray(b"x" * 100)
    with pytest.raises(SpoolError) as kept:
        file.write(octets)
    octets.clear()
    assert "Bad file descriptor" in kept.value.text
