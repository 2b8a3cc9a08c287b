"""Dry runs of a relay that has addresses of its own: pools, shares, limits for each, warm-ups."""

from typing import Any

import pytest

from relay.config.sources import Source
from relay.dryrun.plan import plan_of
from relay.dryrun.result import Result
from relay.dryrun.run import EPOCH
from relay.dryrun.sources import addresses
from tests.dryrun.outfit import BUSY, HOUR, SLOWLY, config, dry, house, only

ONE, TWO = "192.0.2.1", "192.0.2.2"
TODAY, IN_TWO_DAYS = "2027-01-15", "2027-01-17"  # a dry run begins at 08:00
MIDNIGHT = 16 * HOUR  # after it has begun


def source(address: str, **more: Any) -> dict[str, Any]:
    return {"address": address, "hostname": "out.example.com", **more}


def sent(messages: int, *sources: dict[str, Any], provider: Any = None, workers: int = 1, **tables: Any) -> Result:
    settings = config(source=sources, **tables)
    ours = addresses(settings.source)
    return dry(provider or house(), messages, settings=plan_of(settings), sources=ours, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_address_has_connections_of_its_own(workers: int) -> None:
    provider = house(connections={"most": 3, "reply": BUSY})
    result = sent(600, source(ONE), source(TWO), provider=provider, workers=workers)
    outcome = only(result)
    assert outcome.peak == 6
    assert outcome.learnt is not None
    assert outcome.learnt.ceiling == 3
    assert outcome.finished == pytest.approx(600 / 24, rel=0.2)
    assert [(each.address, each.peak) for each in result.sources] == [(ONE, 3), (TWO, 3)]


def test_shares_are_by_weight() -> None:
    result = sent(400, source(ONE), source(TWO, weight=3), source("192.0.2.3", weight=0))
    assert only(result).sources == {ONE: 100, TWO: 300}
    assert [each.messages for each in result.sources] == [{"house": 100}, {"house": 300}, {"house": 0}]


LIMITS = [
    pytest.param({"connections": 2}, 400 / (2 * 2 * 4), id="connections"),
    pytest.param({"messages_per_second": 5}, 400 / (2 * 5), id="a pace"),
]


@pytest.mark.parametrize(("limits", "expected"), LIMITS)
def test_limits_are_of_an_address_at_a_site(limits: dict[str, Any], expected: float) -> None:
    result = sent(400, source(ONE), source(TWO), site=[{"mx_suffix": "dest.example", **limits}])
    assert only(result).finished == pytest.approx(expected, rel=0.15)


def test_mail_leaves_from_the_pool_of_its_route() -> None:
    route = {"via": "direct", "pool": "bulk", "stream": "bulk"}
    result = sent(100, source(ONE), source(TWO, pool="bulk"), route=[route])
    assert only(result).sources == {TWO: 100}
    assert [(each.pool, each.messages["house"]) for each in result.sources] == [("default", 0), ("bulk", 100)]


def test_a_smarthost_knows_us_by_our_account() -> None:
    result = sent(100, source(ONE), smarthost={"ses": {"host": "smtp.example.net"}}, route=[{"via": "ses"}])
    outcome = only(result)
    assert (outcome.delivered, outcome.sources, outcome.warming) == (100, {}, [])
    assert [(each.messages, each.peak) for each in result.sources] == [({}, 0)]


WARM_UP = {"first": 100, "growth": 2.0, "until": 10_000, "hours": 1}


def test_an_address_in_its_warm_up_sends_so_much_a_day() -> None:
    """100 on the first day; 200 in any 24 hours from midnight on."""
    result = sent(250, source(ONE, warm_up=TODAY), warm_up=WARM_UP, workers=2)
    outcome = only(result)
    assert (outcome.delivered, outcome.deferred, outcome.warming) == (250, 0, [ONE])
    assert outcome.finished == pytest.approx(24 * HOUR, abs=0.5 * HOUR)
    by_then = {each.at: each.delivered for each in outcome.samples}
    assert max(number for at, number in by_then.items() if at < MIDNIGHT) == 100
    assert max(number for at, number in by_then.items() if at < MIDNIGHT + HOUR) == 200
    (ours,) = result.sources
    assert (ours.day, ours.per_day, ours.setbacks) == (1, 100, 0)


def test_what_is_over_a_warm_up_leaves_from_a_warm_address() -> None:
    outcome = only(sent(400, source(ONE, warm_up=TODAY), source(TWO), warm_up=WARM_UP))
    assert (outcome.sources, outcome.warming) == ({ONE: 100, TWO: 300}, [])
    assert outcome.finished < 60


def test_nothing_leaves_before_a_warm_up_begins() -> None:
    outcome = only(sent(50, source(ONE, warm_up=IN_TWO_DAYS), warm_up=WARM_UP))
    assert (outcome.delivered, outcome.warming) == (50, [ONE])
    assert outcome.finished == pytest.approx(MIDNIGHT + 24 * HOUR, abs=300)


def test_the_day_on_which_it_begins_is_of_weight() -> None:
    settings = config(source=[source(ONE, warm_up=TODAY)], warm_up=WARM_UP)
    for days, expected in ((0, 100), (1, 200), (3, 800)):
        begins = EPOCH + days * 24 * HOUR
        result = dry(house(), 50, settings=plan_of(settings), sources=addresses(settings.source), begins=begins)
        assert (result.sources[0].day, result.sources[0].per_day) == (1 + days, expected)
        assert only(result).finished < 60


def test_a_provider_that_asks_for_less_sets_a_warm_up_back() -> None:
    """Tomorrow's number is today's."""
    rate = {"per_second": 10, "burst": 20, "at": "rcpt", "reply": SLOWLY}
    result = sent(180, source(ONE, warm_up=TODAY), warm_up=WARM_UP, provider=house(rate=rate))
    (ours,) = result.sources
    outcome = only(result)
    assert ours.setbacks >= 1
    assert outcome.delivered == 180
    before_the_day_is_over = [each.delivered for each in outcome.samples if each.at < 23 * HOUR]
    assert before_the_day_is_over[-1] == 100


FAMILIES = [
    pytest.param([ONE, "2001:db8::1"], [ONE], id="of both families those of IPv4"),
    pytest.param(["2001:db8::1", "2001:db8::2"], ["2001:db8::1", "2001:db8::2"], id="of IPv6 alone all"),
]


@pytest.mark.parametrize(("named", "taking_part"), FAMILIES)
def test_providers_are_reached_from_all_that_could_be_of_one_family(named: list[str], taking_part: list[str]) -> None:
    found = addresses([Source.model_validate(source(each)) for each in named])
    assert [each.name for each in found] == taking_part
    assert only(sent(40, *map(source, named))).sources.keys() == set(taking_part)
