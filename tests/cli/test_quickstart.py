"""cli.quickstart: what it says, with a configuration of the operator's own."""

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Relay
from tests.cli.test_send_test import configure

ROOT = Path(__file__).parents[2]


def test_an_operators_own_listeners_and_log_are_what_is_told(relay: Relay) -> None:
    configure(relay, security="tls")
    port = relay.config.read_text().partition('tls = ["127.0.0.1:')[2].partition('"')[0]
    command = [sys.executable, "-m", "relay", "--config", str(relay.config), "quickstart"]
    told = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            told.append(line)
            if "Now a test message" in line:
                break
        running.terminate()
        running.stdout.read()
    text = "".join(told)
    assert f"{port} with TLS\n" in text
    assert "may not be bound" not in text
    assert f"The log is on standard error. Now a test message, over port {port}:" in text
