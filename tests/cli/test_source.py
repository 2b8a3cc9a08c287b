"""cli.source and cli.source_orders: what they say while no server runs, and what they refuse."""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.conftest import Relay

ONE, TWO = "203.0.113.10", "2001:db8::10"


@pytest.fixture
def sending(relay: Relay) -> Relay:
    """From two addresses."""
    relay.configure("".join(f'[[source]]\naddress = "{each}"\nhostname = "out.example.com"\n' for each in (ONE, TWO)))
    return relay


def warming(relay: Relay, *, begun: int) -> dict[str, Any]:
    """What is told of the warm-up of an address that began it so many days ago."""
    day = (datetime.now(UTC).date() - timedelta(days=begun)).isoformat()
    relay.configure(f'[[source]]\naddress = "{ONE}"\nhostname = "out.example.com"\nwarm_up = "{day}"\n')
    (told,) = relay.json("source", "list")
    return dict(told["warm_up"])


def test_without_a_source_there_is_nothing_to_list(relay: Relay) -> None:
    assert relay.json("source", "list") == []
    assert "the system chooses the address" in relay("source", "list").out


def test_what_no_server_knows_is_said_so(sending: Relay) -> None:
    assert [(each["address"], each["state"]) for each in sending.json("source", "list")] == [(ONE, None), (TWO, None)]
    assert "not known: no server runs with it" in " ".join(sending("source", "show", ONE).out.split())


def test_a_schedule_is_told_without_a_server(relay: Relay) -> None:
    told = warming(relay, begun=2)
    assert (told["state"], told["day"], told["days"], told["per_day"]) == ("warming", 3, 23, 98)
    assert "day 3 of 23: 98 messages to each provider" in " ".join(relay("source", "show", ONE).out.split())
    told = warming(relay, begun=-1)
    assert (told["state"], told["day"], told["per_day"]) == ("later", None, 50)
    told = warming(relay, begun=23)
    assert (told["state"], told["day"], told["per_day"]) == ("warm", None, None)


def test_an_order_is_kept_for_the_next_server(sending: Relay) -> None:
    rested = sending.json("source", "rest", TWO.upper(), "--for", "2h", "--reason", "a new cable")
    assert (rested["address"], rested["reason"], rested["in_force"]) == (TWO, "a new cable", True)
    until = datetime.fromisoformat(rested["until"]).timestamp()
    assert until == pytest.approx(time.time() + 7200, abs=60)
    assert f"until it is resumed: relay source resume {ONE}" in sending("source", "rest", ONE).out
    assert sending.json("source", "resume", TWO) == {"address": TWO, "in_force": True}
    answer = sending("source", "resume", TWO)
    assert (answer.code, f"at rest are {ONE}" in answer.err) == (os.EX_NOUSER, True)


def test_what_relay_toml_no_longer_names_can_be_resumed(sending: Relay) -> None:
    sending.json("source", "rest", ONE)
    sending.configure()
    assert sending.json("source", "resume", ONE)["address"] == ONE


@pytest.mark.parametrize("verb", ["show", "rest"])
@pytest.mark.parametrize("address", ["203.0.113.11", "out.example.com"])
def test_an_address_that_is_no_source_is_refused(sending: Relay, verb: str, address: str) -> None:
    answer = sending("source", verb, address)
    assert answer.code == os.EX_NOUSER
    assert f'"{address}" is no [[source]] of relay.toml' in answer.err
    assert f"{ONE}, {TWO}" in answer.err


def test_a_time_that_is_none_is_refused(sending: Relay) -> None:
    answer = sending("source", "rest", ONE, "--for", "0s")
    assert (answer.code, '--for "0s" is no time' in answer.err) == (os.EX_USAGE, True)
