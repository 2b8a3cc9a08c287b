"""cli.suppression: looking, adding, removing, taking lists in and out."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.mail.suppression import Cause, Suppression
from relay.spool import Settlement
from relay.spool.spool import Spool
from tests.cli.conftest import Relay
from tests.spool.letters import delivered, new_message

ROOT = Path(__file__).parents[2]


def test_add_list_remove(relay: Relay) -> None:
    assert relay("suppression", "add", "A@Gone.Example", "b@gone.example").out == "2 addresses added\n"
    found = relay.json("suppression", "list")
    assert sorted(each["address"] for each in found) == ["A@gone.example", "b@gone.example"]
    assert {each["cause"] for each in found} == {"manual"}
    assert {each["expires_at"] for each in found} == {None}
    assert all(each["reply"].startswith("added by ") for each in found)
    assert "for good" in relay("suppression", "list").out
    assert relay.json("suppression", "remove", "b@gone.example") == {"removed": 1}
    assert [each["address"] for each in relay.json("suppression", "list")] == ["A@gone.example"]


def test_add_until_a_day_and_for_one_stream(relay: Relay) -> None:
    relay.json("suppression", "add", "a@x.example", "--expires", "2199-01-01", "--scope", "credential:shop/bulk")
    (found,) = relay.json("suppression", "list")
    assert (found["expires_at"], found["scope"]) == ("2199-01-01T00:00:00.000Z", "credential:shop/bulk")


@pytest.mark.parametrize(
    ("flags", "cause", "scope"),
    [
        pytest.param((), "manual", "all", id="by the operator"),
        pytest.param(("--cause", "hard_bounce"), "hard_bounce", "all", id="a bounce seen elsewhere"),
        pytest.param(
            ("--cause", "complaint", "--scope", "credential:shop/bulk"),
            "complaint",
            "credential:shop/bulk",
            id="a complaint, for its credential's stream",
        ),
    ],
)
def test_add_with_its_cause(relay: Relay, flags: tuple[str, ...], cause: str, scope: str) -> None:
    relay.json("suppression", "add", "a@x.example", *flags)
    (found,) = relay.json("suppression", "list", "--cause", cause)
    assert (found["scope"], found["expires_at"]) == (scope, None)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        pytest.param(("--cause", "complaint"), "--scope credential:NAME/STREAM", id="a complaint about everything"),
        pytest.param(
            ("--cause", "complaint", "--scope", "credential:shop/bulk", "--expires", "30d"),
            "for good",
            id="a complaint for a month",
        ),
        pytest.param(("--cause", "mailbox_full"), "--cause", id="what only repeated refusals prove"),
    ],
)
def test_what_is_no_suppression_of_that_cause_is_refused(relay: Relay, flags: tuple[str, ...], text: str) -> None:
    answer = relay("suppression", "add", "a@x.example", *flags)
    assert answer.code == os.EX_USAGE
    assert text in answer.err
    assert relay.json("suppression", "list") == []


def test_adding_twice_changes_nothing_and_says_so(relay: Relay) -> None:
    relay.json("suppression", "add", "a@x.example")
    assert relay.json("suppression", "add", "a@x.example") == {"added": 0, "unchanged": 1}
    assert "suppressed already" in relay("suppression", "add", "a@x.example").err


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        pytest.param(("--domain", "x.example"), ["a@x.example"], id="a domain"),
        pytest.param(("--address", "b@y.example"), ["b@y.example"], id="an address"),
        pytest.param(("--scope", "credential:shop/bulk"), ["b@y.example"], id="a scope"),
        pytest.param(("--cause", "complaint"), [], id="a cause"),
    ],
)
def test_list_filters(relay: Relay, flags: tuple[str, ...], found: list[str]) -> None:
    relay.json("suppression", "add", "a@x.example")
    relay.json("suppression", "add", "b@y.example", "--scope", "credential:shop/bulk")
    assert [each["address"] for each in relay.json("suppression", "list", *flags)] == found


def test_what_is_no_address_is_ex_dataerr(relay: Relay) -> None:
    answer = relay("suppression", "add", "nonsense")
    assert answer.code == os.EX_DATAERR
    assert '"nonsense" is no address' in answer.err


def test_what_is_not_suppressed_cannot_be_removed(relay: Relay) -> None:
    answer = relay("suppression", "remove", "a@x.example")
    assert answer.code == os.EX_NOUSER
    assert "not suppressed: a@x.example" in answer.err


def test_a_list_goes_out_and_comes_back(relay: Relay, tmp_path: Path) -> None:
    relay.json("suppression", "add", "a@x.example", "b@y.example")
    before = relay.json("suppression", "list")
    assert relay("suppression", "export", str(tmp_path / "list")).out.startswith("2 addresses written to")
    for name in ("list.csv", "list.jsonl"):
        file = tmp_path / name
        assert relay.json("suppression", "export", str(file)) == {"file": str(file), "addresses": 2}
        relay.json("suppression", "remove", "a@x.example", "b@y.example")
        assert relay.json("suppression", "import", str(file)) == {"lines": 2, "changed": 2}
        assert sorted(map(str, relay.json("suppression", "list"))) == sorted(map(str, before))


def test_export_to_standard_output(relay: Relay) -> None:
    relay.json("suppression", "add", "a@x.example")
    command = [sys.executable, "-m", "relay", "--config", str(relay.config), "suppression"]
    for flags in (["--format", "jsonl"], ["--json"]):
        exported = subprocess.run([*command, "export", *flags], cwd=ROOT, capture_output=True, check=True, timeout=30)
        assert json.loads(exported.stdout)["address"] == "a@x.example"
    imported = subprocess.run(
        [*command, "import", "-", "--json"],
        input=b"address,cause\r\nc@x.example,complaint\r\n",
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(imported.stdout) == {"lines": 1, "changed": 1}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(b"address\nnonsense\n", 'line 2: "nonsense"', id="no address"),
        pytest.param(b"email\na@x.example\n", 'names no column "address"', id="no column"),
        pytest.param(b"address\n\xff@x.example\n", "is not UTF-8", id="Latin-1"),
    ],
)
def test_a_list_that_cannot_be_taken_is_refused_whole(relay: Relay, tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(content)
    answer = relay("suppression", "import", str(file))
    assert answer.code == os.EX_DATAERR
    assert fault in answer.err
    assert relay.json("suppression", "list") == []


def test_a_file_that_is_not_there_is_ex_unavailable(relay: Relay) -> None:
    answer = relay("suppression", "import", "/nowhere.csv")
    assert answer.code == os.EX_UNAVAILABLE
    assert "suppression import - <" in answer.err


def test_what_a_shard_has_found_is_in_the_list_before_anybody_carried_it_over(relay: Relay) -> None:
    async def work(spool: Spool) -> None:
        message = new_message(spool, "gone@x.example", at=time.time())
        recipients = await spool.accept(message, hand_over=True)
        found = Suppression("gone@x.example", Cause.HARD_BOUNCE, time.time(), message=message.id, reply="550 5.1.1 No")
        settled = delivered(*recipients)
        await spool.settle(Settlement(message.id, settled.outcomes, suppressions=(found,)))

    relay.in_shard(work)
    (found,) = relay.json("suppression", "list")
    assert (found["address"], found["cause"], found["reply"]) == ("gone@x.example", "hard_bounce", "550 5.1.1 No")
    assert relay.json("suppression", "remove", "gone@x.example") == {"removed": 1}
    assert relay.json("suppression", "list") == []
