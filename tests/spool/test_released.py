"""A spool of each version that was released is opened, brought up to date and complete.

`released/VERSION` was written by that version's code (`make_released`), as a process leaves it that was killed. A new
release whose schema differs is one more directory there. That a newer version's files are refused and left as they are
is shown in `test_open`, `tests/registry/test_database.py` and `tests/journal/test_store.py`.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.journal.query import Query
from relay.journal.search import Search
from relay.mail.event import Kind
from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions
from relay.spool import Selection, SpoolReader, Status, database
from relay.spool.spool import Spool
from tests.spool.letters import FIVE_DAYS, NOON, Clock, addresses_due, delivered

RELEASES = sorted(path for path in Path(__file__).with_name("released").iterdir() if path.is_dir())


@pytest.fixture(params=RELEASES, ids=lambda path: f"written by {path.name}")
def release(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def contents(release: Path) -> Any:
    return json.loads((release / "contents.json").read_text())


@pytest.fixture
def directory(release: Path, tmp_path: Path) -> Path:
    """The spool as it was, below a directory of the test."""
    for text in release.rglob("*.sql"):
        path = (tmp_path / text.relative_to(release)).with_suffix(".db")
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(text.read_text())
    shutil.copytree(release / "shard-0" / "content", tmp_path / "shard-0" / "content")
    return tmp_path


async def test_every_recipient_is_there_in_its_status(directory: Path, contents: Any, clock: Clock) -> None:
    spool = await Spool.open(directory, shard=0, now=clock)
    found = [
        [one.message_id, one.position, one.recipient.address, one.sender, one.subject, one.attempts, one.last_reply]
        for one in await spool.find(Selection())
    ]
    assert found == contents["recipients"]
    assert await addresses_due(spool) == ["fresh@example.org", "fresh@example.net", "queued@example.org"]
    assert await addresses_due(spool, until=NOON + 600) == [*await addresses_due(spool), "deferred@example.net"]
    assert [one.recipient.address for one in await spool.in_doubt(limit=10)] == [
        "doubtful@example.org",
        "intended@example.org",
    ]
    assert [one.recipient.address for one in await spool.find(Selection(status=Status.HELD))] == ["held@example.org"]
    await spool.close()


async def test_every_content_is_as_it_was_accepted(directory: Path, contents: Any, clock: Clock) -> None:
    spool = await Spool.open(directory, shard=0, now=clock)
    for message, text in contents["contents"].items():
        content = await spool.content(message)
        assert content.head + b"".join(content.chunks()) == text.encode()
    await spool.close()


async def test_it_is_delivered_as_any_other_mail(directory: Path, clock: Clock) -> None:
    spool = await Spool.open(directory, shard=0, now=clock)
    clock.pass_by(FIVE_DAYS - 1)
    for one in await spool.due(until=clock(), limit=10):
        await spool.settle(delivered(one))
    assert sorted(one.recipient.address for one in await spool.find(Selection())) == [
        "doubtful@example.org",
        "held@example.org",
        "intended@example.org",
    ]
    await spool.close()


async def test_what_was_still_to_be_carried_over_is_there(directory: Path, contents: Any, clock: Clock) -> None:
    spool = await Spool.open(directory, shard=0, now=clock)
    events = await spool.events()
    assert [[event.kind, event.message, event.recipient] for _, event in events] == contents["events"]
    assert [row.address for _, row in await spool.suppressions()] == contents["suppressions"]
    await spool.close()
    moved = await Search(directory).search(Query(status=Kind.DELIVERED))
    assert [event.recipient for event in moved.events] == ["delivered@example.org"] and not moved.unreadable


async def test_it_is_brought_to_this_version(directory: Path, clock: Clock) -> None:
    await (await Spool.open(directory, shard=0, now=clock)).close()
    with closing(sqlite3.connect(directory / "shard-0" / "queue.db")) as connection:
        assert database.identity(connection) == (database.newest_version(), database.APPLICATION_ID)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    SpoolReader(directory, shard=0).close()


async def test_credentials_keys_and_suppressions_are_there(directory: Path, contents: Any, clock: Clock) -> None:
    registry = await Registry.open(directory, now=clock)
    assert registry.snapshot().authenticate(contents["login"], contents["secret"], now=NOON) is not None
    (domain,) = registry.snapshot().domains.values()
    assert (domain.name, [key.private_pem for key in domain.keys]) == ("example.com", [b"a key\n"])
    await registry.close()
    suppressions = await Suppressions.open(directory, now=clock)
    assert suppressions.lookup(contents["listed"]) is not None
    await suppressions.close()
