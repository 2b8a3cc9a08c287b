"""Who waits for whom: fairness within a site, and what one site's trouble does to others."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Config
from relay.mail.event import Kind
from relay.spool.spool import Spool
from tests.delivery.outfit import config, kinds, message, outfit
from tests.peers.mx import Act, Mx, ScriptedMx, until

SOON = {"retry": {"ladder": ["50ms"], "jitter": 0}}
NOT_NOW = {"retry": {"ladder": ["1h"]}}
ONE_CONNECTION = "[default]\nconnections = 1\nmessages_per_connection = 50\n"


async def test_a_password_reset_does_not_wait_for_anothers_campaign(nameserver: str, tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text(ONE_CONNECTION)
    go = asyncio.Event()
    mx = Mx()

    async def server_that_waits(peer: object) -> None:
        await go.wait()
        await mx(peer)  # type: ignore[arg-type]

    async with ScriptedMx(server_that_waits) as server:
        profiles = {"profiles": str(tmp_path / "profiles.toml")}
        settings = config(tmp_path / "spool", port=server.port, nameserver=nameserver, delivery=profiles)
        async with outfit(settings) as relay:
            for number in range(30):
                await relay.submit(f"bulk{number}@dest.example", credential="news", stream="bulk")
            await relay.submit("reset@dest.example", credential="shop", stream="transactional")
            go.set()
            await relay.until("bulk29@dest.example", Kind.DELIVERED)
            order = [message.recipients[0] for message in mx.messages]
            assert order.index(b"RCPT TO:<reset@dest.example>") <= 2


async def test_a_domain_that_never_answers_delays_no_other(nameserver: str, tmp_path: Path) -> None:
    silent, healthy = Mx({"GREETING": Act.STALL}), Mx()

    async def by_turns(peer: object) -> None:
        chosen = silent if server.connections <= 2 else healthy
        await chosen(peer)  # type: ignore[arg-type]

    async with (
        ScriptedMx(by_turns) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay,
    ):
        for number in range(200):
            await relay.submit(f"x{number}@implicit.example")
        await until(lambda: server.connections == 2, what="both connections to the silent site are open")
        await relay.submit("x@dest.example")
        await relay.until("x@dest.example", Kind.DELIVERED)
        assert len(healthy.messages) == 1


async def test_a_message_that_breaks_sessions_delays_no_other(nameserver: str, tmp_path: Path) -> None:
    breaking = Mx({"RCPT": [Act.DROP]})
    async with (
        ScriptedMx(breaking, host="127.0.0.4") as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)) as relay,
    ):
        await relay.submit("breaks@pair.example")
        event = await relay.until("breaks@pair.example", Kind.DEFERRED)
        for said in ("[127.0.0.4]", "connection lost", "[127.0.0.5]", "refused"):
            assert said in event.detail
        await relay.submit("good@pair.example")
        event = await relay.until("good@pair.example", Kind.DELIVERED)
        assert "[127.0.0.4]" in event.mx


DEAD_ROUTE = {"credential": "app", "via": "smtp://127.0.0.3:9", "security": "none"}


def _with_a_dead_route(tmp_path: Path, nameserver: str, port: int, **delivery: Any) -> Config:
    return config(tmp_path, port=port, nameserver=nameserver, route=[DEAD_ROUTE], delivery={**SOON, **delivery})


async def test_a_dead_route_of_one_credential_delays_no_other(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": [b"451 4.7.1 greylisted\r\n"]})
    async with (
        ScriptedMx(mx) as server,
        outfit(_with_a_dead_route(tmp_path, nameserver, server.port)) as relay,
    ):
        await relay.submit("x@dest.example", credential="app")
        await relay.until("x@dest.example", Kind.DEFERRED)
        await relay.submit("y@dest.example", credential="shop")
        await relay.until("y@dest.example", Kind.DELIVERED)
        assert kinds(await relay.of("y@dest.example")) == [Kind.DEFERRED, Kind.DELIVERED]
        assert kinds(await relay.of("x@dest.example")) == [Kind.DEFERRED]


async def test_what_a_dead_route_has_left_behind_does_not_stand_before_what_goes_another(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        settings = _with_a_dead_route(tmp_path, nameserver, server.port, window=100)
        spool = await Spool.open(tmp_path, shard=0)
        for number in range(250):
            await spool.accept(message(spool, f"x{number}@dest.example", credential="app"), hand_over=False)
        await spool.accept(message(spool, "y@dest.example", credential="shop"), hand_over=False)
        await spool.close()
        async with outfit(settings) as relay:
            await relay.until("y@dest.example", Kind.DELIVERED)
            assert len(await relay.of("x249@dest.example")) == 0


async def _queue(directory: Path, count: int, *, reset_at: int) -> None:
    """A campaign, and in the middle of it another's message."""
    spool = await Spool.open(directory, shard=0)
    for number in range(count):
        campaign = message(spool, f"bulk{number}@dest.example", credential="news", stream="bulk")
        await spool.accept(campaign, hand_over=False)
        if number == reset_at:
            await spool.accept(message(spool, "stored@dest.example", credential="shop"), hand_over=False)
    await spool.close()


async def test_a_password_reset_does_not_wait_for_a_campaign_that_is_on_disk(nameserver: str, tmp_path: Path) -> None:
    await _queue(tmp_path, 600, reset_at=400)
    mx = Mx()

    def before(recipient: str) -> int:
        """How many of the campaign went before."""
        return [each.recipients[0] for each in mx.messages].index(f"RCPT TO:<{recipient}>".encode())

    async with ScriptedMx(mx) as server:
        paced = {"mx_suffix": "mx.dest.example", "messages_per_second": 100}
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery={"window": 200}, site=[paced])
        async with outfit(settings) as relay:
            await relay.until("stored@dest.example", Kind.DELIVERED)
            assert before("stored@dest.example") < 200
            for number in range(3):
                began = len(mx.messages)
                await relay.submit(f"fresh{number}@dest.example", credential="shop")
                await relay.until(f"fresh{number}@dest.example", Kind.DELIVERED)
                assert before(f"fresh{number}@dest.example") - began < 10
            assert await relay.left() > 300


BY_A_SMARTHOST = pytest.param("a smarthost", id="all go by one smarthost")
AT_ONE_SITE = pytest.param("a site", id="all are of one site")
DOMAINS = 20_000
SLOWLY = {"messages_per_second": 50}


def _to_one_place(tmp_path: Path, nameserver: str, port: int, place: str) -> Config:
    """It takes 50 messages a second, and few of what is queued are in memory."""
    here: dict[str, Any] = {"site": [{"mx_suffix": "mx.dest.example", **SLOWLY}]}
    if place == "a smarthost":
        table = {"host": "127.0.0.1", "port": port, "security": "none", **SLOWLY}
        here = {"smarthost": {"esp": table}, "route": [{"via": ["esp"]}]}
    return config(tmp_path, port=port, nameserver=nameserver, delivery={"window": 1000}, **here)


async def _queue_to_all(spool: Spool, *, count: int = DOMAINS) -> None:
    """A campaign, each of whose recipients has a domain of its own."""
    for first in range(0, count, 1000):
        recipients = [f"bulk@d{number}.hosted.example" for number in range(first, min(count, first + 1000))]
        await spool.accept(message(spool, *recipients, credential="news", stream="bulk"), hand_over=False)


@pytest.mark.parametrize("place", [BY_A_SMARTHOST, AT_ONE_SITE])
async def test_a_campaign_to_very_many_domains_on_disk_delays_no_other(
    place: str, nameserver: str, tmp_path: Path
) -> None:
    spool = await Spool.open(tmp_path, shard=0)
    await _queue_to_all(spool)
    await spool.accept(message(spool, "stored@d1.hosted.example", credential="shop"), hand_over=False)
    await spool.close()
    async with ScriptedMx(Mx()) as server, outfit(_to_one_place(tmp_path, nameserver, server.port, place)) as relay:
        await relay.until("stored@d1.hosted.example", Kind.DELIVERED)
        for number in range(3):
            began = time.monotonic()
            await relay.submit(f"fresh@d{number}.hosted.example", credential="shop")
            await relay.until(f"fresh@d{number}.hosted.example", Kind.DELIVERED)
            assert time.monotonic() - began < 2.0
        assert await relay.left() > DOMAINS / 2


@pytest.mark.parametrize("place", [BY_A_SMARTHOST, AT_ONE_SITE])
async def test_a_campaign_to_very_many_domains_that_comes_in_delays_no_other(
    place: str, nameserver: str, tmp_path: Path
) -> None:
    async with ScriptedMx(Mx()) as server, outfit(_to_one_place(tmp_path, nameserver, server.port, place)) as relay:
        numbers = iter(range(DOMAINS))
        accepted = 0

        async def campaign() -> None:
            nonlocal accepted
            for number in numbers:
                await relay.submit(f"bulk@d{number}.hosted.example", credential="news", stream="bulk")
                accepted += 1

        coming = [asyncio.create_task(campaign()) for _ in range(20)]
        await until(lambda: accepted > 3000, what="there is more than memory is for")
        for number in range(3):
            began = time.monotonic()
            await relay.submit(f"fresh@d{number}.hosted.example", credential="shop")
            await relay.until(f"fresh@d{number}.hosted.example", Kind.DELIVERED)
            assert time.monotonic() - began < 2.0
        for each in coming:
            each.cancel()
        await asyncio.wait(coming)
