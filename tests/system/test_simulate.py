"""`relay simulate`: a real relay with two workers before simulated providers that take only so much."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.waiting import eventually
from tests.system.relay_process import RelayProcess, submit

pytestmark = [pytest.mark.system, pytest.mark.timeout(170)]

Make = Callable[..., RelayProcess]

PROVIDERS = Path(__file__).with_name("providers.toml")
MESSAGES = 80  # for each
LIMITS = {"google": 3, "yahoo": 2}


class Simulated:
    """The command in a process of its own."""

    def __init__(self, *words: str, providers: Path) -> None:
        command = [sys.executable, "-m", "relay", "simulate", "--providers", str(providers), "--json", *words]
        command += ["--listen", "127.0.0.2:0", "--dns", "127.0.0.1:0"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = self._told()
        self.nameserver = re.search(r'nameservers = \["(.*)"\]', told)[1]  # type: ignore[index]
        self.port = int(re.search(r"port = (\d+)", told)[1])  # type: ignore[index]

    def _told(self) -> str:
        assert self._process.stderr is not None
        told, ends = "", time.monotonic() + 20
        while "^C ends it" not in told:
            ready, _, _ = select.select([self._process.stderr], [], [], max(0.0, ends - time.monotonic()))
            assert ready, told
            told += os.read(self._process.stderr.fileno(), 65536).decode()
        return told

    def ended(self) -> Any:
        """What it says of each provider at its end."""
        self._process.send_signal(signal.SIGINT)
        out, err = self._process.communicate(timeout=20)
        assert self._process.returncode == 0, err
        return {each["provider"]: each for each in json.loads(out)}

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def simulated(*words: str, providers: Path = PROVIDERS) -> Iterator[Simulated]:
    process = Simulated(*words, providers=providers)
    try:
        yield process
    finally:
        process.close()


def test_a_relay_ends_with_all_its_mail_delivered_to_providers_that_take_only_so_much(relay: Make) -> None:
    with simulated() as providers:
        server = relay(
            server={"workers": 2},
            dns={"nameservers": [providers.nameserver]},
            delivery={"port": providers.port, "retry": {"ladder": ["1s", "2s"]}},
        )
        server.add_domain()
        login = server.add_credential()
        server.start()
        with server.session(login) as client:
            for number in range(MESSAGES):
                for domain in ("gmail.com", "outlook.com", "yahoo.com", "greylist.simulator.test"):
                    submit(client, f"user{number}@{domain}")
        delivered = "relay_recipients_delivered_total"
        eventually(lambda: server.metric(delivered) == 4 * MESSAGES, what="all is delivered", within=120.0, every=0.5)
        assert server.metric("relay_recipients_bounced_total") == 0
        shown = json.loads(server.command("site", "show", "gmail.com", "--json").stdout)
        assert (shown["site"], shown["profile"]) == ("gmail-smtp-in.l.google.com", "google")
        totals = providers.ended()
    for name, total in totals.items():
        assert total["taken"] == MESSAGES, totals
        assert total["most_sessions"] <= LIMITS.get(name, 10), totals
    # Beyond what a provider takes it is not pushed for long.
    for name in LIMITS:
        assert totals[name]["refused"].get("connections", 0) <= MESSAGES / 5, totals
    for name in ("google", "microsoft"):
        assert 0 < totals[name]["refused"]["rate"] <= MESSAGES / 4, totals
    assert totals["greylist"]["refused"]["greylist"] >= MESSAGES


def test_one_provider_alone_and_what_is_wrong(relay: Make) -> None:
    with simulated("--provider", "yahoo") as providers:
        totals = providers.ended()
    assert totals == {"yahoo": {"provider": "yahoo", "sessions": 0, "most_sessions": 0, "taken": 0, "refused": {}}}
    server = relay()
    for words, said in (
        (("--provider", "nobody"), 'no provider is called "nobody"'),
        (("--listen", "here"), '"here" is no listen address'),
        (("--dns", "127.0.0.1:70000"), '"127.0.0.1:70000" is no listen address'),
        (("--listen", "192.0.2.1:2526"), "it cannot listen"),
    ):
        done = server.command("simulate", *words)
        assert done.returncode in (os.EX_USAGE, os.EX_UNAVAILABLE)
        assert said in done.stderr
