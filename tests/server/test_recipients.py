"""Whom a credential has sent to before: what the journal knows, and what was accepted too lately for it to know."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from relay.journal.dayfile import day_at, path_of
from relay.mail.event import Kind
from relay.server.recipients import REMEMBERED, KnownRecipients
from tests.journal.stories import DAY, NOW, event, write
from tests.server.household import leave
from tests.server.logbook import Logbook
from tests.submission.house import Clock

ANN, BOB, CAROL = "ann@example.net", "bob@example.net", "carol@example.net"


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def journaled(spool: Path, *recipients: str, at: float = NOW, shard: int = 0) -> Path:
    """The day file in which their mail of "shop" was accepted."""
    await write(spool / f"shard-{shard}", [event(at, Kind.ACCEPTED, recipient=each) for each in recipients])
    return path_of(spool / f"shard-{shard}", day_at(at))


@pytest.fixture
def recipients(tmp_path: Path, logbook: Logbook, clock: Clock) -> KnownRecipients:
    return KnownRecipients(tmp_path, now=clock, log=logbook.log)


@pytest.mark.parametrize(
    ("credential", "asked", "strangers"),
    [
        pytest.param("shop", [ANN], 0, id="known"),
        pytest.param("shop", [ANN, BOB, CAROL], 1, id="known in any shard and day"),
        pytest.param("shop", ["ann@EXAMPLE.net"], 0, id="the same address in another case of its domain"),
        pytest.param("blog", [ANN, BOB], 2, id="to another credential they are strangers"),
        pytest.param("shop", [], 0, id="nobody"),
    ],
)
async def test_the_journal_is_the_memory(
    tmp_path: Path, recipients: KnownRecipients, credential: str, asked: Sequence[str], strangers: int
) -> None:
    await journaled(tmp_path, ANN)
    await journaled(tmp_path, BOB, at=NOW - 20 * DAY, shard=1)
    assert [await recipients.first_time(credential, asked) for _ in range(2)] == [strangers] * 2


async def test_where_there_is_no_journal_yet_everybody_is_a_stranger(recipients: KnownRecipients) -> None:
    assert await recipients.first_time("shop", [ANN]) == 1


async def test_whose_mail_was_accepted_is_known_at_once_and_to_ask_is_not_to_send(recipients: KnownRecipients) -> None:
    assert [await recipients.first_time("shop", [ANN, BOB]) for _ in range(2)] == [2, 2]
    recipients.sent_to("shop", [ANN])
    assert await recipients.first_time("shop", [ANN, BOB]) == 1
    assert await recipients.first_time("blog", [ANN]) == 1


async def test_what_is_remembered_is_not_looked_up_for_a_day_and_no_longer(
    tmp_path: Path, recipients: KnownRecipients, clock: Clock
) -> None:
    day = await journaled(tmp_path, ANN)
    assert await recipients.first_time("shop", [ANN]) == 0
    day.unlink()  # as retention does
    clock.time += REMEMBERED - 1
    assert await recipients.first_time("shop", [ANN]) == 0
    clock.time += 1
    assert await recipients.first_time("shop", [ANN]) == 1


async def test_a_clock_that_was_set_back_makes_nobody_known_for_longer(
    recipients: KnownRecipients, clock: Clock
) -> None:
    recipients.sent_to("shop", [ANN])
    clock.time -= 1
    assert await recipients.first_time("shop", [ANN]) == 1


async def test_what_the_journal_does_not_have_yet_is_known_in_any_shard(
    tmp_path: Path, recipients: KnownRecipients
) -> None:
    await leave(tmp_path, 1, ANN)
    assert await recipients.first_time("app", [ANN, BOB]) == 1
    assert await recipients.first_time("shop", [ANN]) == 1


async def test_only_so_many_are_remembered_and_those_used_last(tmp_path: Path, logbook: Logbook, clock: Clock) -> None:
    recipients = KnownRecipients(tmp_path, now=clock, log=logbook.log, most=2)
    for each in (ANN, BOB, ANN, CAROL):
        recipients.sent_to("shop", [each])
    assert len(recipients) == 2
    assert [await recipients.first_time("shop", [each]) for each in (ANN, BOB, CAROL)] == [0, 1, 0]


async def test_a_day_that_cannot_be_read_knows_nobody_and_is_told_once(
    tmp_path: Path, recipients: KnownRecipients, logbook: Logbook
) -> None:
    await journaled(tmp_path, ANN)
    damaged = await journaled(tmp_path, BOB, at=NOW - DAY)
    damaged.write_bytes(b"this is no database" * 1000)
    assert [await recipients.first_time("shop", [ANN, BOB]) for _ in range(3)] == [1, 1, 1]
    (line,) = logbook.lines("first-time recipients not looked up")
    assert line["file"] == str(damaged) and "damaged" in line["error"]


async def test_a_shard_that_cannot_be_read_knows_nobody_and_is_told_once(
    tmp_path: Path, recipients: KnownRecipients, logbook: Logbook
) -> None:
    await leave(tmp_path, 0, ANN)
    await leave(tmp_path, 1, BOB)
    (tmp_path / "shard-1" / "queue.db").write_bytes(b"this is no database" * 1000)
    assert [await recipients.first_time("app", [ANN, BOB]) for _ in range(2)] == [1, 1]
    (line,) = logbook.lines("first-time recipients not looked up")
    assert line["file"] == str(tmp_path / "shard-1")


async def test_what_waits_for_a_file_holds_up_nobody_who_is_remembered(
    tmp_path: Path, recipients: KnownRecipients
) -> None:
    day = await journaled(tmp_path, ANN, BOB)
    recipients.sent_to("blog", [ANN])
    with closing(sqlite3.connect(day, isolation_level=None)) as somebody:
        somebody.execute("PRAGMA locking_mode = EXCLUSIVE")
        somebody.execute("BEGIN EXCLUSIVE")
        waiting = [asyncio.create_task(recipients.first_time("shop", [each])) for each in (ANN, BOB, CAROL) * 5]
        assert await recipients.first_time("blog", [ANN]) == 0
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [0, 0, 1] * 5
