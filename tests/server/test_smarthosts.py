"""Smarthosts of a whole server: what is counted and shared there, whichever worker a message came in at."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from relay.mail.queue_id import shard_of
from tests.peers.mx import Answer, Mx, Peer
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.server.serving import Server

Make = Callable[..., Server]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one process"), pytest.param(2, id="two workers")])


class TimedMx(Mx):
    """Knows when each message came."""

    def __init__(self, answers: dict[str, Answer] | None = None) -> None:
        super().__init__(answers)
        self.times: list[float] = []

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        await super()._take(peer, mail, recipients)
        self.times.append(time.monotonic())


@pytest.fixture
def through(tmp_path: Path) -> Iterator[Make]:
    """Makes a server whose mail goes through such smarthosts, and starts it."""
    with ExitStack() as stack:

        def make(
            workers: int, smarthosts: dict[str, tuple[Mx, dict[str, Any]]], *, weights: Sequence[int] = ()
        ) -> Server:
            tables = {}
            for name, (mx, table) in smarthosts.items():
                port = stack.enter_context(receiving(mx)).port
                tables[name] = {"host": "127.0.0.1", "port": port, "security": "none", **table}
            route = {"via": list(smarthosts), "weights": list(weights)}
            running = Server(tmp_path, workers=workers, route=[route], smarthost=tables)
            stack.callback(running.close)
            running.grant()
            running.start()
            return running

        yield make


def send(running: Server, workers: int, at_least: int) -> int:
    """So many, and more until every worker has had some; how many that were."""
    shards: list[int] = []
    while len(shards) < at_least or len(set(shards)) < workers:
        shards.append(shard_of(running.send(recipient=f"x{len(shards)}@dest.example")))
    return len(shards)


@WORKERS
def test_a_quota_holds_for_the_machine_and_over_a_restart(through: Make, workers: int) -> None:
    first, second = Mx(), Mx()
    running = through(workers, {"first": (first, {"messages_per_day": 6}), "second": (second, {})})
    sent = send(running, workers, 12)
    eventually(lambda: len(first.messages) + len(second.messages) == sent, what="all have arrived")
    assert len(first.messages) == 6
    assert running.stop() == 0
    running.start()
    sent += send(running, workers, 4)
    eventually(lambda: len(first.messages) + len(second.messages) == sent, what="all have arrived")
    assert len(first.messages) == 6
    assert running.stop() == 0


@WORKERS
def test_a_pace_holds_for_the_machine(through: Make, workers: int) -> None:
    mx = TimedMx()
    running = through(workers, {"first": (mx, {"messages_per_second": 20})})
    sent = send(running, workers, 30)
    eventually(lambda: len(mx.times) == sent, what="all have arrived")
    running.stop()
    times = sorted(mx.times)
    assert times[-1] - times[0] >= (sent - 1) / 20 - 0.1
    busiest = max(sum(start <= at < start + 0.5 for at in times) for start in times)
    assert busiest <= 12  # ten, and what the network shifts over the border


@WORKERS
def test_shares_hold_for_the_machine_to_within_a_message_of_each_worker(through: Make, workers: int) -> None:
    first, second = Mx(), Mx()
    running = through(workers, {"first": (first, {}), "second": (second, {})}, weights=(3, 1))
    sent = send(running, workers, 40)
    eventually(lambda: len(first.messages) + len(second.messages) == sent, what="all have arrived")
    running.stop()
    assert abs(len(first.messages) - sent * 3 / 4) <= workers


@WORKERS
def test_what_takes_no_mail_is_in_the_metrics_and_the_log_says_what_became_of_each(through: Make, workers: int) -> None:
    running = through(workers, {"first": (Mx({"GREETING": b"421 4.3.2 busy\r\n"}), {}), "second": (Mx(), {})})
    message = running.send(recipient="x@dest.example")
    line = running.logged("recipient delivered")
    assert (line["id"], line["site"]) == (message, "second")
    assert "passed over first: " in line["detail"]
    lines = running.page("metrics").splitlines()
    assert 'relay_smarthost_takes_mail{smarthost="first"} 0.0' in lines
    assert 'relay_smarthost_takes_mail{smarthost="second"} 1.0' in lines
    assert "relay_smarthost_passed_over_total 1.0" in lines
    running.stop()
