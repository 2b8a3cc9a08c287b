"""A message that is damaged in any of its parts is set aside: not sent, not dropped, seen, and in nobody's way."""

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.errors import MessageDamaged, NotFound
from relay.mail.event import Kind
from relay.spool import INLINE_OCTETS, Content, Selection, Status, StatusTotal
from relay.spool.numbering import number_of
from relay.spool.spool import Spool
from tests.spool.letters import FIVE_DAYS, NOON, Clock, addresses_due, delivered, new_message

LARGE = b"0123456789abcde\n" * (INLINE_OCTETS // 16) + b"and more"
OF_RECIPIENT = "what is kept of the recipient is damaged"
OF_MESSAGE = "what is kept of its message is damaged"
VICTIM = ("victim@example.org", "victim@example.net")


@dataclass
class Shard:
    """A shard that nobody owns, with a message to be damaged and one beside it, queued."""

    directory: Path
    victim: str
    number: int

    @property
    def database(self) -> Path:
        return self.directory / "shard-0" / "queue.db"

    @property
    def file(self) -> Path:
        (path,) = (self.directory / "shard-0" / "content").iterdir()
        return path

    def run(self, sql: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            assert connection.execute(sql, {"victim": self.number}).rowcount > 0


async def shard_with(directory: Path, clock: Clock, *, body: bytes = b"Hello.\r\n") -> Shard:
    spool = await Spool.open(directory, shard=0, now=clock)
    message = new_message(spool, *VICTIM, body=body)
    await spool.accept(message, hand_over=False)
    await spool.accept(new_message(spool, "other@example.org"), hand_over=False)
    await spool.close()
    return Shard(directory, message.id, number_of(message.id, shard=0) or 0)


def of_rows(change: str, table: str = "recipient") -> Callable[[Shard], None]:
    key = "number" if table == "message" else "message"
    return lambda shard: shard.run(f"UPDATE {table} SET {change} WHERE {key} = :victim")


ROWS = [
    pytest.param(of_rows("address = 'w' || substr(address, 2)"), OF_RECIPIENT, id="another address"),
    pytest.param(of_rows("address = CAST(x'ff40' AS TEXT)"), OF_RECIPIENT, id="an address that is no text"),
    pytest.param(of_rows("domain = 'examplf.org'"), OF_RECIPIENT, id="another domain"),
    pytest.param(of_rows("notify = 'NEVER'"), OF_RECIPIENT, id="other wishes for reports"),
    pytest.param(of_rows("orcpt = 'rfc822;a'"), OF_RECIPIENT, id="another original recipient"),
    pytest.param(of_rows("checksum = checksum + 1"), OF_RECIPIENT, id="another checksum"),
    pytest.param(
        of_rows("checksum = NULL, orcpt = CAST(x'fe' AS TEXT)"), OF_RECIPIENT, id="no text where version 1 wrote"
    ),
    pytest.param(of_rows("sender = 'shpp@example.com'", "message"), OF_MESSAGE, id="another sender"),
    pytest.param(of_rows("credential = 'sh0p'", "message"), OF_MESSAGE, id="another credential"),
    pytest.param(of_rows("facts = zeroblob(8)", "message"), OF_MESSAGE, id="other facts"),
    pytest.param(
        of_rows("checksum = NULL, facts = x'c1'", "message"), OF_MESSAGE, id="undecodable facts that version 1 wrote"
    ),
    pytest.param(
        lambda shard: shard.run("DELETE FROM message WHERE number = :victim"),
        "its message is not in the shard",
        id="no message",
    ),
]


@pytest.mark.parametrize(("damage", "reason"), ROWS)
async def test_damaged_rows_are_set_aside_when_they_are_read_for_delivery(
    tmp_path: Path, clock: Clock, damage: Callable[[Shard], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    shard = await shard_with(tmp_path, clock)
    damage(shard)
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert await addresses_due(spool) == ["other@example.org"]
    await is_seen(spool, shard, reason, caplog)
    await spool.close()


def cut(shard: Shard) -> None:
    os.truncate(shard.file, len(LARGE) - 1)


def flip(shard: Shard) -> None:
    octets = bytearray(shard.file.read_bytes())
    octets[1000] ^= 0x04
    shard.file.write_bytes(octets)


CONTENTS = [
    pytest.param(b"Hi.\r\n", of_rows("head = x'00'", "content"), "its checksum is another", id="another head"),
    pytest.param(b"Hi.\r\n", of_rows("body = x'486a2e0d0a'", "content"), "its checksum is another", id="another body"),
    pytest.param(b"Hi.\r\n", of_rows("body = x''", "content"), "its body has 0 octets and not 5", id="no body"),
    pytest.param(
        b"Hi.\r\n",
        lambda shard: shard.run("DELETE FROM content WHERE message = :victim"),
        "its content is not in the shard",
        id="no content",
    ),
    pytest.param(LARGE, flip, "its checksum is another", id="a flipped bit in a file"),
    pytest.param(LARGE, cut, "octets and not", id="a file that is cut short"),
    pytest.param(LARGE, lambda shard: shard.file.unlink(), "is missing", id="no file"),
    pytest.param(LARGE, of_rows("file = '../lock'", "content"), "octets and not", id="another file"),
]


@pytest.mark.parametrize(("body", "damage", "reason"), CONTENTS)
async def test_a_damaged_content_is_never_given_out_and_its_message_set_aside(
    tmp_path: Path,
    body: bytes,
    damage: Callable[[Shard], None],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    shard = await shard_with(tmp_path, clock, body=body)
    damage(shard)
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert await addresses_due(spool) == [*VICTIM, "other@example.org"]
    with pytest.raises(MessageDamaged, match=reason):
        await spool.content(shard.victim)
    assert await addresses_due(spool) == ["other@example.org"]
    await is_seen(spool, shard, reason, caplog)
    await spool.close()


async def is_seen(spool: Spool, shard: Shard, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """In the queue with its id, in the journal and in the log; it can be cancelled."""
    entries = await spool.find(Selection(status=Status.DAMAGED))
    assert [(one.message_id, one.position, one.held_at) for one in entries] == [
        (shard.victim, 0, NOON),
        (shard.victim, 1, NOON),
    ]
    assert all(reason in one.damage for one in entries)
    totals = await spool.totals()
    assert (totals.damaged, totals.held.count, totals.queued.count) == (StatusTotal(2, NOON), 0, 1)
    told = [event for _, event in await spool.events() if event.kind is Kind.HELD]
    assert [event.message for event in told] == [shard.victim] * 2
    assert all(event.detail.startswith("set aside: ") and reason in event.detail for event in told)
    lines = [line for line in caplog.records if line.message == "recipient set aside"]
    assert [(line.levelno, line.__dict__["id"]) for line in lines] == [(logging.ERROR, shard.victim)] * 2
    changed = [each async for batch in spool.cancel(Selection(ids=(shard.victim,)), by="ann") for each in batch]
    assert [each.position for each in changed] == [0, 1]
    assert [event.detail for _, event in await spool.events()][-2:] == ["cancelled by ann"] * 2
    with pytest.raises(NotFound):
        await spool.content(shard.victim)


async def test_what_is_set_aside_does_not_expire_and_is_set_aside_again_when_released(
    tmp_path: Path, clock: Clock
) -> None:
    shard = await shard_with(tmp_path, clock)
    shard.run("UPDATE recipient SET notify = 'NEVER' WHERE message = :victim AND position = 0")
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    clock.pass_by(2 * FIVE_DAYS)
    assert await addresses_due(spool, until=clock()) == ["victim@example.net", "other@example.org"]
    released = [each async for batch in spool.release(Selection(), by="ann") for each in batch]
    assert [(each.message_id, each.position) for each in released] == [(shard.victim, 0)]
    assert await addresses_due(spool, until=clock()) == ["victim@example.net", "other@example.org"]
    assert [one.position for one in await spool.find(Selection(status=Status.DAMAGED))] == [0]
    await spool.close()


async def test_what_was_repaired_is_delivered_once_it_is_released(tmp_path: Path, clock: Clock) -> None:
    shard = await shard_with(tmp_path, clock, body=LARGE)
    path = shard.file
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(MessageDamaged):
        await spool.content(shard.victim)
    (tmp_path / "elsewhere").rename(path)
    assert [len(batch) async for batch in spool.release(Selection(), by="ann")] == [2]
    assert sorted(await addresses_due(spool)) == ["other@example.org", *sorted(VICTIM)]
    assert b"".join((await spool.content(shard.victim)).chunks()) == LARGE
    await spool.close()


async def test_a_message_that_ended_meanwhile_is_not_found_rather_than_damaged(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    message = new_message(spool, "a@example.org")
    (one,) = await spool.accept(message, hand_over=True)
    await spool.settle(delivered(one))
    with pytest.raises(NotFound):
        await spool.content(message.id)
    await spool.close()


async def test_the_rest_of_a_domain_is_found_behind_what_is_damaged(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    addresses = [f"user{n}@example.org" for n in range(30)]
    await spool.accept(new_message(spool, *addresses), hand_over=False)
    await spool.close()
    with closing(sqlite3.connect(tmp_path / "shard-0" / "queue.db")) as connection, connection:
        connection.execute("UPDATE recipient SET notify = 'NEVER' WHERE position % 3 < 2")
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    found, _ = await spool.due_in("example.org", "shop", until=NOON, limit=10)
    assert [one.position for one in found] == list(range(2, 30, 3))
    await spool.close()


async def test_one_in_doubt_that_is_damaged_is_set_aside_with_the_doubt(tmp_path: Path, clock: Clock) -> None:
    shard = await shard_with(tmp_path, clock)
    shard.run("UPDATE recipient SET status = 4, notify = 'NEVER' WHERE message = :victim AND position = 0")
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert await spool.in_doubt(limit=10) == []
    (entry,) = await spool.find(Selection(status=Status.DAMAGED))
    assert entry.damage == f"{OF_RECIPIENT}; it was being sent when Relay ended, and may have arrived"
    await spool.close()


async def test_an_attempt_under_way_ends_its_recipient_whatever_becomes_of_the_content(
    tmp_path: Path, clock: Clock
) -> None:
    shard = await shard_with(tmp_path, clock, body=LARGE)
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    first, second, _ = await spool.due(until=NOON, limit=10)
    shard.file.unlink()
    with pytest.raises(MessageDamaged):
        await spool.content(shard.victim)
    assert (await spool.settle(delivered(first))).missing == ()
    assert [one.position for one in await spool.find(Selection(status=Status.DAMAGED))] == [second.position]
    await spool.close()


async def test_a_content_that_comes_from_memory_is_not_read_back(tmp_path: Path, spool: Spool) -> None:
    message = new_message(spool, "a@example.org", content=Content(b"head", b"body"))
    await spool.accept(message, hand_over=True)
    with closing(sqlite3.connect(tmp_path / "shard-0" / "queue.db")) as connection, connection:
        connection.execute("UPDATE content SET body = x'00'")
    assert (await spool.content(message.id)).body == b"body"


@pytest.mark.parametrize("table", ["event", "suppression"])
async def test_what_the_outbox_cannot_read_keeps_nothing_waiting_there_and_is_in_the_log(
    tmp_path: Path, clock: Clock, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    shard = await shard_with(tmp_path, clock)
    with closing(sqlite3.connect(shard.database)) as connection, connection:
        connection.execute(f"INSERT INTO {table} VALUES (100, x'c1c1')")
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    found = await (spool.events() if table == "event" else spool.suppressions())
    assert [sequence for sequence, _ in found] == ([1, 2, 3] if table == "event" else [])
    (line,) = [each for each in caplog.records if "left out" in each.message]
    assert line.__dict__ | {"table": table, "sequence": 100, "octets": "c1c1"} == line.__dict__
    await spool.events()
    assert len([each for each in caplog.records if "left out" in each.message]) == 1
    await spool.close()
