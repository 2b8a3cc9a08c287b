"""How many messages a provider gets from an address in its warm-up, day by day."""

import math
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.sources import Source, WarmUp
from relay.delivery.quota import Quota
from relay.delivery.warming import Warming, WarmUps, day_at, days_of, per_day_of
from relay.registry.setbacks import Setback

ADDRESS = "192.0.2.10"
BEGINS = date(2026, 12, 1)


def warm_ups(plan: WarmUp | None = None) -> WarmUps:
    new = Source.model_validate({"address": ADDRESS, "hostname": "new.relay.example", "warm_up": BEGINS})
    old = Source.model_validate({"address": "192.0.2.11", "hostname": "old.relay.example"})
    return WarmUps(plan or WarmUp(), [new, old])


def per_day(day: int, *setbacks: int, provider: str = "google") -> int:
    """On the day'th from the first. setbacks: days likewise, at Google."""
    lost = [BEGINS + timedelta(days=each - 1) for each in setbacks]
    warming = Warming(
        warm_ups,
        lambda: [Setback(ADDRESS, "google", each, "421") for each in lost],
        now=lambda: at(BEGINS + timedelta(days=day - 1)) + 43_200,
    )
    stage = warming.stage(ADDRESS, provider)
    return stage.per_day if stage else 0


def at(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def test_the_default_schedule() -> None:
    assert [per_day(day) for day in range(1, 9)] == [50, 70, 98, 137, 192, 269, 376, 527]
    assert (per_day(22), per_day(23), per_day(24)) == (58568, 81995, 0)
    assert days_of(WarmUp()) == 23


@given(
    first=st.integers(1, 10_000),
    growth=st.floats(1.01, 10.0),
    factor=st.integers(2, 1_000_000),
    hours=st.integers(1, 24),
)
def test_each_schedule_grows_until_it_ends(first: int, growth: float, factor: int, hours: int) -> None:
    plan = WarmUp(first=first, growth=growth, until=first * factor, hours=hours)
    days = [per_day_of(plan, day) for day in range(1, days_of(plan) + 1)]
    assert days[0] == first
    assert days == sorted(days)
    assert max(days) <= plan.until
    assert per_day_of(plan, days_of(plan) + 1) == per_day_of(plan, 10**9) == 0


@given(st.integers(1, 23), st.integers(1, 24))
def test_an_hour_has_its_part_of_a_day_and_never_nothing(day: int, hours: int) -> None:
    stage = warm_ups(WarmUp(hours=hours)).stage(ADDRESS, "google", (), on=BEGINS + timedelta(days=day - 1))
    assert stage is not None
    assert stage.per_hour == math.ceil(stage.per_day / hours) >= 1
    assert stage.per_hour * hours >= stage.per_day


def test_a_setback_costs_the_day_after_its_growth_at_that_provider_only() -> None:
    assert [per_day(day, 2) for day in range(1, 6)] == [50, 70, 70, 98, 137]
    assert [per_day(day, 2, 3, 4) for day in range(1, 7)] == [50, 70, 70, 70, 70, 98]
    assert [per_day(day, 2, provider="yahoo") for day in range(1, 4)] == [50, 70, 98]
    assert per_day(24, 2) == per_day(23)
    assert per_day(25, 2) == 0


def test_a_setback_of_an_earlier_warm_up_counts_for_nothing() -> None:
    assert per_day(2, -3, -40) == per_day(2)
    setbacks = [Setback(ADDRESS, "google", BEGINS + timedelta(days=each), "421") for each in (-3, 0, 1)]
    known = Warming(warm_ups, lambda: setbacks, now=lambda: at(BEGINS) + 3 * 86_400)
    assert known.setbacks(ADDRESS, "google") == setbacks[1:]


@pytest.mark.parametrize("address", ["192.0.2.11", "192.0.2.99"])
def test_what_is_in_no_warm_up_is_warm(address: str) -> None:
    assert warm_ups().stage(address, "google", (), on=BEGINS) is None
    assert warm_ups().is_warm(address, on=BEGINS)
    assert warm_ups().begins_at(address) == 0.0


def test_one_is_warm_when_its_schedule_is_over() -> None:
    assert not warm_ups().is_warm(ADDRESS, on=BEGINS - timedelta(days=5))
    assert not warm_ups().is_warm(ADDRESS, on=BEGINS + timedelta(days=22))
    assert warm_ups().is_warm(ADDRESS, on=BEGINS + timedelta(days=23))


def test_days_begin_at_midnight_utc() -> None:
    midnight = at(BEGINS)
    assert warm_ups().begins_at(ADDRESS) == midnight
    assert (day_at(midnight - 1), day_at(midnight)) == (date(2026, 11, 30), BEGINS)


def test_it_is_told_in_words() -> None:
    stage = warm_ups().stage(ADDRESS, "google", (), on=date(2026, 12, 3))
    assert stage is not None
    quota = Quota.of_warm_up(stage)
    begin = "192.0.2.10 is in day 3 of its warm-up: its"
    assert quota.spent(600.0) == f"{begin} 13 messages per hour to google are used up"
    assert quota.spent(7200.0) == f"{begin} 98 messages per day to google are used up"
