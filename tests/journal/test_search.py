"""Finding: every filter, all shards and days, what is not moved yet, and files that cannot be read."""

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.journal import lookup
from relay.journal.dayfile import day_at, path_of
from relay.journal.query import FirstTime, Query
from relay.journal.search import Search
from relay.journal.store import Journal
from relay.mail.event import Event, Kind
from tests.journal.stories import DAY, NOW, event, new_id, refuse_damage, write

ONE, TWO = new_id(NOW - DAY), new_id(NOW, shard=1)
STORY = [
    event(NOW - DAY, Kind.ACCEPTED, message=ONE, recipient="", header_message_id="<one@example.com>"),
    event(NOW - DAY + 1, Kind.DEFERRED, message=ONE, recipient="ann@example.net", reply="451 later"),
    event(NOW - DAY + 1, Kind.DELIVERED, message=ONE, recipient="Bob@bücher.example"),
    event(NOW - DAY + 60, Kind.BOUNCED, message=ONE, recipient="ann@example.net", reply="550 no"),
]
OTHER = [
    event(NOW, Kind.ACCEPTED, message=TWO, recipient="", sender="", credential="blog", header_message_id="two"),
    event(NOW + 5, Kind.DELIVERED, message=TWO, recipient="ann@example.net", sender="", credential="blog"),
    event(NOW + 6, Kind.REJECTED, message="", recipient="eve@example.org", sender="x@example.org", credential="blog"),
]


@pytest.fixture
async def spool(tmp_path: Path) -> Path:
    await write(tmp_path / "shard-0", STORY)
    await write(tmp_path / "shard-1", OTHER)
    return tmp_path


def names(events: tuple[Event, ...]) -> list[str]:
    """Each event as its message and place in it."""
    known = {each: f"one{number}" for number, each in enumerate(STORY)}
    known |= {each: f"two{number}" for number, each in enumerate(OTHER)}
    return [known[each] for each in events]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(Query(), "two2 two1 two0 one3 one2 one1 one0", id="everything, the newest first"),
        pytest.param(Query(limit=2), "two2 two1", id="only so many"),
        pytest.param(Query(limit=0), "", id="none"),
        pytest.param(Query(to="ann@example.net"), "two1 one3 one1", id="a recipient, in all shards"),
        pytest.param(Query(to="ann@EXAMPLE.net"), "two1 one3 one1", id="the domain's case does not matter"),
        pytest.param(Query(to="Ann@example.net"), "", id="the local part's does"),
        pytest.param(Query(to="@example.net"), "two1 one3 one1", id="a recipient's domain"),
        pytest.param(Query(to="@xn--bcher-kva.example"), "one2", id="a domain in A-labels"),
        pytest.param(Query(to="Bob@bücher.example"), "one2", id="an address in U-labels"),
        pytest.param(Query(to="@example"), "", id="not a parent domain"),
        pytest.param(Query(sender="shop@example.com"), "one3 one2 one1 one0", id="a sender"),
        pytest.param(Query(sender="@example.org"), "two2", id="a sender's domain"),
        pytest.param(Query(sender="<>"), "two1 two0", id="the null sender"),
        pytest.param(Query(message=ONE), "one3 one2 one1 one0", id="a queue id"),
        pytest.param(Query(message=new_id(NOW + 1)), "", id="a queue id that is not there"),
        pytest.param(Query(message="<one@example.com>"), "one3 one2 one1 one0", id="a Message-ID"),
        pytest.param(Query(message="one@example.com", limit=1), "one3", id="a Message-ID without brackets"),
        pytest.param(Query(message="two"), "two1 two0", id="a Message-ID that is not well formed"),
        pytest.param(Query(credential="blog"), "two2 two1 two0", id="a credential"),
        pytest.param(Query(status=Kind.DELIVERED), "two1 one2", id="a status"),
        pytest.param(Query(since=NOW), "two2 two1 two0", id="since, inclusive"),
        pytest.param(Query(until=NOW), "one3 one2 one1 one0", id="until, exclusive"),
        pytest.param(Query(since=NOW - DAY + 1, until=NOW - DAY + 60), "one2 one1", id="a time"),
        pytest.param(Query(to="@example.net", status=Kind.BOUNCED), "one3", id="a recipient and a status"),
        pytest.param(Query(sender="<>", to="ann@example.net", credential="shop"), "", id="all must hold"),
        pytest.param(
            Query(message="<one@example.com>", to="@example.net"), "one3 one1", id="a Message-ID and a domain"
        ),
    ],
)
async def test_search(query: Query, expected: str, spool: Path) -> None:
    found = await Search(spool).search(query)
    assert names(found.events) == expected.split()
    assert found.unreadable == {}


@pytest.mark.parametrize("moved", range(len(STORY) + 1))
@pytest.mark.parametrize(
    "query", [Query(), Query(limit=2), Query(to="@example.net"), Query(message=ONE), Query(message="one@example.com")]
)
async def test_what_is_not_moved_yet_is_found_too(query: Query, moved: int, tmp_path: Path) -> None:
    (tmp_path / "all" / "shard-0").mkdir(parents=True)
    await write(tmp_path / "all" / "shard-0", STORY)
    await write(tmp_path / "shard-0", STORY[:moved])
    expected = await Search(tmp_path / "all").search(query)
    for pending in (STORY[moved:], STORY):  # the mover may have been quicker than the asking
        found = await Search(tmp_path).search(query, pending=pending)
        assert [each.at for each in found.events] == [each.at for each in expected.events]
        assert query.limit == 2 or set(found.events) == set(expected.events)  # which of two at one time is cut is open


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(ONE, "one0 one1 one2 one3", id="a queue id"),
        pytest.param("<one@example.com>", "one0 one1 one2 one3", id="a Message-ID"),
        pytest.param(TWO, "two0 two1", id="of another shard"),
        pytest.param("nothing", "", id="what is not there"),
    ],
)
async def test_show(message: str, expected: str, spool: Path) -> None:
    found = await Search(spool).show(message)
    assert names(found.events) == expected.split()


@pytest.mark.parametrize("moved", range(len(STORY) + 1))
async def test_show_tells_what_is_not_moved_yet_last(moved: int, tmp_path: Path) -> None:
    await write(tmp_path / "shard-0", STORY[:moved])
    for pending in (STORY[moved:], STORY):
        for message in (ONE, "<one@example.com>"):
            found = await Search(tmp_path).show(message, pending=[*OTHER, *pending])
            assert list(found.events) == STORY


async def test_show_is_in_the_order_things_happened_also_when_the_clock_was_set_back(tmp_path: Path) -> None:
    story = [replace(each, at=each.at - number * 3600) for number, each in enumerate(STORY)]
    await write(tmp_path / "shard-0", story)
    assert list((await Search(tmp_path).show(ONE)).events) == story


async def test_without_any_journal(tmp_path: Path) -> None:
    for spool in (tmp_path, tmp_path / "missing"):
        found = await Search(spool).search(Query(), pending=STORY)
        assert len(found.events) == 4 and found.unreadable == {}


async def test_what_cannot_be_read_is_named_and_the_rest_is_searched(spool: Path) -> None:
    await write(spool / "shard-0", [event(NOW - days * DAY) for days in (2, 3, 4, 5)], first=50)
    (spool / "shard-0" / "journal-2027-01-13.db").write_bytes(b"garbage" * 1000)
    change(spool / "shard-0" / "journal-2027-01-12.db", "PRAGMA user_version = 9")
    change(spool / "shard-0" / "journal-2027-01-11.db", "UPDATE event SET event = x'c1'")
    (spool / "shard-0" / "journal-2027-01-09.db").touch()  # just made, nothing in it yet
    found = await Search(spool).search(Query())
    assert len(found.events) == 8
    told = {Path(path).name: why for path, why in found.unreadable.items()}
    assert sorted(told) == ["journal-2027-01-11.db", "journal-2027-01-12.db", "journal-2027-01-13.db"]
    assert "is no event" in told["journal-2027-01-11.db"]
    assert "version 9" in told["journal-2027-01-12.db"]
    assert "is damaged" in told["journal-2027-01-13.db"]


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


async def test_segments_are_searched_as_one(tmp_path: Path) -> None:
    """More events than a segment has: a rare recipient in each of them, a common one everywhere."""
    events = [
        event(NOW + number / 100, recipient="rare@example.org" if number % 6000 == 0 else f"user{number}@example.net")
        for number in range(20_000)
    ]
    await write(tmp_path / "shard-0", events)
    search = Search(tmp_path)
    rare = await search.search(Query(to="rare@example.org"))
    assert list(rare.events) == [events[number] for number in (18_000, 12_000, 6_000, 0)]
    common = await search.search(Query(to="@example.net", limit=3))
    assert list(common.events) == events[:-4:-1]
    senders = await search.search(Query(sender="shop@example.com", limit=20_000))
    assert list(senders.events) == events[::-1]


WRITER = """
import asyncio, sys
from pathlib import Path
from relay.journal.store import Journal
from tests.journal.stories import DAY, NOW, event, new_id, refuse_damage, write

async def main():
    journal = await Journal.open(Path(sys.argv[1]), damaged=refuse_damage)
    number = 0
    while True:
        batch = [(number + each, event(NOW + (number + each) / 100)) for each in range(1, 101)]
        await journal.ingest(batch)
        number += 100
        print(number, flush=True)

asyncio.run(main())
"""


async def test_searching_beside_a_writer_and_after_it_was_killed(tmp_path: Path) -> None:
    (tmp_path / "shard-0").mkdir()
    pipe = asyncio.subprocess.PIPE
    arguments = ["-c", WRITER, str(tmp_path / "shard-0")]
    writer = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe)
    assert writer.stdout is not None
    search = Search(tmp_path)
    committed = 0
    for _ in range(30):
        committed = int(await writer.stdout.readline())
        found = await search.search(Query(limit=150))
        newest = round((found.events[0].at - NOW) * 100)
        assert newest >= committed and newest % 100 == 0 and not found.unreadable  # batches as a whole
        assert [round((each.at - NOW) * 100) for each in found.events] == list(range(newest, max(newest - 150, 0), -1))
    writer.kill()
    committed = max([committed, *(int(line) for line in (await writer.stdout.read()).split())])
    await writer.wait()
    found = await search.search(Query(limit=1_000_000))
    assert len(found.events) >= committed and not found.unreadable


recipients = st.sampled_from(["", "ann@example.net", "Ann@example.net", "bob@EXAMPLE.net", "a@bücher.example"])
senders = st.sampled_from(["", "shop@example.com", "blog@example.org"])
messages = st.sampled_from(["", ONE, TWO, new_id(NOW - 5 * DAY)])
some_events = st.builds(
    event,
    at=st.integers(0, 20).map(lambda minutes: NOW + minutes * 60),
    kind=st.sampled_from([Kind.ACCEPTED, Kind.DELIVERED, Kind.REJECTED]),
    message=messages,
    sender=senders,
    recipient=recipients,
    credential=st.sampled_from(["shop", "blog"]),
)
queries = st.builds(
    Query,
    to=st.sampled_from(["", "", "ann@example.net", "@example.net", "@xn--bcher-kva.example"]),
    sender=st.sampled_from(["", "", "<>", "shop@example.com", "@example.org"]),
    message=messages,
    credential=st.sampled_from(["", "", "shop"]),
    status=st.sampled_from([None, None, Kind.DELIVERED]),
    since=st.sampled_from([0.0, 0.0, NOW + 300]),
    until=st.sampled_from([0.0, 0.0, NOW + 900]),
    limit=st.integers(0, 30),
)


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(some_events, max_size=25),
    questions=st.lists(queries, min_size=1, max_size=12),
    shards=st.integers(1, 2),
)
async def test_a_search_finds_what_looking_at_each_event_finds(
    events: list[Event], questions: list[Query], shards: int
) -> None:
    with TemporaryDirectory() as directory:
        half = len(events) // 2
        for shard in range(shards):
            await write(Path(directory) / f"shard-{shard}", events[:half][shard::shards])
        pending = events[half:]
        everything = [each for shard in range(shards) for each in events[:half][shard::shards]]
        everything += [each for each in pending if each not in everything]
        for query in questions:
            found = await Search(Path(directory)).search(query, pending=pending)
            expected = sorted((each.at for each in everything if lookup.matches(each, query)), reverse=True)
            assert [each.at for each in found.events] == expected[: query.limit]
            assert all(lookup.matches(each, query) for each in found.events)
            assert not found.unreadable


# Who was sent to before.

FAR = [
    event(NOW - 20 * DAY, Kind.ACCEPTED, recipient="ann@example.net"),
    event(NOW - 20 * DAY, Kind.ACCEPTED, recipient="Bob@xn--bcher-kva.example"),
    event(NOW, Kind.ACCEPTED, recipient="carol@example.net", credential="blog"),
    event(NOW, Kind.REJECTED, recipient="dave@example.net", reply="550 no"),
    event(NOW, Kind.SUPPRESSED, recipient="erin@example.net", reply=""),
    event(NOW, Kind.BOUNCED, recipient="frank@example.net", reply="550 no"),
]


@pytest.mark.parametrize(
    ("recipient", "is_first_time"),
    [
        pytest.param("ann@example.net", False, id="accepted weeks ago, in another shard"),
        pytest.param("ann@EXAMPLE.net", False, id="the domain's case does not matter"),
        pytest.param("Ann@example.net", True, id="the local part's does"),
        pytest.param("Bob@bücher.example", False, id="a domain is the same in both its forms"),
        pytest.param("carol@example.net", True, id="another credential's recipient"),
        pytest.param("dave@example.net", True, id="it was refused"),
        pytest.param("erin@example.net", False, id="only a suppression kept it from being sent"),
        pytest.param("frank@example.net", True, id="what was not accepted by this credential"),
        pytest.param("nobody@example.net", True, id="never heard of"),
    ],
)
async def test_who_was_not_sent_to_before(tmp_path: Path, recipient: str, is_first_time: bool) -> None:
    await write(tmp_path / "shard-0", FAR[2:])
    await write(tmp_path / "shard-1", FAR[:2])
    found = await Search(tmp_path).first_time("shop", ["ann@example.net", recipient])
    assert found == FirstTime(frozenset({recipient} if is_first_time else ()))


async def test_a_recipient_of_any_segment_is_known(tmp_path: Path) -> None:
    await write(
        tmp_path / "shard-0", [event(NOW, Kind.ACCEPTED, recipient=f"r{number}@a.example") for number in range(9000)]
    )
    wanted = ["r0@a.example", "r8500@a.example", "new@a.example"]
    assert (await Search(tmp_path).first_time("shop", wanted)).recipients == {"new@a.example"}


async def test_what_the_journal_has_forgotten_is_first_time_again(tmp_path: Path) -> None:
    await write(tmp_path / "shard-0", FAR[:1])
    journal = await Journal.open(tmp_path / "shard-0", damaged=refuse_damage)
    search = Search(tmp_path)
    assert not (await search.first_time("shop", ["ann@example.net"])).recipients
    assert len(await journal.expire(today=day_at(NOW), retention_days=19)) == 1
    assert (await search.first_time("shop", ["ann@example.net"])).recipients == {"ann@example.net"}
    await journal.close()


async def test_days_that_cannot_be_read_are_named_and_know_nobody(tmp_path: Path) -> None:
    await write(tmp_path / "shard-0", FAR)
    (tmp_path / "shard-1").write_bytes(b"no directory")
    day = path_of(tmp_path / "shard-0", day_at(NOW - 20 * DAY))
    day.write_bytes(b"this is no database" * 1000)
    found = await Search(tmp_path).first_time("shop", ["ann@example.net", "erin@example.net", "new@example.net"])
    assert found.recipients == {"ann@example.net", "new@example.net"}
    assert set(found.unreadable) == {str(day), str(tmp_path / "shard-1")}


async def test_what_the_journal_does_not_have_yet_is_known(tmp_path: Path) -> None:
    await write(tmp_path / "shard-0", FAR[:1])
    found = await Search(tmp_path).first_time("shop", [each.recipient for each in FAR], pending=FAR[1:])
    assert found.recipients == {"carol@example.net", "dave@example.net", "frank@example.net"}


async def test_nobody_looks_further_than_to_the_newest_mail(tmp_path: Path) -> None:
    await write(tmp_path / "shard-0", FAR)
    path_of(tmp_path / "shard-0", day_at(NOW - 20 * DAY)).write_bytes(b"this is no database" * 1000)
    assert not (await Search(tmp_path).first_time("shop", ["erin@example.net"])).unreadable
