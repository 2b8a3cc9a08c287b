"""cli.spool: what is on disk is looked at, saved and copied, with a server and without one."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from relay.spool import INLINE_OCTETS
from relay.spool.numbering import number_of
from relay.spool.spool import Spool
from tests.cli.conftest import Relay
from tests.cli.test_queue import owner
from tests.spool.letters import new_message

LARGE = b"x" * (INLINE_OCTETS + 1)


def fill(relay: Relay) -> str:
    """Twenty small messages and a large one of two recipients, whose id is returned."""

    async def work(spool: Spool) -> str:
        large = new_message(spool, "a@one.example", "b@two.example", body=LARGE, at=time.time())
        await spool.accept(large, hand_over=False)
        for n in range(20):
            await spool.accept(new_message(spool, f"user{n}@one.example", at=time.time()), hand_over=False)
        return large.id

    relay("credential", "list")  # makes registry.db
    return relay.in_shard(work)


def run_in_shard(relay: Relay, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(relay.spool / "shard-0" / "queue.db")) as connection, connection:
        assert connection.execute(sql, parameters).rowcount > 0


@pytest.mark.parametrize("running", [pytest.param(True, id="beside an owner"), pytest.param(False, id="with none")])
def test_verify_says_what_it_looked_at(relay: Relay, running: bool) -> None:
    fill(relay)
    with owner(relay) if running else nullcontext():
        found = relay.json("spool", "verify")
        shard = next(each for each in found["files"] if each["file"].endswith("queue.db"))
        assert found["damages"] == 0
        assert (shard["messages"], shard["recipients"], shard["contents"], shard["events"]) == (21, 22, 21, 22)
        assert (shard["server_runs"], shard["thorough"], shard["leftovers"]) == (running, True, [])
        assert [Path(each["file"]).name for each in found["files"]] == ["registry.db", "queue.db"]
        answer = relay("spool", "verify")
        assert answer.code == 0 and answer.out.endswith("no damage found\n")


def of_large(table: str, change: str) -> Callable[[Relay, str], None]:
    key = "number" if table == "message" else "message"
    return lambda relay, large: run_in_shard(
        relay, f"UPDATE {table} SET {change} WHERE {key} = ?", number_of(large, shard=0)
    )


def without_rows(table: str, key: str = "message") -> Callable[[Relay, str], None]:
    return lambda relay, large: run_in_shard(relay, f"DELETE FROM {table} WHERE {key} = ?", number_of(large, shard=0))


def the_file(relay: Relay) -> Path:
    (path,) = (relay.spool / "shard-0" / "content").iterdir()
    return path


def of_page(relay: Relay, _: str) -> None:
    path = relay.spool / "shard-0" / "queue.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 4096)
        file.write(b"\xff" * 4096)


DAMAGES = [
    pytest.param(of_large("message", "sender = 'x@example.com'"), "what is kept of its message", id="a sender"),
    pytest.param(of_large("recipient", "domain = 'x'"), "what is kept of the recipient", id="a recipient"),
    pytest.param(of_large("content", "head = x'00'"), "its checksum is another", id="a head"),
    pytest.param(without_rows("message", "number"), "its message is not in the shard", id="a message that is gone"),
    pytest.param(without_rows("content"), "its content is not in the shard", id="a content that is gone"),
    pytest.param(without_rows("recipient"), "it has no recipient", id="recipients that are gone"),
    pytest.param(lambda relay, _: the_file(relay).unlink(), "is missing", id="a file that is gone"),
    pytest.param(lambda relay, _: os.truncate(the_file(relay), 7), "has 7 octets", id="a file that is cut short"),
]


@pytest.mark.parametrize("running", [pytest.param(True, id="beside an owner"), pytest.param(False, id="with none")])
@pytest.mark.parametrize(("damage", "what"), DAMAGES)
def test_verify_names_the_message_that_is_damaged(
    relay: Relay, damage: Callable[[Relay, str], None], what: str, running: bool
) -> None:
    large = fill(relay)
    with owner(relay) if running else nullcontext():
        damage(relay, large)
        answer = relay("spool", "verify", "--json")
        assert answer.code == os.EX_DATAERR
        found = damages(answer.json)
        assert {each["message"] for each in found} == {large}
        assert any(what in each["what"] for each in found) and all(each["remedy"] for each in found)
        told = relay("spool", "verify")
        assert told.code == os.EX_DATAERR and large in told.out and what in told.out


def damages(value: Any) -> list[Any]:
    return [damage for each in value["files"] for damage in each["damages"]]


def test_verify_tells_of_a_damaged_page_and_what_to_do(relay: Relay) -> None:
    of_page(relay, fill(relay))
    answer = relay("spool", "verify", "--json")
    assert answer.code == os.EX_DATAERR
    assert all("relay spool recover" in each["remedy"] for each in damages(answer.json))


def test_verify_looks_at_what_lies_beside_the_shards_too(relay: Relay) -> None:
    fill(relay)
    with (relay.spool / "registry.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    (relay.spool / "shard-0" / "journal-2026-11-20.db").write_bytes(b"no database" * 1000)
    answer = relay("spool", "verify", "--json")
    files = {Path(each["file"]).name: each["damages"] for each in answer.json["files"]}
    assert answer.code == os.EX_DATAERR
    assert files["registry.db"] and files["journal-2026-11-20.db"] and not files["queue.db"]


@pytest.mark.parametrize(
    ("running", "age", "told"),
    [
        pytest.param(False, 0, True, id="with none, any"),
        pytest.param(True, 0, False, id="beside an owner, not one that may be coming in"),
        pytest.param(True, 600, True, id="beside an owner, an old one"),
    ],
)
def test_verify_names_files_of_no_message(relay: Relay, running: bool, age: int, told: bool) -> None:
    fill(relay)
    with owner(relay) if running else nullcontext():
        left = relay.spool / "shard-0" / "content" / "leftover"
        left.write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
        found = relay.json("spool", "verify")
        assert [each["leftovers"] for each in found["files"] if "leftovers" in each] == [["leftover"] if told else []]


def test_verify_changes_nothing(relay: Relay) -> None:
    fill(relay)
    path = relay.spool / "shard-0" / "queue.db"
    before = path.read_bytes()
    assert relay("spool", "verify").code == 0
    assert path.read_bytes() == before


# --- recover


def test_recover_leaves_a_healthy_spool_alone_and_says_so(relay: Relay) -> None:
    fill(relay)
    answer = relay("spool", "recover")
    assert (answer.code, answer.out) == (0, "shard 0: nothing is damaged, nothing was done\n")
    assert relay.json("spool", "recover")[0]["damaged"] is False


def test_recover_is_refused_while_a_server_owns_the_shard(relay: Relay) -> None:
    fill(relay)
    with owner(relay):
        answer = relay("spool", "recover")
    assert answer.code == os.EX_TEMPFAIL
    assert f"belongs to process {os.getpid()}" in answer.err and "Stop that process first" in answer.err


def test_recover_names_what_the_journal_knows_and_nothing_is_left_of(relay: Relay) -> None:
    large = fill(relay)
    run_in_shard(relay, "DELETE FROM recipient WHERE message = ? AND position = 1", number_of(large, shard=0))
    of_page(relay, large)
    answer = relay("spool", "recover", "--shard", "0", "--json")
    (value,) = answer.json
    assert answer.code == os.EX_DATAERR and value["damaged"]
    lost = {each["id"]: each for each in value["lost"]}
    assert lost[large]["recipients"] == ["b@two.example"] and lost[large]["sender"] == "shop@example.com"
    assert lost[large]["accepted_at"]
    assert Path(value["original"], "queue.db").exists()
    left = {(entry["id"], entry["recipient"]) for entry in relay.json("queue", "list")}
    assert value["recipients"] == len(left) > 15
    assert left.isdisjoint((each["id"], to) for each in value["lost"] for to in each["recipients"])
    assert relay("spool", "recover").out == "shard 0: nothing is damaged, nothing was done\n"
    assert relay("spool", "verify").code == (os.EX_DATAERR if value["set_aside"] else 0)


def test_recover_says_to_people_what_is_lost(relay: Relay) -> None:
    large = fill(relay)
    run_in_shard(relay, "DELETE FROM recipient WHERE message = ?", number_of(large, shard=0))
    answer = relay("spool", "recover")
    assert answer.code == os.EX_DATAERR
    assert f"lost: {large}, accepted " in answer.out
    assert "from shop@example.com for a@one.example, b@two.example" in answer.out


def test_recover_of_a_shard_that_does_not_exist_says_which_there_are(relay: Relay) -> None:
    fill(relay)
    answer = relay("spool", "recover", "--shard", "7")
    assert answer.code == os.EX_NOUSER and "There are: 0" in answer.err


# --- backup


@pytest.mark.parametrize("running", [pytest.param(True, id="beside an owner"), pytest.param(False, id="with none")])
@pytest.mark.parametrize("exists", [pytest.param(True, id="into an empty directory"), pytest.param(False, id="new")])
def test_a_backup_has_the_whole_spool_and_can_be_verified(relay: Relay, running: bool, exists: bool) -> None:
    large = fill(relay)
    relay("suppression", "add", "gone@example.org")
    made = relay.directory / "backup"
    if exists:
        made.mkdir(mode=0o700)
    with owner(relay) if running else nullcontext():
        value = relay.json("spool", "backup", str(made))
        assert value["shards"] == {"0": {"messages": 21, "recipients": 22, "missing_files": []}}
        listed = relay.json("queue", "list")
    assert sorted(path.name for path in made.iterdir()) == ["SHA256SUMS", "manifest.json", "relay.toml", "spool"]
    assert (made / "relay.toml").read_bytes() == relay.config.read_bytes()
    assert {oct(path.stat().st_mode & 0o777) for path in made.rglob("*") if path.is_file()} == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in (made, *made.rglob("*")) if path.is_dir()} == {"0o700"}
    shutil.rmtree(relay.spool)
    shutil.copytree(made / "spool", relay.spool)
    assert relay.json("spool", "verify")["damages"] == 0
    assert relay.json("queue", "list") == listed
    assert relay.json("suppression", "list")[0]["address"] == "gone@example.org"
    (file,) = (relay.spool / "shard-0" / "content").iterdir()
    assert file.read_bytes() == LARGE
    assert [event["id"] for event in relay.json("log", "show", large)] == [large] * 2
    with closing(sqlite3.connect(relay.spool / "registry.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_backup_is_not_written_over_anything(relay: Relay) -> None:
    fill(relay)
    made = relay.directory / "backup"
    made.mkdir()
    (made / "old").touch()
    answer = relay("spool", "backup", str(made))
    assert answer.code == os.EX_USAGE and "is not empty" in answer.err
    assert relay("spool", "backup", str(relay.spool / "inside")).code == os.EX_USAGE
    assert [path.name for path in relay.directory.iterdir() if "incomplete" in path.name] == []


def test_what_cannot_be_copied_leaves_no_backup(relay: Relay) -> None:
    of_page(relay, fill(relay))
    os.truncate(relay.spool / "shard-0" / "queue.db", 40960)
    answer = relay("spool", "backup", str(relay.directory / "backup"))
    assert answer.code == os.EX_DATAERR and "relay spool recover" in answer.err
    assert [path.name for path in relay.directory.iterdir() if "backup" in path.name] == []


def test_a_damaged_journal_day_is_left_out_and_told_of(relay: Relay) -> None:
    fill(relay)
    (relay.spool / "shard-0" / "journal-2026-11-20.db").write_bytes(b"no database" * 1000)
    answer = relay("spool", "backup", str(relay.directory / "backup"))
    assert answer.code == os.EX_DATAERR and "left out: " in answer.out
    assert not (relay.directory / "backup" / "spool" / "shard-0" / "journal-2026-11-20.db").exists()


def test_a_message_whose_file_is_missing_is_in_the_backup_and_told_of(relay: Relay) -> None:
    large = fill(relay)
    name = the_file(relay).name
    the_file(relay).unlink()
    answer = relay("spool", "backup", str(relay.directory / "backup"))
    assert answer.code == os.EX_DATAERR and name in answer.out
    shutil.rmtree(relay.spool)
    shutil.copytree(relay.directory / "backup" / "spool", relay.spool)
    assert large in {entry["id"] for entry in relay.json("queue", "list")}


def test_a_message_whose_text_is_none_any_more_is_copied_and_stays_damaged(relay: Relay) -> None:
    large = fill(relay)
    run_in_shard(
        relay,
        "UPDATE recipient SET checksum = NULL, notify = CAST(x'ff' AS TEXT) WHERE message = ?",
        number_of(large, shard=0),
    )
    assert relay("spool", "backup", str(relay.directory / "backup")).code == 0
    shutil.rmtree(relay.spool)
    shutil.copytree(relay.directory / "backup" / "spool", relay.spool)
    assert {each["message"] for each in damages(relay("spool", "verify", "--json").json)} == {large}
