"""When guessing locks, whom, and for how long."""

import pytest

from relay.submission.guessing import Guessing

HERE = "192.0.2.7"


def guessing(memory: int = 1000) -> Guessing:
    return Guessing(failures=10, window=600.0, memory=memory)


def fail(guard: Guessing, times: int, *, address: str = HERE, login: str = "shop", now: float = 0.0) -> None:
    for _ in range(times):
        guard.failed(address=address, login=login, now=now)


@pytest.mark.parametrize(
    ("failures", "locked"),
    [
        pytest.param(10, 0.0, id="ten are allowed"),
        pytest.param(11, 60.0, id="eleven lock for a minute"),
    ],
)
def test_how_many(failures: int, locked: float) -> None:
    guard = guessing()
    fail(guard, failures)
    assert guard.locked(address=HERE, now=0.0) == locked
    assert guard.locked_pair(address=HERE, login="shop", now=0.0) == locked


def test_failures_of_different_logins_lock_the_address_and_no_pair() -> None:
    guard = guessing()
    for number in range(11):
        fail(guard, 1, login=f"login{number}")
    assert guard.locked(address=HERE, now=0.0) == 60.0
    assert guard.locked_pair(address=HERE, login="login1", now=0.0) == 0.0


def test_failures_from_different_addresses_lock_nothing() -> None:
    guard = guessing()
    for number in range(100):
        fail(guard, 10, address=f"198.51.100.{number}")
    assert guard.locked(address="198.51.100.1", now=0.0) == 0.0
    assert guard.locked_pair(address=HERE, login="shop", now=0.0) == 0.0


def test_failures_spread_over_more_than_the_window_lock_nothing() -> None:
    guard = guessing()
    for number in range(100):
        fail(guard, 1, now=number * 61.0)
    assert guard.locked(address=HERE, now=6100.0) == 0.0


def test_each_further_failure_doubles_the_time_up_to_an_hour() -> None:
    guard = guessing()
    fail(guard, 11)
    now, times = 0.0, []
    for _ in range(9):
        left = guard.locked(address=HERE, now=now)
        times.append(left)
        now += left
        assert guard.locked(address=HERE, now=now) == 0.0
        fail(guard, 1, now=now)
    assert times == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_who_was_quiet_for_a_window_after_the_lock_begins_anew() -> None:
    guard = guessing()
    fail(guard, 12)
    assert guard.locked(address=HERE, now=0.0) == 120.0
    fail(guard, 10, now=721.0)
    assert guard.locked(address=HERE, now=721.0) == 0.0
    fail(guard, 1, now=721.0)
    assert guard.locked(address=HERE, now=721.0) == 60.0


def test_success_forgives_the_pair_and_not_the_address() -> None:
    guard = guessing()
    fail(guard, 11)
    guard.succeeded(address=HERE, login="shop", now=1.0)
    assert guard.locked_pair(address=HERE, login="shop", now=1.0) == 0.0
    assert guard.locked(address=HERE, now=1.0) == 59.0
    assert guard.known_at(address=HERE, login="shop") == 1.0
    assert guard.known_at(address=HERE, login="other") == 0.0


def test_counters_are_bounded_and_the_oldest_goes_first() -> None:
    guard = guessing(memory=100)
    fail(guard, 11)
    for number in range(99):
        fail(guard, 1, address=f"198.51.100.{number}", login=f"login{number}")
    assert guard.locked(address=HERE, now=0.0) == 60.0
    for number in range(10_000):
        fail(guard, 1, address=f"2001:db8:{number:x}::/64")
        guard.succeeded(address=f"2001:db8:{number:x}::/64", login="x", now=0.0)
    assert len(guard) <= 300
    assert guard.locked(address=HERE, now=0.0) == 0.0


def test_a_clock_that_is_set_back_by_a_day_locks_nobody_for_a_day() -> None:
    guard = guessing()
    fail(guard, 11, now=100_000.0)
    fail(guard, 1, now=100_060.0)
    assert guard.locked(address=HERE, now=100_061.0) > 0.0
    assert guard.locked(address=HERE, now=13_600.0) == 0.0
    fail(guard, 1, now=13_600.0)
    assert 0.0 < guard.locked(address=HERE, now=13_600.0) <= 3600.0
