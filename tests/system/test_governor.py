"""What sites take is learnt by a running relay, by one worker or two together; told, and kept over a restart."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from relay.mail.event import Kind
from tests.peers.limited import LimitedMx, Refuses
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import RelayProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
SESSIONS = 3
MESSAGES = 300


def shown(server: RelayProcess) -> Any:
    done = server.command("site", "show", "postfix.test", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@WORKERS
def test_a_server_that_takes_three_sessions_is_sent_all_over_three(relay: Make, workers: int) -> None:
    mx = LimitedMx(Refuses.GREETING, seconds=0.06, sessions=SESSIONS)
    with receiving(mx) as receiver:
        server = relay(server={"workers": workers}, delivery={"port": receiver.port})
        server.add_domain()
        login = server.add_credential()
        server.start()
        for number in range(MESSAGES):
            server.send(login, f"{number}@postfix.test")
        eventually(lambda: mx.taken == MESSAGES, what="all is delivered", within=60.0)
        assert mx.refused <= MESSAGES / 20
        site = shown(server)
        assert site["allowed"]["connections"] <= SESSIONS + 1
        assert any("421 4.7.0 mx.test" in change["cause"] for change in site["changes"])
        text = server.command("site", "show", "postfix.test").stdout
        assert "connections: 421 4.7.0 mx.test Error: too many connections" in text
        assert server.log("site slowed")
        server.stop()
        server.start()
        server.send(login, "again@postfix.test")
        eventually(lambda: mx.taken == MESSAGES + 1, what="it is delivered after a restart")
        assert shown(server)["changes"] == site["changes"]


LISTED = b"550 5.7.1 Unfortunately, messages from [192.0.2.10] weren't sent. Please contact us. (S3150)\r\n"


def test_a_site_that_refuses_our_address_is_told_with_what_waits_for_it(relay: Make) -> None:
    with receiving(Mx({"RCPT": LISTED})) as receiver:
        server = relay(delivery={"port": receiver.port})
        server.add_domain()
        login = server.add_credential()
        server.start()
        server.send(login, "first@postfix.test")
        server.event(Kind.BOUNCED, recipient="first@postfix.test")
        server.logged("breaker tripped")
        message = server.send(login, "held@postfix.test")
        site = eventually(lambda: _once_blocked(server), what="the site is blocked")
        (breaker,) = site["breakers"]
        assert breaker["scope"] is None
        assert "(S3150) from mx.postfix.test" in breaker["cause"]
        assert "blocked: it refuses our address" in server.command("site", "show", "postfix.test").stdout
        why = server.command("queue", "why", message).stdout
        assert "the breaker: all mail from our address waits for a probe at" in why
        eventually(lambda: server.metric("relay_breakers_open") == 1, what="it is counted")


def _once_blocked(server: RelayProcess) -> Any:
    site = shown(server)
    return site if site["state"] == "blocked" and site["queued"] else None
