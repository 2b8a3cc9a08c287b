"""Four workers keep one limit together, and share a site fairly; the short form of `python -m tests.bench.fairness`."""

from pathlib import Path

import pytest

from tests.bench.fairness import limits, shares
from tests.bench.fairness.__main__ import ONE_SESSION_EACH
from tests.bench.fairness.limits import UNEQUALLY, Case

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

LATE = 1.05  # times the messages of a second: some may come late where other tests have the cores


def test_four_workers_have_as_many_connections_as_may_be_and_no_more(tmp_path: Path) -> None:
    kept = limits.connections(tmp_path, Case("unequal queues", 5, UNEQUALLY), 4.0)
    assert kept.most == 5
    assert kept.used >= 0.9


def test_four_workers_send_as_many_messages_a_second_as_may_be_and_no_more(tmp_path: Path) -> None:
    kept = limits.rate(tmp_path, Case("unequal queues", 100, UNEQUALLY), 4.0)
    assert kept.most <= 100 * LATE
    assert kept.used >= 0.9


def test_no_message_waits_for_anothers_campaign_of_20000(tmp_path: Path) -> None:
    waited = shares.waiting(tmp_path, count=20_000, seconds=8.0, is_paced=True)
    assert max(waited.here) < 2.0
    assert max(waited.there) < 1.0
    assert max(waited.stored) < 20.0  # from the start of the server; the campaign takes seven minutes
    assert waited.taken >= 0.9 * shares.RATE


def test_ten_credentials_at_workers_of_their_own_have_equal_shares(tmp_path: Path) -> None:
    at = [[worker] for worker in ONE_SESSION_EACH]
    shared = shares.ten(tmp_path, at=at, seconds=12.0, scale=0.1)
    assert shared.deviation <= 0.1, shared.had  # some sixty messages each
