"""How many sessions there are under a key, counted by several workers in one piece of memory."""

import os
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.server.session_table import ROWS, SessionTable, rows

KEY = "address:192.0.2.7"


def colliding(key: str, *, row: int) -> str:
    """Another key of the same length with the same row in one half of a column."""
    wanted = rows(key)[row]
    candidates = (f"address:10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(1 << 24))
    return next(each for each in candidates if each != key and rows(each)[row] == wanted)


def test_a_limit_holds_for_all_workers_together() -> None:
    table = SessionTable(workers=2)
    first, second = table.of_worker(0), table.of_worker(1)
    assert [each.enter(KEY, limit=3) for each in (first, second, first, second)] == [True, True, True, False]
    assert first.count(KEY) == second.count(KEY) == 3


def test_what_is_refused_is_not_counted_and_what_leaves_makes_room() -> None:
    sessions = SessionTable(workers=1).of_worker(0)
    assert sessions.enter(KEY, limit=1)
    assert not sessions.enter(KEY, limit=1)
    sessions.leave(KEY)
    assert sessions.count(KEY) == 0
    assert sessions.enter(KEY, limit=1)


def test_a_dead_workers_sessions_are_gone_and_the_others_stay() -> None:
    table = SessionTable(workers=2)
    dead, alive = table.of_worker(0), table.of_worker(1)
    for each in (dead, dead, alive):
        assert each.enter(KEY, limit=10)
    table.clear(0)
    assert alive.count(KEY) == 1
    assert table.of_worker(0).enter(KEY, limit=2)
    assert not alive.enter(KEY, limit=2)


@pytest.mark.parametrize("row", [0, 1])
def test_a_key_that_shares_one_cell_with_another_is_counted_by_its_other_cell(row: int) -> None:
    sessions = SessionTable(workers=1).of_worker(0)
    other = colliding(KEY, row=row)
    for _ in range(100):
        assert sessions.enter(other, limit=100)
    assert sessions.count(KEY) == 0
    assert sessions.enter(KEY, limit=1)


def test_two_keys_of_one_length_hardly_ever_share_both_cells() -> None:
    keys = [f"address:192.0.{number // 256}.{number % 256:3}" for number in range(4096)]
    pairs = [rows(key) for key in keys]
    assert len(set(pairs)) == len(keys)
    share_one = sum(a[0] == b[0] or a[1] == b[1] for a, b in combinations(pairs[:512], 2))
    assert share_one < 100  # of 130 816 pairs, 16 by chance


@given(st.text())
def test_every_key_has_a_cell_in_each_half(key: str) -> None:
    first, second = rows(key)
    assert 0 <= first < ROWS <= second < 2 * ROWS


def test_more_sessions_than_two_octets_count() -> None:
    sessions = SessionTable(workers=1).of_worker(0)
    for _ in range(70_000):
        assert sessions.enter("all", limit=100_000)
    assert sessions.count("all") == 70_000


def test_processes_see_each_others_counts() -> None:
    table = SessionTable(workers=2)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if table.of_worker(1).enter(KEY, limit=1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not table.of_worker(0).enter(KEY, limit=1)
