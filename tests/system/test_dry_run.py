"""A dry run comes to what a real relay does in real time before the same simulated providers."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.mail.event import Event, Kind
from tests.peers.waiting import eventually
from tests.system.relay_process import DOMAIN, RelayProcess, submit
from tests.system.test_simulate import simulated

pytestmark = [pytest.mark.system, pytest.mark.alone, pytest.mark.timeout(240)]

Make = Callable[..., RelayProcess]

PROVIDERS = Path(__file__).with_name("compared.toml")
DOMAINS = {"google": "gmail.com", "microsoft": "outlook.com", "greylist": "greylist.simulator.test"}
MESSAGES = 300  # for each
LADDER = ["3s", "6s", "12s"]
ENDS = {Kind.DELIVERED, Kind.BOUNCED, Kind.EXPIRED}


def test_what_a_dry_run_says_is_what_becomes_of_real_mail(relay: Make) -> None:
    with simulated(providers=PROVIDERS) as providers:
        server = relay(
            dns={"nameservers": [providers.nameserver]},
            delivery={"port": providers.port, "retry": {"ladder": LADDER}},
            route=[{"recipient_domain": DOMAIN, "via": "discard"}],  # reports of what fails
        )
        server.add_domain()
        login = server.add_credential()
        server.start()
        began = time.time()
        with server.session(login) as client:
            for number in range(MESSAGES):
                for domain in DOMAINS.values():
                    submit(client, f"user{number}@{domain}")
        rate = MESSAGES * len(DOMAINS) / (time.time() - began)
        events = eventually(lambda: _once_all_ended(server), what="all has ended", within=150.0, every=1.0)
        totals = providers.ended()
    words = ("--providers", str(PROVIDERS), "--messages", str(MESSAGES * len(DOMAINS)), "--rate", f"{rate:.3f}")
    mix = ",".join(f"{name}=1" for name in DOMAINS)
    done = server.command("simulate", "--dry-run", *words, "--mix", mix, "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    said = {each["provider"]: each for each in json.loads(done.stdout)["providers"]}
    for name, domain in DOMAINS.items():
        real = _real(events, domain, began)
        print(name, real, said[name], totals[name])
        assert said[name]["finished_seconds"] == pytest.approx(real["finished"], rel=0.10, abs=2.0), name
        assert said[name]["deferred_share"] == pytest.approx(real["deferred_share"], abs=0.05), name
        assert said[name]["failed"] == pytest.approx(real["failed"], abs=MESSAGES / 20), name
        assert said[name]["peak_connections"] == pytest.approx(totals[name]["most_sessions"], abs=1), name


def _once_all_ended(server: RelayProcess) -> list[Event]:
    if server.metric("relay_queue_recipients"):
        return []
    events = [event for event in server.events() if not event.recipient.endswith("@" + DOMAIN)]
    return events if sum(event.kind in ENDS for event in events) == MESSAGES * len(DOMAINS) else []


def _real(events: list[Event], domain: str, began: float) -> dict[str, Any]:
    its = [event for event in events if event.recipient.endswith("@" + domain)]
    ends = [event for event in its if event.kind in ENDS]
    deferred = sum(event.kind is Kind.DEFERRED for event in its)
    return {
        "finished": max(event.at for event in ends) - began,
        "deferred_share": deferred / (len(ends) + deferred),
        "failed": sum(event.kind is not Kind.DELIVERED for event in ends),
    }
