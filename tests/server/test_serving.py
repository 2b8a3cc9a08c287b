"""A whole server, with one process and with several: what its service manager, its operator and its clients see."""

import fcntl
import os
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.peers.ports import Reserved
from tests.peers.waiting import eventually
from tests.server.serving import SENDER, Server, trusted
from tests.system.relay_process import letter

Make = Callable[..., Server]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one process"), pytest.param(2, id="two workers")])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Make]:
    """Makes one that may be started; ends it whatever happens."""
    made: list[Server] = []

    def make(workers: int, **tables: Any) -> Server:
        directory = tmp_path / f"server-{len(made)}"
        directory.mkdir()
        made.append(Server(directory, workers=workers, **tables))
        made[-1].grant()
        return made[-1]

    yield make
    for each in made:
        each.close()
        assert "Traceback" not in each.output


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager that listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening


# The service manager.


@WORKERS
def test_a_service_manager_is_told_of_start_reload_and_end(server: Make, manager: socket.socket, workers: int) -> None:
    running = server(workers)
    running.environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000"}
    running.start()
    words = {"READY=1": b"", "WATCHDOG=1": b"", "RELOADING=1": b"", "STOPPING=1": b""}
    _hear(manager, "READY=1", words)
    _hear(manager, "WATCHDOG=1", words)
    running.signal(signal.SIGHUP)
    _hear(manager, "RELOADING=1", words)
    _hear(manager, "READY=1", words)
    running.logged("config reloaded", times=workers)
    assert running.stop() == 0
    _hear(manager, "STOPPING=1", words)
    assert f"MAINPID={running.pid}".encode() in words["READY=1"]
    assert (b"1 worker" if workers == 1 else b"2 workers") in words["READY=1"]


def _hear(manager: socket.socket, word: str, words: dict[str, bytes]) -> None:
    """Wait for it; watchdog's words come between."""
    while True:
        heard = manager.recv(4096)
        name = heard.decode().split("\n")[0]
        words[name] = heard
        if name == word:
            return


@WORKERS
def test_sockets_that_a_service_manager_holds_are_used_and_stay_its_own(server: Make, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as smtp, socket.create_server(("127.0.0.1", 0)) as http:
        port, http_port = (each.getsockname()[1] for each in (smtp, http))
        running = server(workers, submission=trusted(port), http={"listen": f"127.0.0.1:{http_port}"})
        moves = f"exec 100<&{smtp.fileno()} 101<&{http.fileno()}; exec 3<&100 4<&101 100<&- 101<&-; LISTEN_PID=$$ "
        command = [sys.executable, "-m", "relay", "--config", str(running.config_path), "serve"]
        with (running.directory / "output").open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f'{moves} exec "$@"', "bash", *command],
                pass_fds=(smtp.fileno(), http.fileno()),
                env=os.environ | {"LISTEN_FDS": "2"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            eventually(lambda: running.readiness(port=http_port) == "ready\n", what=running.output)
            running.send(port=port)
        finally:
            process.terminate()
            assert process.wait(20) == 0
        with socket.create_connection(("127.0.0.1", port)) as waiting:  # for the next start
            assert waiting.getpeername()[1] == port


# Reload.


@WORKERS
def test_listeners_come_and_go_without_a_session_noticing(server: Make, workers: int) -> None:
    running = server(workers)
    running.start()
    with Reserved() as smtp, Reserved() as http, running.client() as client:
        client.ehlo()
        client.mail(SENDER)
        client.rcpt("delivered@simulator.test")
        running.reload(submission=trusted(smtp.port), http={"listen": f"127.0.0.1:{http.port}"})
        assert client.data(letter("hello", SENDER))[0] == 250
        for _ in range(4 * workers):
            running.send(port=smtp.port)
        with pytest.raises(ConnectionRefusedError):
            running.client()
        with pytest.raises(urllib.error.URLError):
            running.page("readyz")
        assert running.page("readyz", port=http.port) == "ready\n"
        running.reload(submission=trusted(running.port, smtp.port), http={"listen": f"127.0.0.1:{running.http_port}"})
        running.send()
    assert running.stop() == 0


def test_a_worker_that_is_started_after_a_reload_listens_where_the_others_do(server: Make) -> None:
    running = server(2)
    running.start()
    with Reserved() as smtp:
        running.reload(submission=trusted(smtp.port))
        before = running.logged("worker started", times=2)
        os.kill(before["pid"], signal.SIGKILL)
        running.logged("worker ready", times=3)
        ids = {running.send(port=smtp.port) for _ in range(30)}
        assert len(ids) == 30
        by_worker = {line["worker"] for line in running.lines("message accepted")}
        assert by_worker == {0, 1}
        running.stop()


@WORKERS
def test_a_port_in_use_leaves_everything_as_it_was(server: Make, workers: int) -> None:
    running = server(workers)
    running.start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running.configure(submission=trusted(port))
        running.signal(signal.SIGHUP)
        refused = running.logged("config not reloaded")
        assert refused["error"] == f"127.0.0.1:{port} is in use by another program"
    running.send()
    assert running.readiness() == "ready\n"
    assert running.stop() == 0


@WORKERS
def test_the_log_is_reopened_by_every_process(server: Make, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "relay.log"
    running = server(workers, log={"file": str(path)})
    running.start()
    for _ in range(20):
        running.send()
    path.rename(tmp_path / "relay.log.1")
    running.signal(signal.SIGHUP)
    eventually(lambda: path.exists() and path.read_text().count('"config reloaded"') == workers, what="a new log")
    for _ in range(20):
        running.send()
    old = (tmp_path / "relay.log.1").read_text()
    assert running.stop() == 0
    assert (tmp_path / "relay.log.1").read_text() == old
    assert path.read_text().count('"message accepted"') == 20


# Limits.


def limited_to_three(running: Server, limit: str) -> Server:
    """limit: a column of the registry."""
    with closing(sqlite3.connect(running.spool / "registry.db")) as registry:
        registry.execute(f"UPDATE credential SET {limit} = 3")
        registry.commit()
    return running


@WORKERS
def test_what_a_credential_has_sent_is_remembered_over_a_restart(server: Make, workers: int) -> None:
    running = limited_to_three(server(workers), "limit_hour")
    running.start()
    for _ in range(3):
        running.send()
    with pytest.raises(smtplib.SMTPDataError, match=r"451.*3 per hour"):
        running.send()
    assert running.stop() == 0
    running.start()
    with pytest.raises(smtplib.SMTPDataError, match=r"451.*3 per hour"):
        running.send()
    running.stop()


@WORKERS
def test_strangers_are_limited_on_the_whole_machine_and_over_a_restart(server: Make, workers: int) -> None:
    running = limited_to_three(server(workers), "limit_first_time")
    running.start()
    strangers = [f"delivered+{number}@simulator.test" for number in range(8)]
    known = [each for each in strangers if _is_taken(running, each)]
    assert len(known) == 3
    with pytest.raises(smtplib.SMTPDataError, match=r"451.*to 3 first-time recipients per day \(this message has 1\)"):
        running.send(recipient="delivered+new@simulator.test")
    assert running.stop() == 0
    running.start()
    assert [each for each in strangers * 2 if _is_taken(running, each)] == known * 2
    running.stop()


def _is_taken(running: Server, recipient: str) -> bool:
    with suppress(smtplib.SMTPDataError):
        return bool(running.send(recipient=recipient))
    return False


def test_a_killed_server_forgives_no_more_than_was_sent_since_it_was_last_written(server: Make) -> None:
    running = server(2)
    with closing(sqlite3.connect(running.spool / "registry.db")) as registry:
        registry.execute("UPDATE credential SET limit_hour = 1")
        registry.commit()
    running.start(save_every=0.1, orphaned_drain=0.2)
    running.send()
    eventually(lambda: _saved(running.spool), what="counters in registry.db")
    running.signal(signal.SIGKILL)
    running.wait()
    running.start()
    with pytest.raises(smtplib.SMTPDataError, match="451"):
        running.send()
    running.stop()


def _saved(spool: Path) -> int:
    with closing(sqlite3.connect(f"file:{spool}/registry.db?mode=ro", uri=True)) as registry:
        return int(registry.execute("SELECT count(*) FROM usage").fetchone()[0])


# What is seen.


def test_readiness_is_the_machines_and_a_worker_waits_for_its_shard(server: Make) -> None:
    running = server(2)
    (running.spool / "shard-1").mkdir(parents=True)
    with (running.spool / "shard-1" / "lock").open("w") as somebody:
        fcntl.flock(somebody, fcntl.LOCK_EX)
        running.launch()
        assert running.logged("waiting for a shard")["shard"] == 1
        eventually(lambda: running.readiness() == "1 of 2 workers take mail\n", what="one worker takes mail")
        assert running.page("healthz") == "ok\n"
        running.send()
    eventually(lambda: running.readiness() == "ready\n", what="both take mail")
    assert running.metric("relay_workers") == 2
    running.stop()


def test_sigterm_ends_a_server_that_waits_for_a_shard(server: Make) -> None:
    for workers in (1, 2):
        running = server(workers)
        (running.spool / "shard-0").mkdir(parents=True)
        with (running.spool / "shard-0" / "lock").open("w") as somebody:
            fcntl.flock(somebody, fcntl.LOCK_EX)
            running.launch()
            running.logged("waiting for a shard")
            assert running.stop() == 0
            running.logged("worker stopped before it was ready")


def test_counts_do_not_go_back_when_a_worker_dies(server: Make) -> None:
    running = server(2)
    running.start(beat=0.05)
    for _ in range(30):
        running.send()
    assert running.metric("relay_messages_accepted_total") == 30
    os.kill(running.lines("worker started")[0]["pid"], signal.SIGKILL)
    running.logged("worker ready", times=3)
    assert running.metric("relay_messages_accepted_total") == 30
    assert running.metric("relay_worker_restarts_total") == 1
    eventually(lambda: running.metric("relay_workers") == 2, what="two workers answer")
    running.stop()


@WORKERS
def test_every_line_of_a_worker_says_which_it_is(server: Make, workers: int) -> None:
    running = server(workers)
    running.start()
    for _ in range(10 * workers):
        running.send()
    assert running.stop() == 0
    of_supervisor = {"server ready", "server draining", "site slowed", "site sped up"}
    lines = [line for line in running.lines() if line["event"] not in of_supervisor or "worker" in line]
    assert {line["worker"] for line in lines} == set(range(workers))


# What goes wrong.


@WORKERS
def test_a_registry_that_cannot_be_read_for_a_while_ends_nobody(server: Make, workers: int) -> None:
    running = server(workers)
    running.start()
    _set_senders(running.spool, '["*"]')
    told = running.logged("credentials not read again yet")
    assert "registry.db cannot be read" in told["error"]
    running.send()
    _set_senders(running.spool, '["*@other.example"]')
    eventually(lambda: _is_refused(running), what="the new senders are in force")
    assert running.stop() == 0


def _set_senders(spool: Path, senders: str) -> None:
    with closing(sqlite3.connect(spool / "registry.db")) as registry:
        registry.execute("UPDATE credential SET senders = ?", (senders,))
        registry.execute("UPDATE revision SET number = number + 1")
        registry.commit()


def _is_refused(running: Server) -> bool:
    with running.client() as client:
        client.ehlo()
        return client.mail(SENDER)[0] == 550


@WORKERS
def test_a_bug_is_told_to_the_log_and_in_a_sentence_to_the_terminal(server: Make, workers: int) -> None:
    running = server(workers)
    running.has_bug = True
    running.launch()
    assert running.wait() == os.EX_SOFTWARE
    failed = running.logged("worker failed")
    assert failed["error"] == "ZeroDivisionError: a bug"
    assert failed["traceback"][-1].endswith(" ready")
    plain = [line for line in running.output.splitlines() if not line.startswith("{")]
    assert plain == [
        "relay: relay ended by an error of its own: ZeroDivisionError: a bug",
        "  its log has the places it came through; please report them",
    ]


@WORKERS
def test_a_second_server_on_one_spool_is_refused_at_once(server: Make, workers: int) -> None:
    first, second = server(workers), server(workers)
    first.start()
    second.configure(server={"spool": str(first.spool)})
    second.launch()
    assert second.wait() == os.EX_TEMPFAIL
    assert f"relay: {first.spool} belongs to process {first.pid}" in second.output
    assert first.stop() == 0
