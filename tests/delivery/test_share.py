"""Many sites share few connections: each gets its turn, and none is woken in vain."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.mail.event import Kind
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, outfit
from tests.peers.dns import authoritative
from tests.peers.mx import Mx, ScriptedMx, until

SITES = 60
SILENT = 4
ZONE = "\n".join(
    [f"d{number} MX 10 m{number}\nm{number} A 127.0.0.1" for number in range(SITES)]
    + [f"s{number} MX 10 q{number}\nq{number} A 127.0.0.2" for number in range(SILENT)]
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A nameserver for d0.many.test ..., each a site of its own, and for s0.many.test ..., which are silent."""
    with authoritative(tmp_path_factory.mktemp("nsd"), {"many.test": ZONE}) as address:
        yield address


class Begun(Counter[str]):
    """A task factory that counts what it was asked for."""

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> "asyncio.Task[Any]":
        self[work.__qualname__] += 1
        return asyncio.Task(work, loop=loop, **more)

    @property
    def couriers(self) -> int:
        return self["Couriers._courier"]


@pytest.fixture
async def begun() -> Begun:
    counting = Begun()
    asyncio.get_running_loop().set_task_factory(counting)
    return counting


def failed(relay: Outfit) -> int:
    """Connections."""
    return sum(count for _, count in relay.metrics.snapshot()["values"]["relay_connections_out_failed"])


async def test_sites_without_a_connection_take_turns(many: str, begun: Begun, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=many)
        async with outfit(settings, share=3) as relay:
            for number in range(SITES):
                await relay.submit(f"x@d{number}.many.test")
            for number in range(SITES):
                await relay.until(f"x@d{number}.many.test", Kind.DELIVERED)
            assert len(mx.messages) == SITES
    assert begun.couriers < 4 * SITES


async def test_sites_in_trouble_wait_for_their_half_without_a_stir(many: str, begun: Begun, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.2", 0))
        silent.listen(100)
        timeouts = {"timeouts": {"greeting": "1s"}}
        settings = config(tmp_path, port=silent.getsockname()[1], nameserver=many, delivery=timeouts)
        async with outfit(settings, share=2) as relay:
            domains = [f"s{number}.many.test" for number in range(SILENT)]
            for domain in domains:
                await relay.submit(f"x@{domain}")
            for domain in domains:
                await relay.until(f"x@{domain}", Kind.DEFERRED)
            before = begun.couriers
            async for _ in relay.spool.retry(Selection(), by="test"):
                pass
            relay.shard.scheduler.retry_now([(domain, "app") for domain in domains])
            await until(lambda: failed(relay) == 2 * SILENT, what="each was tried twice")
    assert begun.couriers - before < 4 * SILENT


async def test_new_sites_that_say_nothing_do_not_keep_all_connections(many: str, tmp_path: Path) -> None:
    mx = Mx()
    with socket.socket() as silent:
        silent.bind(("127.0.0.2", 0))
        silent.listen(100)
        async with ScriptedMx(mx, port=silent.getsockname()[1]) as server:
            settings = config(tmp_path, port=server.port, nameserver=many)
            async with outfit(settings, share=4 * SILENT) as relay:
                for number in range(SILENT):
                    await relay.submit(f"x@s{number}.many.test")
                await until(lambda: relay.shard.couriers.at_work == SILENT, what="all places of strangers are taken")
                for number in range(SITES):
                    await relay.submit(f"x@d{number}.many.test")
                for number in range(SITES):
                    await relay.until(f"x@d{number}.many.test", Kind.DELIVERED)
                assert failed(relay) == 0
                assert await relay.left() == SILENT
