"""Sites of a provider that have their limits in common: whose the connections are, and who asks for one."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Config
from relay.config.profiles import Profile, Profiles, SiteRules
from relay.delivery.connections import Connections
from relay.delivery.governor import Governor
from relay.delivery.known_breakers import KnownBreakers
from relay.delivery.routing import Direct
from relay.delivery.site import Job, Site
from relay.delivery.wanting import Wanting
from relay.mail.event import Kind
from relay.metrics import Metrics
from relay.spool import QueuedMessage
from tests.delivery.outfit import board, config, outfit
from tests.peers.mx import Mx, Peer, ScriptedMx, until

LONG, SHORT = "dest.example", "implicit.example"
PROFILES = """
[default]
connections = 10
[[profile]]
name = "front"
mx_suffixes = [".example"]
scope = "provider"
connections = {connections}
messages_per_connection = {messages}
"""


class Slow(Mx):
    """Takes its time for a message. most: sessions at once."""

    def __init__(self) -> None:
        super().__init__()
        self.open = self.most = 0

    async def __call__(self, peer: Peer) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await super().__call__(peer)
        finally:
            self.open -= 1

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        await asyncio.sleep(0.05)
        await super()._take(peer, mail, recipients)

    @property
    def domains(self) -> list[str]:
        """Of what was taken, in order."""
        return [each.recipients[0].decode().rpartition("@")[2].rstrip(">") for each in self.messages]


def settings(tmp_path: Path, *, port: int, nameserver: str, connections: int, messages: int) -> Config:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(PROFILES.format(connections=connections, messages=messages))
    delivery: dict[str, Any] = {"profiles": str(profiles)}
    return config(tmp_path, port=port, nameserver=nameserver, delivery=delivery)


@pytest.mark.parametrize("connections", [pytest.param(1, id="they go round"), pytest.param(2, id="each has one")])
@pytest.mark.parametrize("messages", [pytest.param(5, id="short sessions"), pytest.param(1000, id="long sessions")])
async def test_a_site_does_not_wait_out_anothers_queue(
    connections: int, messages: int, nameserver: str, tmp_path: Path
) -> None:
    mx = Slow()
    async with ScriptedMx(mx) as server:
        known = settings(tmp_path, port=server.port, nameserver=nameserver, connections=connections, messages=messages)
        async with outfit(known) as relay:
            for number in range(80):
                await relay.submit(f"{number}@{LONG}")
            await relay.until(f"0@{LONG}", Kind.DELIVERED)
            for number in range(5):
                await relay.submit(f"{number}@{SHORT}")
            await until(lambda: len(mx.messages) == 85, what="all is delivered")
            assert mx.domains.index(SHORT) < 60
            assert LONG in mx.domains[len(mx.domains) - mx.domains[::-1].index(SHORT) :]
            assert mx.most <= connections


MESSAGE = QueuedMessage("", 0.0, "app", "bulk", "", "", "7BIT", False, "", "", 0, "", "", "", "", False, "retry")


def _no_task(_work: Coroutine[None, None, None]) -> None:
    raise AssertionError("none is closed")


def site(name: str) -> Site:
    """With mail, and counted with all others of its provider."""
    profile = Profile(name="front", mx_suffixes=(".example",), scope="provider")
    limits = SiteRules(Profiles(Profile(name="default"), {"example": profile})).limits([f"{name}.example"])
    made = Site(name, Direct(), (name,), Governor(limits), KnownBreakers(time.time))
    made.add(Job(MESSAGE, name, []))
    return made


async def test_however_many_wait_for_a_limit_one_asks_at_a_time() -> None:
    asked: list[str] = []

    def refused(site: Site) -> None:
        asked.append(site.name)
        wanting.wait(site)

    connections = Connections(
        board(time.time, time.time),
        share=1,
        begin=_no_task,
        ended=asyncio.Event().set,
        metrics=Metrics(streams=()),
        steady=time.monotonic,
    )
    wanting = Wanting(connections, refused, steady=time.monotonic)
    for number in range(100):
        wanting.wait(site(str(number)))
    await until(lambda: len(asked) >= 2, what="one after the other asks")
    assert asked == ["0", "1"]
    wanting.offer("provider front")
    assert asked == ["0", "1", "2"]
    wanting.forget()
