"""Dry runs: delivery's own code in virtual time. That it comes to what real time does: tests/system/test_dry_run.py."""

import threading
from dataclasses import replace

import pytest

from tests.dryrun.outfit import BUSY, HOUR, SLOWLY, dry, house, only, plan


def test_what_a_provider_takes_is_what_its_connections_carry() -> None:
    """A message takes two times the latency and what the provider takes: four a second on each connection."""
    outcome = only(dry(house(), 1500))
    assert (outcome.delivered, outcome.failed, outcome.deferred) == (1500, 0, 0)
    assert outcome.peak == 10
    assert outcome.finished == pytest.approx(1500 / 40, rel=0.08)


def test_a_limit_of_relay_toml_is_kept_to() -> None:
    for table, expected in (
        ({"connections": 5}, 400 / 20),
        ({"connections": 5, "messages_per_second": 10}, 400 / 10),
        ({"messages_per_hour": 200}, HOUR),
    ):
        settings = plan(site=[{"mx_suffix": "dest.example", **table}])
        outcome = only(dry(house(), 400, settings=settings))
        assert outcome.delivered == 400
        assert outcome.peak <= table.get("connections", 10)
        assert outcome.finished == pytest.approx(expected, rel=0.10), table


@pytest.mark.parametrize("workers", [1, 3])
def test_the_machine_keeps_to_what_the_provider_takes(workers: int) -> None:
    outcome = only(dry(house(connections={"most": 3, "reply": BUSY}), 900, workers=workers))
    assert (outcome.delivered, outcome.peak) == (900, 3)
    assert outcome.learnt is not None
    assert outcome.learnt.ceiling == 3
    assert outcome.refusals["connections"] <= 15
    assert outcome.finished == pytest.approx(900 / 12, rel=0.15)


def test_what_all_sites_of_a_provider_taught_is_told() -> None:
    """Its profile has them counted together, under the provider's name."""
    outcome = only(dry(house(mx="mx.google.com", connections={"most": 3, "reply": BUSY}), 300))
    assert outcome.limits.counted_as == "provider google"
    assert outcome.learnt is not None
    assert outcome.learnt.ceiling == 3


def test_a_rate_is_learnt() -> None:
    rate = {"per_second": 10, "burst": 10, "at": "rcpt", "reply": SLOWLY}
    outcome = only(dry(house(rate=rate), 1200))
    assert outcome.delivered == 1200
    assert outcome.learnt is not None
    assert outcome.learnt.rate == pytest.approx(10, rel=0.3)
    assert outcome.deferred_share < 0.03
    assert 119 < outcome.finished < 240  # the last of what was put off comes by the ladder


def test_greylisting_costs_each_message_the_wait_of_the_ladder() -> None:
    settings = plan(delivery={"retry": {"ladder": ["10m"], "jitter": 0.0}})
    outcome = only(dry(house(greylist={"wait": "5m", "reply": SLOWLY}), 100, settings=settings))
    assert (outcome.delivered, outcome.deferred) == (100, 100)
    assert outcome.deferred_share == 0.5
    assert outcome.finished == pytest.approx(600, abs=15)


def test_a_rule_that_suspends_is_obeyed_and_ends() -> None:
    tss04 = "421 4.7.0 [TSS04] Messages from %s temporarily deferred due to unexpected volume or user complaints"
    rate = {"per_second": 1, "burst": 200, "at": "mail", "reply": tss04}
    outcome = only(dry(house(rate=rate), 300))
    assert (outcome.delivered, outcome.suspended) == (300, 1)
    assert 2 * HOUR < outcome.finished < 2.2 * HOUR


def test_what_is_refused_for_good_and_what_expires_fails() -> None:
    provider = house(unknown={"share": 0.2, "reply": "550 5.1.1 no such user"})
    outcome = only(dry(provider, 500))
    assert outcome.failed == outcome.refusals["unknown"] > 50
    settings = plan(stream={"bulk": {"expire": "1h"}}, site=[{"mx_suffix": "dest.example", "messages_per_hour": 10}])
    outcome = only(dry(house(), 100, settings=settings))
    assert (outcome.delivered + outcome.failed, 10 <= outcome.delivered <= 20) == (100, True)


SES = {"host": "email-smtp.example.net", "login": "relay", "secret_file": "/nowhere/secret"}
OTHER = {"host": "192.0.2.25", "port": 2525, "security": "none"}
ROUTED = [
    pytest.param({"messages_per_second": 14}, 700, 700 / 14, id="a rate"),
    pytest.param({"connections": 2}, 400, 400 * 0.3 / 2, id="connections, each message taking 0.3 s"),
    pytest.param({"messages_per_hour": 100}, 250, 2 * HOUR, id="a quota of each hour"),
    pytest.param({"messages_per_day": 100}, 250, 48 * HOUR, id="a quota of each day"),
]


@pytest.mark.parametrize(("limits", "messages", "expected"), ROUTED)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_smarthost_gets_what_relay_toml_allows(
    limits: dict[str, float], messages: int, expected: float, workers: int
) -> None:
    settings = plan(smarthost={"ses": SES | limits}, route=[{"via": "ses"}])
    outcome = only(dry(house(), messages, settings=settings, workers=workers))
    assert (outcome.provider, outcome.smarthosts) == ("smarthost ses", ("ses",))
    assert (outcome.messages, outcome.delivered, outcome.failed) == (messages, messages, 0)
    assert outcome.finished == pytest.approx(expected, rel=0.15)


def test_what_is_over_a_smarthosts_quota_goes_to_the_next() -> None:
    settings = plan(
        smarthost={"ses": SES | {"messages_per_day": 100}, "other": OTHER}, route=[{"via": ["ses", "other"]}]
    )
    outcome = only(dry(house(), 300, settings=settings))
    assert (outcome.provider, outcome.delivered, outcome.deferred) == ("smarthosts ses, other", 300, 0)
    assert outcome.finished < 60


def test_what_a_quota_has_no_room_for_in_its_time_fails() -> None:
    settings = plan(
        smarthost={"ses": SES | {"messages_per_day": 100}}, route=[{"via": "ses"}], stream={"bulk": {"expire": "36h"}}
    )
    outcome = only(dry(house(), 300, settings=settings))
    assert (outcome.messages, outcome.delivered, outcome.failed) == (300, 200, 100)


def test_each_domain_goes_as_its_route_says() -> None:
    settings = plan(
        smarthost={"ses": SES},
        route=[
            {"recipient_domain": "ses.example", "via": "ses"},
            {"recipient_domain": "nowhere.example", "via": "discard"},
            {"recipient_domain": "inline.example", "via": "smtp://127.0.0.1:2525", "security": "none"},
            {"stream": "transactional", "via": "discard"},
        ],
    )
    domains = ["dest.example", "ses.example", "nowhere.example", "inline.example"]
    result = dry(house(domains=domains), 400, settings=settings)
    names = ["house", "smarthost ses", "smarthost 127.0.0.1:2525"]
    assert [outcome.provider for outcome in result.outcomes] == names
    assert all(50 < outcome.messages == outcome.delivered for outcome in result.outcomes)
    assert result.discarded == 400 - sum(outcome.messages for outcome in result.outcomes) > 50


def test_smarthosts_of_one_host_are_told_together() -> None:
    settings = plan(
        smarthost={"one": SES, "two": SES | {"connections": 1}},
        route=[{"recipient_domain": "a.example", "via": "one"}, {"via": "two"}],
    )
    outcome = only(dry(house(domains=["a.example", "b.example"]), 100, settings=settings))
    assert (outcome.provider, outcome.delivered, outcome.sites) == ("smarthosts one, two", 100, 2)


def test_mail_may_be_submitted_at_a_rate() -> None:
    result = dry(house(), 600, rate=2.0)
    assert result.submitted == pytest.approx(300, abs=2)
    assert result.finished == pytest.approx(300, abs=5)


def test_equal_seeds_come_to_the_same() -> None:
    provider = house(busy={"share": 0.05, "reply": SLOWLY}, rate={"per_second": 15, "reply": SLOWLY})
    first, again, other = (dry(provider, 500, workers=2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert replace(first, seed=2) != other


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    dry(house(), 10)
    assert threading.active_count() == before
