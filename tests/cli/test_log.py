"""cli.log: searching what happened, in the journal and in what has not reached it yet."""

import asyncio
import os
import time

import pytest

from relay.journal.store import Journal
from relay.mail.event import Event, Kind
from relay.spool.spool import Spool
from tests.cli.conftest import Relay
from tests.cli.test_queue import fill
from tests.spool.letters import delivered, new_message


def deliver(relay: Relay) -> str:
    """A message delivered an hour ago; its events are still in the shard."""

    async def work(spool: Spool) -> str:
        message = new_message(spool, "x@done.example", at=time.time())
        recipients = await spool.accept(message, hand_over=True)
        await spool.settle(delivered(*recipients))
        return message.id

    return relay.in_shard(work)


def move_to_journal(relay: Relay) -> None:
    """What the mover does."""

    async def work(spool: Spool) -> None:
        journal = await Journal.open(relay.spool / "shard-0", damaged=lambda path, reason: None)
        events = await spool.events()
        await journal.ingest(events)
        await spool.forget_events(events[-1][0])
        await journal.close()

    relay.in_shard(work)


@pytest.mark.parametrize("moved", [False, True], ids=["in the shard", "in the journal"])
def test_show_tells_the_story_in_order(relay: Relay, moved: bool) -> None:
    message = deliver(relay)
    if moved:
        move_to_journal(relay)
    events = relay.json("log", "show", message)
    assert [event["status"] for event in events] == ["accepted", "delivered"]
    assert events[1]["reply"] == "250 2.0.0 Ok"
    assert set(events[1]) >= {"time", "id", "recipient", "reply", "mx", "source", "tls", "verdict", "attempt"}
    assert events == relay.json("log", "show", "<1@example.com>")
    text = relay("log", "show", message).out
    assert text.index("accepted") < text.index("delivered x@done.example")
    assert "250 2.0.0 Ok" in text


SEARCHES = [
    pytest.param((), 8, id="everything"),
    pytest.param(("--to", "x@done.example"), 2, id="a recipient"),
    pytest.param(("--to", "@done.example"), 2, id="a domain"),
    pytest.param(("--from", "news@example.com"), 2, id="a sender"),
    pytest.param(("--credential", "news"), 2, id="a credential"),
    pytest.param(("--status", "delivered"), 1, id="a status"),
    pytest.param(("--status", "deferred", "--to", "c@one.example"), 1, id="two filters"),
    pytest.param(("--since", "10m"), 7, id="since"),
    pytest.param(("--until", "1h"), 1, id="until"),
    pytest.param(("--since", "2199-01-01"), 0, id="since a day to come"),
    pytest.param(("--limit", "2"), 2, id="a limit"),
]


@pytest.mark.parametrize(("flags", "number"), SEARCHES)
def test_search_filters(relay: Relay, flags: tuple[str, ...], number: int) -> None:
    fill(relay)
    deliver(relay)
    found = relay.json("log", "search", *flags)
    assert len(found) == number, [(event["status"], event["recipient"], event["time"]) for event in found]
    assert found == sorted(found, key=lambda event: event["time"], reverse=True)


def test_a_message_nobody_knows(relay: Relay) -> None:
    answer = relay("log", "show", "0" * 15)
    assert answer.code == os.EX_NOUSER
    assert "The journal goes back 30 days" in answer.err


def test_a_search_that_finds_nothing_says_so_and_notices_a_misspelt_credential(relay: Relay) -> None:
    relay.json("credential", "add", "news", "--from", "*@example.com")
    answer = relay("log", "search", "--credential", "nwes")
    assert (answer.code, answer.out) == (0, "Nothing of that kind happened.\n")
    assert 'Did you mean "news"?' in answer.err


def test_a_day_file_that_cannot_be_read_is_named(relay: Relay) -> None:
    message = deliver(relay)
    move_to_journal(relay)
    (day,) = relay.spool.glob("shard-0/journal-*.db")
    day.write_bytes(b"this is no database, whatever it was before" * 100)
    answer = relay("log", "search")
    assert str(day) in answer.err
    assert "was not searched" in answer.err
    assert relay("log", "show", message).code == os.EX_NOUSER


def test_many_pending_events_are_all_found(relay: Relay) -> None:
    async def work(spool: Spool) -> None:
        now = time.time()
        await spool.record(
            [
                Event(
                    now + number / 1000, Kind.REJECTED, "", f"s{number}@example.com", "", "shop", reply="550 5.7.1 No"
                )
                for number in range(2500)
            ]
        )

    relay.in_shard(work)
    assert len(relay.json("log", "search", "--status", "rejected", "--limit", "5000")) == 2500


def test_the_log_can_be_read_while_the_shard_is_written(relay: Relay) -> None:
    deliver(relay)

    async def work(spool: Spool) -> int:
        await spool.accept(new_message(spool, "y@x.example", at=time.time()), hand_over=False)
        return len(await asyncio.to_thread(relay.json, "log", "search"))

    assert relay.in_shard(work) == 3
