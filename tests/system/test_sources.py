"""Our addresses as an operator sees them, and what the machine counts under each, with one worker and with two."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.mail.event import Kind
from tests.peers.limited import LimitedMx, Refuses
from tests.peers.mx import Mx, Peer
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import Login, RelayProcess
from tests.system.zones import EXIM_HOST, POSTFIX_HOST

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
NOT_OURS = "192.0.2.1"
PROFILES = """
[default]
connections = 10
[[profile]]
name = "front"
mx_suffixes = [".test"]
scope = "provider"
connections = 3
messages_per_connection = 10
"""
TOGETHER = 3


class Front:
    """Takes its time for a message, and knows how many sessions of an address there were at once. begins: to take."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.begins = threading.Event()
        self.begins.set()
        self.open: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.taken: list[tuple[float, str]] = []

    def at(self, host: str) -> "Listener":
        return Listener(self, host)


class Listener(Mx):
    """One of its addresses."""

    def __init__(self, front: Front, host: str) -> None:
        super().__init__()
        self._front = front
        self._host = host

    async def __call__(self, peer: Peer) -> None:
        front, source = self._front, peer.writer.get_extra_info("peername")[0]
        front.open[source] += 1
        front.most[source] = max(front.most[source], front.open[source])
        try:
            await super().__call__(peer)
        finally:
            front.open[source] -= 1

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        await asyncio.to_thread(self._front.begins.wait, 60.0)
        await asyncio.sleep(self._front.seconds)
        await super()._take(peer, mail, recipients)
        self._front.taken.append((time.monotonic(), self._host))


def source(address: str, **keys: Any) -> dict[str, Any]:
    return {"address": address, "hostname": f"out{address[-1]}.relay.example.com", **keys}


def told(server: RelayProcess, *words: str) -> Any:
    """What a command says with --json."""
    done = server.command(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(relay: Make, **tables: Any) -> Iterator[tuple[RelayProcess, Login]]:
    server = relay(**tables)
    server.add_domain()
    login = server.add_credential()
    server.start()
    yield server, login


@WORKERS
def test_two_sites_of_a_provider_obey_one_limit_and_neither_waits_out_the_others_queue(
    relay: Make, workers: int, tmp_path: Path
) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(PROFILES)
    front = Front(seconds=0.1)
    with ExitStack() as stack:
        port = stack.enter_context(receiving(front.at(POSTFIX_HOST), host=POSTFIX_HOST)).port
        stack.enter_context(receiving(front.at(EXIM_HOST), host=EXIM_HOST, port=port))
        delivery = {"port": port, "profiles": str(profiles)}
        server, login = stack.enter_context(running(relay, server={"workers": workers}, delivery=delivery))
        front.begins.clear()
        for number in range(120):
            server.send(login, f"{number}@postfix.test")
        for number in range(12):
            server.send(login, f"{number}@exim.test")
        front.begins.set()
        eventually(lambda: len(front.taken) == 132, what="all is delivered", within=60.0)
        assert max(front.most.values()) <= TOGETHER
        last = {host: max(at for at, where in front.taken if where == host) for host in (POSTFIX_HOST, EXIM_HOST)}
        assert last[EXIM_HOST] < last[POSTFIX_HOST]
        assert told(server, "site", "show", "exim.test")["counted_as"] == "provider front"
        text = " ".join(server.command("site", "show", "exim.test").stdout.split())
        assert "limits are of all sites of the provider front, together" in text


def test_one_site_of_a_provider_is_suspended_and_limited_by_itself(relay: Make, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(PROFILES)
    with receiving(Mx()) as receiver:
        tables: dict[str, Any] = {"delivery": {"port": receiver.port, "profiles": str(profiles)}}
        with running(relay, site=[{"domain": "pair.test", "connections": 2}], **tables) as (server, login):
            told(server, "site", "suspend", "implicit.test")
            message = server.send(login, "x@implicit.test")
            server.event(Kind.DELIVERED, message=server.send(login, "x@postfix.test"))
            assert told(server, "queue", "why", message)[0]["site_suspended"]["site"] == "implicit.test"
            told(server, "site", "resume", "implicit.test")
            server.event(Kind.DELIVERED, message=message)
            together, apart = (told(server, "site", "show", name) for name in ("postfix.test", "pair.test"))
            assert (together["counted_as"], together["limits"]["connections"]["value"]) == ("provider front", TOGETHER)
            assert (apart["counted_as"], apart["limits"]["connections"]["value"]) == (None, 2)


@WORKERS
def test_each_address_has_the_sites_limit_to_itself(relay: Make, workers: int) -> None:
    front = Front(seconds=0.05)
    site = {"mx_suffix": "test", "connections": 2}
    sources = [source("127.0.0.4"), source("127.0.0.5")]
    with receiving(front.at(POSTFIX_HOST)) as receiver:
        tables: dict[str, Any] = {"server": {"workers": workers}, "source": sources, "site": [site]}
        with running(relay, delivery={"port": receiver.port}, **tables) as (server, login):
            for number in range(200):
                server.send(login, f"{number}@postfix.test")
            eventually(lambda: len(front.taken) == 200, what="all is delivered", within=60.0)
            assert front.most == {"127.0.0.4": 2, "127.0.0.5": 2}
            rows = told(server, "site", "list")
            assert {(row["site"], row["source"]) for row in rows} <= {
                ("mx.postfix.test", "127.0.0.4"),
                ("mx.postfix.test", "127.0.0.5"),
            }


def test_what_one_address_was_taught_outlives_a_restart(relay: Make) -> None:
    mx = LimitedMx(Refuses.GREETING, seconds=0.05, sessions=2)
    sources = [source("127.0.0.4"), source("127.0.0.5", pool="bulk")]
    routes = [{"recipient_domain": "exim.test", "via": "direct", "pool": "bulk"}]
    with receiving(mx) as receiver:
        tables: dict[str, Any] = {"source": sources, "route": routes}
        with running(relay, delivery={"port": receiver.port}, **tables) as (server, login):
            for number in range(150):
                server.send(login, f"{number}@postfix.test")
            eventually(lambda: mx.taken == 150, what="all is delivered", within=60.0)
            before = told(server, "site", "show", "postfix.test")
            assert before["source"] == "127.0.0.4"
            assert before["changes"]
            server.stop()
            taught = json.loads((server.spool / "sites.json").read_bytes())
            assert list(taught["limits"]) == ["mx.postfix.test from 127.0.0.4"]
            server.start()
            server.send(login, "again@postfix.test")
            eventually(lambda: mx.taken == 151, what="it is delivered")
            assert told(server, "site", "show", "postfix.test")["changes"] == before["changes"]


@WORKERS
def test_an_address_that_cannot_be_bound_is_told_of_and_makes_way(relay: Make, workers: int) -> None:
    front = Front()
    sources = [source(NOT_OURS, weight=9), source("127.0.0.4")]
    with receiving(front.at(POSTFIX_HOST)) as receiver:
        tables: dict[str, Any] = {"server": {"workers": workers}, "source": sources}
        with running(relay, delivery={"port": receiver.port}, **tables) as (server, login):
            for number in range(10):
                server.send(login, f"{number}@postfix.test")
            eventually(lambda: len(front.taken) == 10, what="all is delivered")
            assert set(front.most) == {"127.0.0.4"}
            assert not server.events(kind=Kind.DEFERRED)
            first, second = told(server, "source", "list")
            assert (first["address"], first["state"]) == (NOT_OURS, "resting")
            assert first["reason"] == f"{NOT_OURS} is not an address of this machine"
            assert (second["state"], second["weight"], second["pool"]) == ("ready", 1, "default")
            assert server.log("source cannot send")[0]["source"] == NOT_OURS
            eventually(lambda: server.metric("relay_source_can_send", f'source="{NOT_OURS}"') == 0.0, what="it is told")
            assert server.metric("relay_source_can_send", 'source="127.0.0.4"') == 1.0
            text = server.command("source", "list").stdout
            assert "is not an address of this machine" in " ".join(text.split())
        server.stop()
        assert [each["state"] for each in told(server, "source", "list")] == [None, None]


def test_where_no_address_can_send_queue_why_says_so(relay: Make) -> None:
    with running(relay, source=[source(NOT_OURS)]) as (server, login):
        message = server.send(login, "x@postfix.test")
        server.logged("source cannot send")
        eventually(lambda: told(server, "queue", "why", message)[0]["source_error"], what="it is known")
        (why,) = told(server, "queue", "why", message)
        assert (why["attempts"], why["site_source"]) == (0, NOT_OURS)
        text = " ".join(server.command("queue", "why", message).stdout.split())
        assert f"held back by {NOT_OURS} is not an address of this machine" in text
        assert "no address that it may leave from can send now" in text
        row = told(server, "site", "show", "postfix.test")
        assert (row["state"], row["source"], row["queued"]) == ("resting", NOT_OURS, 1)


def test_a_site_is_shown_and_suspended_for_all_addresses_and_resumed_for_one(relay: Make) -> None:
    deferred = b"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints\r\n"
    with receiving(Mx({"RCPT": [deferred]})) as receiver:
        sources = [source("127.0.0.4"), source("127.0.0.5")]
        with running(relay, delivery={"port": receiver.port}, source=sources) as (server, login):
            server.send(login, "first@postfix.test")
            server.event(Kind.DEFERRED, recipient="first@postfix.test")
            server.logged("site suspended")
            for number in range(4):
                server.event(Kind.DELIVERED, message=server.send(login, f"{number}@postfix.test"))
            site = told(server, "site", "show", "postfix.test")
            by_source = {each["source"]: each for each in site["sources"]}
            assert by_source["127.0.0.4"]["suspended"]["by"].startswith("the rule")
            assert by_source["127.0.0.5"]["suspended"] is None
            assert (site["source"], site["state"] == "suspended") == (None, False)
            text = server.command("site", "show", "postfix.test").stdout
            assert "127.0.0.4" in text
            assert [(each["site"], each["source"]) for each in told(server, "status")["suspended"]] == [
                ("mx.postfix.test", "127.0.0.4")
            ]
            told(server, "site", "suspend", "postfix.test")
            assert {each["state"] for each in told(server, "site", "show", "postfix.test")["sources"]} == {"suspended"}
            resumed = told(server, "site", "resume", "mx.postfix.test from 127.0.0.4")
            assert [each["site"] for each in resumed] == ["mx.postfix.test from 127.0.0.4"]
            resumed = told(server, "site", "resume", "postfix.test")
            assert [each["site"] for each in resumed] == ["mx.postfix.test"]
