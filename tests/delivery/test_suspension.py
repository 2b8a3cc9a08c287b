"""A suspended site: nothing is begun there, nothing of it is lost, and nothing climbs a ladder for it."""

import asyncio
import time
from pathlib import Path

from relay.mail.event import Kind
from relay.spool import QueueEntry, Selection
from tests.delivery.outfit import Outfit, config, outfit
from tests.peers.mx import Act, Mx, Peer, ScriptedMx, until

SITE = "mx.dest.example"


async def parked(relay: Outfit, *, count: int) -> list[QueueEntry]:
    """Once so many recipients wait on disk and none in memory."""
    await until(lambda: _is_parked(relay), what="nothing waits in memory")
    found = await relay.spool.find(Selection())
    assert len(found) == count
    return found


def _is_parked(relay: Outfit) -> bool:
    return not len(relay.shard.scheduler.window)


async def test_nothing_is_sent_to_it_and_all_is_when_it_is_resumed(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver)
        async with outfit(settings) as relay:
            relay.suspend(SITE)
            await relay.submit("a@dest.example", "b@other.example")
            await relay.submit("c@dest.example")
            await relay.submit("x@nobody.dest.example", "y@implicit.example")
            await relay.until("y@implicit.example", Kind.DELIVERED)  # another site, of the same address
            for entry in await parked(relay, count=4):
                assert (entry.attempts, entry.last_reply, entry.held_at) == (0, "", 0.0)
            assert len(mx.messages) == 1
            relay.suspend()
            for recipient in ("a@dest.example", "b@other.example", "c@dest.example", "x@nobody.dest.example"):
                assert (await relay.until(recipient, Kind.DELIVERED)).attempt == 1
            assert await relay.left() == 0


async def test_what_is_under_way_is_finished_and_what_waits_behind_it_is_not_begun(
    nameserver: str, tmp_path: Path
) -> None:
    gate = asyncio.Event()

    class Slow(Mx):
        async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
            await gate.wait()
            await super()._take(peer, mail, recipients)

    mx = Slow()
    async with ScriptedMx(mx) as server:
        settings = config(
            tmp_path, port=server.port, nameserver=nameserver, site=[{"mx_suffix": SITE, "connections": 1}]
        )
        async with outfit(settings) as relay:
            await relay.submit("a@dest.example")
            await until(lambda: any("DATA" in each.verbs for each in mx.sessions), what="a message is under way")
            await relay.submit("b@dest.example")
            relay.suspend(SITE)
            gate.set()
            await relay.until("a@dest.example", Kind.DELIVERED)
            await parked(relay, count=1)
            await until(lambda: "QUIT" in mx.sessions[0].verbs, what="the connection is closed")
            assert (server.connections, len(mx.messages)) == (1, 1)
            relay.suspend()
            await relay.until("b@dest.example", Kind.DELIVERED)


async def test_a_session_that_is_being_opened_is_given_up(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"EHLO": Act.STALL})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("a@dest.example")
        await until(lambda: any(session.commands for session in mx.sessions), what="it is dialled")
        relay.suspend(SITE)
        (entry,) = await parked(relay, count=1)
        assert (entry.attempts, relay.shard.couriers.at_work) == (0, 0)
        mx.be_orderly("EHLO")
        relay.suspend()
        assert (await relay.until("a@dest.example", Kind.DELIVERED)).attempt == 1


async def test_an_idle_connection_is_closed(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        relay.suspend(SITE)
        await until(lambda: "QUIT" in mx.sessions[0].verbs, what="the connection is closed")


async def test_a_reload_and_an_order_to_try_now_are_no_way_round_it(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx()) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver)
        async with outfit(settings) as relay:
            relay.suspend(SITE)
            await relay.submit("a@dest.example")
            await parked(relay, count=1)
            relay.shard.scheduler.retry_now({("dest.example", "app")})
            relay.reload(settings)
            await relay.submit("b@other.example")
            await parked(relay, count=2)
            assert server.connections == 0


async def test_one_that_is_also_in_trouble_is_probed_after_it_is_resumed(nameserver: str, tmp_path: Path) -> None:
    async with outfit(config(tmp_path, port=9, nameserver=nameserver)) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DEFERRED)
        relay.suspend(SITE)
        await relay.submit("b@dest.example")
        await parked(relay, count=2)
        (site,) = relay.shard.couriers.sites.values()
        assert site.governor.in_trouble
        relay.suspend()
        relay.shard.scheduler.retry_now({("dest.example", "app")})
        await relay.until("b@dest.example", Kind.DEFERRED)


async def test_mail_that_was_never_tried_ends_at_its_expiry_with_a_report(nameserver: str, tmp_path: Path) -> None:
    ahead = 0.0

    def now() -> float:
        return time.time() + ahead

    async with outfit(config(tmp_path, nameserver=nameserver), now=now, steady=time.monotonic) as relay:
        relay.suspend(SITE)
        await relay.submit("a@dest.example", sender="app@sender.example", reports=True)
        await parked(relay, count=1)
        ahead = 3700.0
        event = await relay.until("a@dest.example", Kind.EXPIRED)
        assert event.detail == "undelivered until its expiry; never attempted"
        assert [each.recipient.address for each in await relay.spool.find(Selection())] == ["app@sender.example"]


async def test_it_ends_when_its_time_is_over(nameserver: str, tmp_path: Path) -> None:
    ahead = 0.0

    def now() -> float:
        return time.time() + ahead

    async with ScriptedMx(Mx()) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver)
        async with outfit(settings, now=now, steady=time.monotonic) as relay:
            relay.suspend(SITE, until=now() + 600)
            await relay.submit("a@dest.example")
            await parked(relay, count=1)
            ahead = 599.0
            relay.shard.suspend_sites()
            assert relay.shard.suspensions
            ahead = 601.0
            relay.shard.suspend_sites()
            await relay.until("a@dest.example", Kind.DELIVERED)


async def test_to_resume_one_leaves_the_others_suspended(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        relay.suspend(SITE, "implicit.example")
        await relay.submit("a@dest.example", "b@implicit.example")
        await parked(relay, count=2)
        relay.suspend("implicit.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        await parked(relay, count=1)
        assert len(mx.messages) == 1
