"""One learnt quantity: it grows, is halved where it was refused, rests below, and is probed seldom."""

import pytest

from relay.delivery.level import FORGOTTEN, PROBE_AFTER, PROBE_MESSAGES, Connections, Level, MessagesPerSecond

ANY = float("inf")


def grown(level: Level, *, to: float) -> Level:
    while level.value < to:
        level.taken(1, most=to, now=0.0)
    return level


def refused_at(level: Level, value: float, *, seen: float, now: float = 0.0) -> Level:
    grown(level, to=value).refused(seen, now=now)
    return level


def test_connections_grow_by_one_for_a_round_of_messages() -> None:
    level = Connections()
    level.taken(2, most=10, now=0.0)
    assert level.value == 3.0
    level.taken(100, most=10, now=0.0)
    assert level.value == 10.0


def test_a_refusal_halves_and_what_was_seen_to_be_taken_is_the_ceiling() -> None:
    level = refused_at(Connections(), 18.0, seen=17.0)
    assert (level.value, level.ceiling) == (9.0, 17.0)
    level.taken(1000, most=20, now=1.0)
    assert level.value == 17.0
    level.taken(1000, most=20, now=2.0)
    assert level.value == 17.0  # it rests there


@pytest.mark.parametrize(
    ("messages", "seconds", "value"),
    [
        pytest.param(PROBE_MESSAGES, PROBE_AFTER, 6.0, id="after messages and time it is probed"),
        pytest.param(PROBE_MESSAGES - 1, PROBE_AFTER, 5.0, id="not after too few messages"),
        pytest.param(PROBE_MESSAGES, PROBE_AFTER - 1, 5.0, id="not too soon"),
    ],
)
def test_when_it_is_probed(messages: int, seconds: float, value: float) -> None:
    level = refused_at(Connections(), 6.0, seen=5.0)
    level.taken(messages - 1, most=20, now=1.0)
    level.taken(1, most=20, now=seconds)
    assert level.value == value


def probing(level: Level, *, seen: float) -> Level:
    refused_at(level, seen + 1, seen=seen)
    level.taken(PROBE_MESSAGES, most=ANY, now=1.0)
    level.taken(1, most=ANY, now=PROBE_AFTER)
    assert level.is_probing
    return level


def test_a_probe_that_is_refused_takes_back_its_step_and_no_more() -> None:
    level = probing(Connections(), seen=5.0)
    level.refused(5.0, now=PROBE_AFTER + 1)
    assert (level.value, level.ceiling) == (5.0, 5.0)


def test_probes_that_are_taken_become_longer() -> None:
    level = probing(Connections(), seen=5.0)
    steps = []
    for _ in range(3):
        level.taken(100, most=20, now=20.0)
        steps.append(level.value)
    assert steps == [8.0, 12.0, 20.0]  # 6 and 2 more, 4 more, 8 more


def test_of_two_probes_of_a_rate_the_first_is_believed_by_half() -> None:
    level = probing(MessagesPerSecond(20.0), seen=20.0)
    assert level.value == pytest.approx(22.0)
    level.taken(110, most=ANY, now=PROBE_AFTER + 5)
    assert level.value == pytest.approx(26.4)
    level.refused(20.0, now=PROBE_AFTER + 6)
    assert level.value == level.ceiling == pytest.approx(21.0)


def test_a_rate_is_lowered_once_for_what_the_server_still_counts() -> None:
    level = MessagesPerSecond(20.0)
    for now in (0.0, 1.0, 1.9):
        level.refused(18.0, now=now)
    assert level.value == 10.0
    level.refused(9.0, now=2.0)
    assert (level.value, level.ceiling) == (5.0, 9.0)


@pytest.mark.parametrize(
    ("level", "least"),
    [pytest.param(Connections(), 1.0, id="one"), pytest.param(MessagesPerSecond(1.0), 1 / 60, id="one a minute")],
)
def test_something_is_always_allowed(level: Level, least: float) -> None:
    for number in range(20):
        level.refused(0.0, now=10.0 * number)
    assert (level.value, level.ceiling) == (least, least)


def test_a_ceiling_that_nobody_ran_into_for_an_hour_is_forgotten() -> None:
    level = refused_at(Connections(), 6.0, seen=5.0)
    level.taken(1, most=20, now=FORGOTTEN - 1)
    assert level.ceiling == 5.0
    level.taken(1, most=20, now=FORGOTTEN)
    assert level.ceiling is None
