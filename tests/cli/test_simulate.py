"""relay simulate --dry-run: what is asked for, and what is said."""

import os
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Relay

FILE = """
[[provider]]
name = "house"
domains = ["dest.example"]
mx = "mx.dest.example"
takes = "100ms"

[[provider]]
name = "other"
domains = ["other.example"]
mx = "mx.other.example"
takes = "200ms"
greylist = { wait = "30s", reply = "451 4.7.1 Greylisted" }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(FILE)
    return str(path)


def words(file: str, *more: str) -> tuple[str, ...]:
    return ("simulate", "--dry-run", "--providers", file, "--messages", "200", "--mix", "house=3,other=1", *more)


def test_it_is_told_in_a_sentence_and_a_table(relay: Relay, file: str) -> None:
    answer = relay(*words(file, "--workers", "2"))
    assert answer.code == os.EX_OK, answer.err
    sentence, _, head, house, other = answer.out.splitlines()
    assert sentence.startswith("200 messages at 1000/s (house 75%, other 25%), 2 workers: finished in 1 min ")
    assert " deferred 20.0%, peak " in sentence
    assert head.split("  ")[0] == "provider"
    assert house.startswith("house     150 ")
    assert house.endswith("connections = 10 (default)")
    assert other.endswith("greylisting: each message waits for its next attempt")


def test_as_json_with_its_plot(relay: Relay, file: str, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    value = relay.json(*words(file, "--workers", "1", "--seed", "7", "--rate", "50", "--plot", str(plot)))
    assert (value["messages"], value["rate"], value["workers"], value["seed"]) == (200, 50.0, 1, 7)
    assert value["submitted_seconds"] == pytest.approx(4.0, abs=0.5)
    house, other = value["providers"]
    assert (house["provider"], house["delivered"], house["deferrals"]) == ("house", 150, 0)
    assert (other["delivered"], other["deferrals"], other["refusals"]) == (50, 50, {"greylist": 50})
    assert value["finished_seconds"] == other["finished_seconds"] > 60
    root = ET.parse(plot).getroot()
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"house", "other", "connections at once, to each host of a provider"} <= set(texts)
    assert len([each for each in root.iter("{http://www.w3.org/2000/svg}path") if each.get("fill") == "none"]) == 2 * 2


def test_relay_toml_is_looked_at(relay: Relay, file: str) -> None:
    relay.configure('[[site]]\nmx_suffix = "dest.example"\nconnections = 1\n')
    house = relay.json(*words(file))["providers"][0]
    assert house["peak_connections"] == 1
    assert house["held_back_by"] == 'connections = 1 ([[site]] 1 in relay.toml: mx_suffix = "dest.example")'
    assert not list(relay.spool.iterdir())


def test_what_relay_toml_has_and_is_not_looked_at_is_said(relay: Relay, file: str) -> None:
    assert relay.json(*words(file))["left_out"] == []
    assert "does not look at" not in relay(*words(file)).out
    relay.configure('[[site]]\nmx_suffix = "dest.example"\ntls = "required"\n')
    missing = "tls: mail goes in clear text, and none waits for TLS or a certificate"
    assert relay.json(*words(file))["left_out"] == [missing]
    assert relay(*words(file)).out.endswith(f"\nThis relay.toml has what a dry run does not look at:\n  {missing}\n")


def test_what_goes_by_a_smarthost_is_told_of_it(relay: Relay, file: str) -> None:
    relay.configure(
        '[smarthost.ses]\nhost = "smtp.example.net"\nmessages_per_second = 5\n'
        '[[route]]\nrecipient_domain = "dest.example"\nvia = "ses"\n[[route]]\nvia = "discard"\n'
    )
    answer = relay(*words(file))
    assert answer.out.splitlines()[0].endswith(", 50 discarded by a route.")
    assert answer.out.splitlines()[-1].startswith("smarthost ses  150 ")
    assert answer.out.endswith("  messages_per_second = 5 ([smarthost.ses] in relay.toml)\n")
    value = relay.json(*words(file))
    assert value["discarded"] == 50
    assert [(each["provider"], each["smarthosts"]) for each in value["providers"]] == [("smarthost ses", ["ses"])]
    assert value["finished_seconds"] == pytest.approx(30, abs=3)


def ours(address: str, more: str = "") -> str:
    return f'[[source]]\naddress = "{address}"\nhostname = "out.example.com"\n{more}\n'


def test_addresses_have_a_table(relay: Relay, file: str) -> None:
    addresses = ours("192.0.2.1") + ours("192.0.2.2", "weight = 2") + ours("192.0.2.3", 'pool = "bulk"')
    relay.configure(addresses + '[[site]]\nmx_suffix = "dest.example"\nconnections = 1\n')
    answer = relay(*words(file, "--workers", "1"))
    assert answer.code == os.EX_OK, answer.err
    _, _, _, house, _, _, *table = answer.out.splitlines()
    site = '([[site]] 1 in relay.toml: mx_suffix = "dest.example")'
    assert house.endswith(f"connections = 1 for each of 2 addresses {site}")
    assert [line.split() for line in table] == [
        ["address", "pool", "house", "other", "connections", "warm-up"],
        ["192.0.2.1", "default", "50", *table[1].split()[3:5], "none"],
        ["192.0.2.2", "default", "100", *table[2].split()[3:5], "none"],
        ["192.0.2.3", "bulk", "0", "0", "0", "none"],
    ]
    value = relay.json(*words(file, "--workers", "1"))
    assert value["left_out"] == []
    assert value["providers"][0]["addresses"] == {"192.0.2.1": 50, "192.0.2.2": 100}
    assert [each["messages"]["house"] for each in value["addresses"]] == [50, 100, 0]


def test_a_warm_up_is_as_far_as_on_the_day_that_is_asked_for(relay: Relay, file: str) -> None:
    today = datetime.now(UTC).date()
    relay.configure(ours("192.0.2.1", f'warm_up = "{today}"'))
    (first,) = relay.json(*words(file))["addresses"]
    assert (first["warm_up_day"], first["warm_up_messages_per_day"]) == (1, 50)
    answer = relay(*words(file, "--on", str(today + timedelta(days=9))))
    assert answer.out.splitlines()[-1].endswith("day 10, 1033 for each provider")
    house = answer.out.splitlines()[3]
    assert house.endswith("the warm-up of 192.0.2.1")


def test_an_hours_limit_that_was_not_used_up_is_not_named(relay: Relay, file: str) -> None:
    relay.configure('[[site]]\nmx_suffix = "dest.example"\nmessages_per_hour = 5000\n')
    assert relay.json(*words(file))["providers"][0]["held_back_by"] == "connections = 10 (default)"


WRONG = [
    pytest.param(("--dry-run", "--mix", "google=1"), "a dry run needs --messages", id="how many?"),
    pytest.param(("--dry-run", "--messages", "9"), "a dry run needs --mix", id="to whom?"),
    pytest.param(
        ("--dry-run", "--messages", "9", "--mix", "gugel=1"), '"gugel" is no provider', id="an unknown provider"
    ),
    pytest.param(("--dry-run", "--messages", "9", "--mix", "google=1,google=2"), "is there twice", id="one twice"),
    pytest.param(("--dry-run", "--messages", "9", "--mix", "google=x"), '"x" is no share of google', id="no number"),
    pytest.param(("--dry-run", "--messages", "9", "--mix", "google=0"), '"0" is no share of google', id="nothing"),
    pytest.param(("--dry-run", "--listen", "127.0.0.1:1"), "--listen is nothing for a dry run", id="what listens"),
    pytest.param(
        ("--dry-run", "--messages", "9", "--mix", "google=1", "--on", "2026-12-01"),
        "--on is for addresses in a warm-up, and relay.toml has none",
        id="a day that is of no weight",
    ),
    pytest.param(("--messages", "9"), "--messages is for a dry run", id="a dry run's without it"),
    pytest.param(
        ("--dry-run", "--messages", "9", "--mix", "google=1", "--plot", "/nowhere/x.svg"),
        "/nowhere/x.svg cannot be written",
        id="no place for the plot",
    ),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_is_wrong_is_said(options: tuple[str, ...], said: str, relay: Relay) -> None:
    answer = relay("simulate", *options)
    assert answer.code in (os.EX_USAGE, os.EX_NOPERM)
    assert said in answer.err
    assert answer.out == ""


def test_a_rate_that_was_in_the_way_is_named(relay: Relay, tmp_path: Path) -> None:
    path = tmp_path / "slow.toml"
    rate = '{ per_second = 2, burst = 5, at = "rcpt", reply = "451 4.7.1 Rate limit exceeded, try again later" }'
    path.write_text(f'[[provider]]\nname = "slow"\ndomains = ["slow.example"]\nmx = "mx.slow.example"\nrate = {rate}\n')
    (slow,) = relay.json(
        *("simulate", "--dry-run", "--providers", str(path), "--messages", "200", "--mix", "slow=1", "--workers", "1")
    )["providers"]
    assert slow["held_back_by"].startswith("its rate: it took ")
    assert slow["held_back_by"].endswith(f"more was refused {slow['refusals']['rate']} times; 1000/s are submitted")
    assert slow["learnt_messages_per_second"] > 0
