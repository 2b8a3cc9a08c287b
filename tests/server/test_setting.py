"""What SIGHUP makes of relay.toml: taken whole, or not at all."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config.load import load
from relay.config.models import Config
from relay.errors import ConfigError
from relay.log import Log
from relay.server.fixed import FIXED, changed_in_vain, without_them
from relay.server.listeners import Listening, Opened, open_all
from relay.server.session_table import SessionTable
from relay.server.setting import Setting, adopted, workers_of
from relay.spool.lock import Lock
from tests.peers.ports import Reserved
from tests.server.logbook import Logbook
from tests.server.tables import config, tables, write
from tests.system.relay_process import as_toml, merged


@pytest.fixture
def setting(tmp_path: Path, logbook: Logbook) -> Iterator[Setting]:
    write(tmp_path / "relay.toml", tmp_path)
    made = make(tmp_path, logbook.log)
    yield made
    made.listening.close_but()
    made.lock.release()


def make(directory: Path, log: Log) -> Setting:
    read = load(directory / "relay.toml")
    return Setting(
        config_path=directory / "relay.toml",
        environment={},
        config=read,
        listening=open_all(read),
        workers=2,
        sessions=SessionTable(workers=2),
        log=log,
        lock=Lock(directory / "lock"),
    )


def trusted(port: int) -> dict[str, Any]:
    return {"trusted": [{"listen": f"127.0.0.1:{port}", "networks": ["127.0.0.0/8"], "credential": "local"}]}


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def copies(listening: Listening) -> Listening:
    """As they arrive in another process."""
    return Listening(tuple(Opened(each.kind, each.listen, each.socket.dup()) for each in listening.all))


# In the supervisor, or the only process.


def test_a_changed_file_is_the_configuration_from_then_on(setting: Setting, tmp_path: Path) -> None:
    write(tmp_path / "relay.toml", tmp_path, server={"drain": "9s"}, log={"level": "debug"})
    before = setting.reload()
    assert before is not None
    setting.reloaded(before)
    assert setting.config.server.drain == 9.0
    assert setting.place(1).config.server.drain == 9.0


def test_listeners_come_with_reload_and_go_with_reloaded(setting: Setting, tmp_path: Path) -> None:
    with Reserved() as first, Reserved() as second:
        for port in (first.port, second.port):
            write(tmp_path / "relay.toml", tmp_path, submission=trusted(port))
            before = setting.reload()
            assert before is not None
            assert answers(port)
            setting.reloaded(before)
        assert not answers(first.port)
        assert answers(second.port)
        assert setting.place(0).listening.trusted[0].getsockname()[1] == second.port


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"delivary": {"port": 26}}, "did you mean [delivery]?", id="a misspelt table"),
        pytest.param(
            {"tls": {"certificate": "gone.pem"}, "submission": {"tls": ["127.0.0.1:0"]}}, "gone.pem", id="tls"
        ),
        pytest.param({"delivery": {"rules": "gone.toml"}}, "gone.toml", id="a rules file that is not there"),
        pytest.param({"http": {"token_file": "empty"}}, "holds no token", id="an empty token"),
        pytest.param({"http": {"listen": "192.0.2.1:8025", "token_file": "token"}}, "no address of this", id="http"),
        pytest.param({"submission": {"starttls": ["192.0.2.1:2587"]}}, "gone.pem", id="an address of another machine"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(
    setting: Setting, tmp_path: Path, logbook: Logbook, changed: dict[str, Any], words: str
) -> None:
    for name, text in (("empty", "\n"), ("token", "s3cret\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    before = setting.config, setting.listening
    text = as_toml(merged(tables(tmp_path), {"tls": {"certificate": "gone.pem"}} | changed))
    (tmp_path / "relay.toml").write_text(text)
    assert setting.reload() is None
    assert (setting.config, setting.listening) == before
    (line,) = logbook.lines("config not reloaded")
    assert words in line["error"]
    assert line["remedy"]


def test_what_only_a_start_can_change_is_named_each_time_and_stays(
    setting: Setting, tmp_path: Path, logbook: Logbook
) -> None:
    write(tmp_path / "relay.toml", tmp_path / "other", server={"workers": 4, "drain": "9s"}, delivery={"window": 5000})
    for times in (1, 2):
        before = setting.reload()
        assert before is not None
        setting.reloaded(before)
        keys = [line["key"] for line in logbook.lines("a changed key takes effect at the next start")]
        assert keys == ["server.spool", "server.workers", "delivery.window"] * times
    assert (setting.config.server.spool, setting.config.server.workers) == (tmp_path, 1)
    assert setting.config.delivery.window == 20_000
    assert setting.config.server.drain == 9.0


def test_the_log_is_reopened_where_logrotate_moved_it(tmp_path: Path, setting: Setting, logbook: Logbook) -> None:
    path = tmp_path / "relay.log"
    setting.log.info("before")
    setting.log.output.flush()
    path.rename(tmp_path / "relay.log.1")
    setting.reopen_log()
    setting.log.info("after")
    setting.log.output.flush()
    assert "after" not in (tmp_path / "relay.log.1").read_text()
    assert [line["event"] for line in logbook.lines()] == ["after"]


def test_a_log_that_cannot_be_reopened_goes_on_and_says_so(tmp_path: Path, setting: Setting) -> None:
    path = tmp_path / "relay.log"
    path.rename(tmp_path / "relay.log.1")
    path.mkdir()
    setting.reopen_log()
    setting.log.output.flush()
    assert "log goes on in the old file" in (tmp_path / "relay.log.1").read_text()
    path.rmdir()
    (tmp_path / "relay.log.1").rename(path)


# In a worker.


def test_a_worker_takes_over_what_the_supervisor_opened(setting: Setting, tmp_path: Path) -> None:
    with Reserved() as reserved:
        write(tmp_path / "relay.toml", tmp_path, submission=trusted(reserved.port))
        read = load(tmp_path / "relay.toml")
        theirs = setting.listening.changed(read)
        received = copies(theirs)
        taken, listening = setting.read_again(received)
        assert taken.submission.trusted[0].listen == f"127.0.0.1:{reserved.port}"
        assert listening.http is theirs.http  # its own, which it had before
        assert received.all[1].socket.fileno() == -1
        assert listening.trusted == received.trusted
        for each in theirs.trusted:
            each.close()
        assert answers(reserved.port)


def test_a_file_that_changed_while_it_was_read_changes_nothing(setting: Setting, tmp_path: Path) -> None:
    before = setting.config, setting.listening
    received = copies(setting.listening)
    with Reserved() as reserved:
        write(tmp_path / "relay.toml", tmp_path, submission=trusted(reserved.port))
        with pytest.raises(ConfigError, match="changed while it was read"):
            setting.read_again(received)
    assert (setting.config, setting.listening) == before
    assert answers(setting.listening.http.getsockname()[1])
    assert [each.socket.fileno() for each in received.all] == [-1]


# Its parts.


def test_every_fixed_key_is_one_of_relay_toml_and_is_noticed() -> None:
    first = config(Path("/one"))
    second = Config.model_validate(
        first.model_dump()
        | {
            "server": {"hostname": "relay.example.com", "spool": "/two", "workers": 3},
            "submission": {"limits": {"auth_failures": 99, "auth_window": "99s"}, "message_size": 70_000},
            "dns": {"cache_size": 999},
            "delivery": {"window": 999, "connections": 999, "port": 2525},
            "log": {"file": "/two/log", "level": "debug"},
        }
    )
    assert changed_in_vain(first, second) == list(FIXED)
    kept = without_them(first, second)
    assert changed_in_vain(first, kept) == []
    assert (kept.delivery.port, kept.log.level, kept.submission.message_size) == (2525, "debug", 70_000)
    assert kept.server.spool == Path("/one")


def test_shards_left_behind_are_shared_out(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"shard-{number}").mkdir()
    assert [adopted(tmp_path, slot=slot, workers=3) for slot in range(3)] == [(3, 6), (4,), (5,)]
    assert adopted(tmp_path, slot=0, workers=8) == ()
    assert adopted(tmp_path, slot=0, workers=1) == (1, 2, 3, 4, 5, 6)


def test_auto_is_a_worker_a_core_that_this_process_may_use() -> None:
    automatic = config(Path("/one"), server={"workers": "auto"})
    allowed = os.sched_getaffinity(0)
    assert workers_of(automatic) == min(8, len(allowed))
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert workers_of(automatic) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert workers_of(config(Path("/one"), server={"workers": 5})) == 5
