"""Sessions opened one after the other spread over the workers, and no worker holds up what another can take."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from statistics import median

import pytest

from tests.peers.waiting import eventually
from tests.system.relay_process import RelayProcess
from tests.system.spread import open_at_once, open_in_turn, spread

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]
EVEN = 3  # sessions between the fullest and the emptiest: one is let be, others come where a worker was late


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes clients, however the test ends."""
    with ExitStack() as stack:
        yield stack


def difference(counts: list[int]) -> int:
    return max(counts) - min(counts)


@pytest.mark.parametrize(
    "port", [pytest.param("starttls_port", id="on 587"), pytest.param("trusted_port", id="trusted")]
)
@pytest.mark.parametrize("workers", [2, 4])
def test_a_pool_of_sessions_opened_one_after_the_other_is_spread(relay: Make, workers: int, port: str) -> None:
    server = with_trusted(relay, workers=workers)
    differences = []
    for _ in range(7):
        with ExitStack() as opened:
            clients, _ = open_in_turn(opened, getattr(server, port), 12)
            differences.append(difference(spread(server, clients)))
        eventually(lambda: server.metric("relay_sessions") == 0, what="they are over")
    assert median(differences) <= EVEN, differences


def test_sessions_in_tls_from_the_first_octet_are_spread(relay: Make, opened: ExitStack) -> None:
    server = with_trusted(relay, workers=2)
    clients = [opened.enter_context(closing(server.connect(implicit=True))) for _ in range(12)]
    sockets = [client.sock for client in clients if client.sock is not None]
    assert difference(spread(server, sockets)) <= EVEN


def test_what_comes_at_once_is_spread_and_waits_for_nobody(relay: Make, opened: ExitStack) -> None:
    server = with_trusted(relay, workers=2)
    clients, took = open_at_once(opened, server.starttls_port, 200)
    assert sum(counts := spread(server, clients)) == 200
    assert min(counts) > 50
    assert max(took) < 5


def test_a_worker_that_hangs_holds_up_no_session(relay: Make, opened: ExitStack) -> None:
    """Waited for each time, each of 198 would take 10 ms."""
    server = with_trusted(relay, workers=2)
    with paused(server.workers()[0]):
        clients, took = open_in_turn(opened, server.starttls_port, 200)
        assert spread(server, clients) == [0, 200]
        assert median(took) < 0.008


def test_the_sessions_of_a_killed_worker_count_no_more_and_its_successor_gets_its_share(
    relay: Make, opened: ExitStack
) -> None:
    server = with_trusted(relay, workers=2)
    before, _ = open_in_turn(opened, server.starttls_port, 12)
    slot, pid = 0, server.workers()[0]
    left = spread(server, before)[1]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.log("worker ended"), what="it ends")
    eventually(lambda: len(server.log("worker ready")) == 3, what="another is there")
    after, _ = open_in_turn(opened, server.starttls_port, left)
    assert spread(server, after)[slot] >= left - EVEN


def test_a_listener_that_a_reload_brings_is_spread_too(relay: Make, opened: ExitStack) -> None:
    server = with_trusted(relay, workers=2)
    server.configure(submission={"starttls": [f"127.0.0.1:{server.trusted_port}"], "trusted": None})
    server.signal(signal.SIGHUP)
    server.logged("config reloaded", times=2)
    clients, _ = open_in_turn(opened, server.trusted_port, 12)
    assert difference(spread(server, clients)) <= EVEN
    server.stop()


def with_trusted(relay: Make, *, workers: int) -> RelayProcess:
    """Started, and with a trusted listener."""
    limits = {"sessions_per_address": 1000, "disk_free_share": 0.0}
    server = relay(server={"workers": workers}, submission={"limits": limits})
    server.add_domain()
    server.add_credential()
    listen = f"127.0.0.1:{server.trusted_port}"
    server.configure(submission={"trusted": [{"listen": listen, "networks": ["127.0.0.0/8"], "credential": "app"}]})
    server.start()
    return server
