"""What a service manager is told, over a socket of the test's own."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import Unavailable
from relay.server.notify import Notifier
from tests.server.logbook import Logbook


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_each_word_is_one_datagram(manager: socket.socket, logbook: Logbook) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()}, logbook.log)
    notifier.ready("2 workers")
    notifier.reloading(monotonic_usec=1_500_000)
    notifier.stopping()
    notifier.alive()
    assert [manager.recv(4096).decode() for _ in range(4)] == [
        f"READY=1\nSTATUS=2 workers\nMAINPID={os.getpid()}",
        "RELOADING=1\nMONOTONIC_USEC=1500000",
        "STOPPING=1\nSTATUS=draining",
        "WATCHDOG=1",
    ]


def test_an_abstract_name_begins_with_an_at_sign(logbook: Logbook) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0relay-test-{os.getpid()}")
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@relay-test-{os.getpid()}"}, logbook.log).alive()
        assert manager.recv(100) == b"WATCHDOG=1"


def test_without_a_service_manager_nobody_is_told(logbook: Logbook) -> None:
    Notifier({}, logbook.log).ready("1 worker")
    assert logbook.lines() == []


def test_a_service_manager_that_is_gone_is_logged_and_no_reason_to_end(tmp_path: Path, logbook: Logbook) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, logbook.log).ready("1 worker")
    (line,) = logbook.lines("service manager not told")
    assert line["text"] == "READY=1"
    assert "No such file" in line["error"]


def test_a_service_manager_that_does_not_read_holds_nobody_up(manager: socket.socket, logbook: Logbook) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname()}, logbook.log)
    while not logbook.lines("service manager not told"):
        notifier.alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        pytest.param({}, 0.0, id="none"),
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half of it"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0, id="another process's"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0, id="ours by name"),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_must(
    environment: dict[str, str], seconds: float, logbook: Logbook
) -> None:
    assert Notifier(environment, logbook.log).watchdog == seconds


def test_a_watchdog_time_that_is_no_number_is_refused(logbook: Logbook) -> None:
    with pytest.raises(Unavailable, match='WATCHDOG_USEC="soon" in the environment is no number'):
        Notifier({"WATCHDOG_USEC": "soon"}, logbook.log)
