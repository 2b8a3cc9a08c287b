"""The limits of a site, as relay.toml names them: by host and by domain, and after a reload."""

import asyncio
from pathlib import Path

from relay.mail.event import Kind
from tests.delivery.outfit import Outfit, config, outfit
from tests.peers.mx import Mx, Peer, ScriptedMx, until


class Gated(Mx):
    """Takes no content before `gate` is set. most: transactions that were under way when another began."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.under_way = self.most = 0

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        try:
            await super()._take(peer, mail, recipients)
        finally:
            self.under_way -= 1


async def deliver(relay: Outfit, domain: str, *, count: int) -> None:
    """So many messages more, one after the other."""
    before = len(await relay.of(f"x@{domain}"))
    for number in range(before, before + count):
        await relay.submit(f"x@{domain}")
        await relay.until(f"x@{domain}", Kind.DELIVERED, count=number + 1)


async def test_a_table_of_a_host_holds_for_all_its_domains(nameserver: str, tmp_path: Path) -> None:
    table = {"mx_suffix": "mx.dest.example", "messages_per_connection": 2}
    async with ScriptedMx(Mx()) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(settings) as relay:
            await deliver(relay, "dest.example", count=2)
            await deliver(relay, "other.example", count=2)
            assert server.connections == 2


async def test_a_table_of_a_domain_holds_for_all_that_have_its_hosts(nameserver: str, tmp_path: Path) -> None:
    table = {"domain": "dest.example", "messages_per_connection": 1}
    async with ScriptedMx(Mx()) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(settings) as relay:
            await deliver(relay, "other.example", count=2)
            assert server.connections == 1  # nobody has looked up the domain that the table names
            assert await relay.limiting.look()
            relay.shard.couriers.limit_sites()
            await deliver(relay, "other.example", count=3)
            assert server.connections == 4  # one for each message from now on
            assert not await relay.limiting.look()


async def test_a_domain_that_dns_does_not_tell_of_keeps_the_site_it_had(nameserver: str, tmp_path: Path) -> None:
    table = {"domain": "dest.example", "connections": 1}
    before = config(tmp_path, nameserver=nameserver, site=[table])
    after = config(tmp_path, nameserver=nameserver, site=[table], delivery={"allow_networks": []})
    async with outfit(before) as relay:
        assert await relay.limiting.look()
        relay.reload(after)  # the domain's address may not be dialled any more: nobody can say where its mail goes
        assert not await relay.limiting.look()
        assert relay.limiting.limits("mx.dest.example", ["mx.dest.example"]).connections == 1


async def test_connections_that_are_too_many_after_a_reload_end_with_the_message_they_carry(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Gated()
    async with ScriptedMx(mx) as server:
        before = config(tmp_path, port=server.port, nameserver=nameserver)
        table = {"mx_suffix": "dest.example", "connections": 1}
        after = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(before) as relay:
            for number in range(8):
                await relay.submit(f"{number}@dest.example")
            await until(lambda: mx.under_way == 2, what="both connections that a site begins with carry a message")
            relay.reload(after)
            mx.most = 0
            mx.gate.set()
            for number in range(8):
                await relay.until(f"{number}@dest.example", Kind.DELIVERED)
            assert (mx.most, server.connections) == (1, 2)


async def test_a_reload_changes_the_limits_of_sites_that_are_in_use(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx()) as server:
        before = config(tmp_path, port=server.port, nameserver=nameserver)
        table = {"mx_suffix": "dest.example", "messages_per_connection": 1, "connections": 1}
        after = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(before) as relay:
            await deliver(relay, "dest.example", count=3)
            assert server.connections == 1
            relay.reload(after)
            (site,) = relay.shard.couriers.sites.values()
            assert (site.limits.connections, site.governor.connections) == (1, 1)
            assert site.limits.origins["connections"] == '[[site]] 1 in relay.toml: mx_suffix = "dest.example"'
            await deliver(relay, "dest.example", count=3)
            assert server.connections == 4
            relay.reload(before)
            await deliver(relay, "dest.example", count=3)
            assert server.connections == 5
