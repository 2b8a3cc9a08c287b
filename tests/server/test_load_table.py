"""Who gives way to whom, as workers find it in one piece of memory."""

import pytest

from relay.server.load_table import LoadTable, WorkerLoad


def loads(*sessions: int) -> list[WorkerLoad]:
    """Workers that accept, with so many sessions."""
    table = LoadTable(workers=len(sessions))
    made = [table.of_worker(slot) for slot in range(len(sessions))]
    for load, count in zip(made, sessions, strict=True):
        load.opened()
        for _ in range(count):
            load.enter()
    return made


@pytest.mark.parametrize(
    ("sessions", "gives_way"),
    [
        pytest.param([5], False, id="alone it never does"),
        pytest.param([0, 0], False, id="nobody has any"),
        pytest.param([1, 0], False, id="one more is not worth the trouble"),
        pytest.param([2, 0], True, id="two more are"),
        pytest.param([2, 2, 0], True, id="one of two others has fewer"),
        pytest.param([0, 2], False, id="it has fewer itself"),
        pytest.param([44, 40], False, id="where there are many they spread by themselves"),
        pytest.param([47, 40], True, id="more than an eighth is too many"),
    ],
)
def test_who_is_clearly_ahead_gives_way(sessions: list[int], gives_way: bool) -> None:
    assert loads(*sessions)[0].gives_way() is gives_way


def test_nobody_gives_way_to_who_does_not_accept() -> None:
    ahead, other = loads(5, 0)
    other.closed()
    assert not ahead.gives_way()
    other.opened()
    assert ahead.gives_way()


def test_nobody_gives_way_to_the_dead() -> None:
    table = LoadTable(workers=2)
    ahead, dead = table.of_worker(0), table.of_worker(1)
    for load in (ahead, dead):
        load.opened()
    for _ in range(5):
        ahead.enter()
    assert ahead.gives_way()
    table.clear(1)
    assert not ahead.gives_way()


def test_who_was_waited_for_in_vain_is_given_way_to_after_a_sign_of_life() -> None:
    ahead, hung = loads(5, 0)
    ahead.wait()
    assert not ahead.has_come()
    ahead.nobody_came()
    assert not ahead.gives_way()
    hung.sign()
    assert ahead.gives_way()


def test_one_of_those_who_are_waited_for_is_enough() -> None:
    ahead, _, other = loads(5, 0, 1)
    ahead.wait()
    other.enter()
    assert ahead.has_come()


def test_sessions_that_ended_count_no_more() -> None:
    ahead, _ = loads(2, 0)
    ahead.leave()
    assert not ahead.gives_way()
