"""Addresses that an operator has put to rest, or that a blocklist has: what leaves from them, and what waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.mail.event import Kind
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, outfit
from tests.delivery.test_sources import LISTED as BLOCKED
from tests.delivery.test_sources import NOT_NOW, NOT_OURS, Clock, Front, deliver, numbered, source, until_on_disk
from tests.peers.mx import Mx, Peer, ScriptedMx, until

LISTED = {"blocklist": [{"zone": "list.example"}]}  # has 127.0.0.2, the address that every list has for tests


@asynccontextmanager
async def sending(
    tmp_path: Path, nameserver: str, front: Front, *sources: dict[str, Any], **tables: Any
) -> AsyncIterator[tuple[Outfit, Clock]]:
    clock = Clock()
    async with ScriptedMx(front) as server:
        tables = {"source": list(sources), "delivery": NOT_NOW, **tables}
        settings = config(tmp_path / "spool", port=server.port, nameserver=nameserver, **tables)
        async with outfit(settings, steady=clock) as relay:
            yield relay, clock


async def test_mail_goes_from_the_others_of_its_pool_and_from_all_when_it_is_resumed(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), source(3)) as (relay, _):
        await deliver(relay, *numbered(4, "dest.example"))
        assert front.taken() == {"2": 2, "3": 2}
        relay.rest("127.0.0.2")
        await until(lambda: "QUIT" in front.mx["127.0.0.2"].sessions[0].verbs, what="its connection is closed")
        await deliver(relay, *numbered(4, "dest.example", name="s"))
        assert front.taken() == {"2": 2, "3": 6}
        relay.rest()
        await deliver(relay, *numbered(4, "dest.example", name="t"))
        assert front.taken() == {"2": 4, "3": 8}


async def test_where_no_other_is_mail_waits_and_goes_when_it_is_resumed(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), source(3, pool="bulk")) as (relay, _):
        relay.rest("127.0.0.2")
        await relay.submit("x@dest.example")
        await until_on_disk(relay)
        (entry,) = await relay.spool.find(Selection())
        assert (entry.attempts, entry.last_reply) == (0, "")
        rest = relay.shard.sources.resting("127.0.0.2")
        assert rest is not None
        assert rest.why == "127.0.0.2 was put to rest by operator: a test"
        relay.shard.scheduler.retry_now({("dest.example", "app")})  # is no way round it
        await until_on_disk(relay)
        assert front.came == []
        relay.rest()
        assert (await relay.until("x@dest.example", Kind.DELIVERED)).attempt == 1


async def test_a_listed_address_rests_and_sends_again_when_it_is_listed_no_longer(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), source(3), **LISTED) as (relay, _):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        await deliver(relay, *numbered(4, "dest.example"))
        assert front.taken() == {"3": 4}
        rest = relay.shard.sources.resting("127.0.0.2")
        assert rest is not None
        assert rest.why == "127.0.0.2 is listed by list.example (127.0.0.2)"
        relay.reload(relay.config.model_copy(update={"blocklist": ()}))
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        await deliver(relay, *numbered(4, "dest.example", name="s"))
        assert front.taken() == {"2": 2, "3": 6}


async def test_a_listed_address_with_nobody_to_replace_it_goes_on(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), **LISTED) as (relay, _):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        assert [each.zone for each in relay.blocklists.of("127.0.0.2")] == ["list.example"]
        await deliver(relay, *numbered(2, "dest.example"))
        assert front.taken() == {"2": 2}


async def test_a_listed_address_sends_while_what_should_replace_it_cannot_be_bound(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), source(NOT_OURS), **LISTED) as (relay, _):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        await relay.submit("x@dest.example")
        await until(lambda: relay.shard.sources.fails(NOT_OURS), what="it is found that it cannot be bound")
        relay.look_at_our_addresses()
        assert (await relay.until("x@dest.example", Kind.DELIVERED)).attempt == 1
        assert front.taken() == {"2": 1}


class Blocking(Mx):
    """Refuses this address all mail for dest.example, until it is told `to_stop`."""

    def __init__(self) -> None:
        super().__init__()
        self.to_stop = False

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        is_refused = verb == "RCPT" and b"@dest.example" in self.sessions[-1].commands[-1] and not self.to_stop
        return await super()._answer(peer, verb, BLOCKED if is_refused else default)


async def test_a_listed_address_sends_to_a_site_that_blocks_what_should_replace_it(
    nameserver: str, tmp_path: Path
) -> None:
    front, blocking = Front(), Blocking()
    front.mx["127.0.0.3"] = blocking
    async with sending(tmp_path, nameserver, front, source(2), source(3), **LISTED) as (relay, clock):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        await relay.submit("x@dest.example")
        assert (await relay.until("x@dest.example", Kind.DELIVERED)).attempt == 1  # the one that found out, too
        await deliver(relay, *numbered(3, "dest.example"), *numbered(3, "implicit.example"))
        assert front.taken() == {"2": 4, "3": 3}  # elsewhere it rests
        clock.seconds += 20 * 60.0
        blocking.to_stop = True
        await deliver(relay, *numbered(3, "dest.example", name="s"))
        assert front.taken() == {"2": 4, "3": 6}  # the breaker has closed


async def test_a_listed_address_sends_to_a_site_at_which_what_should_replace_it_is_suspended(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), source(3), **LISTED) as (relay, _):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        relay.suspend("mx.dest.example from 127.0.0.3")
        await deliver(relay, *numbered(3, "dest.example"), *numbered(3, "implicit.example"))
        assert front.taken() == {"2": 3, "3": 3}


async def test_a_listed_address_sends_what_waits_at_the_moment_that_the_other_cannot_be_bound(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, source(2), source(NOT_OURS), **LISTED) as (relay, _):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        await relay.submit("x@dest.example")
        assert (await relay.until("x@dest.example", Kind.DELIVERED)).attempt == 1
        assert front.taken() == {"2": 1}


async def test_a_list_that_refuses_our_resolver_rests_nothing(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    lists = [{"zone": "errors.example"}, {"zone": "not-served.invalid"}]
    async with sending(tmp_path, nameserver, front, source(2), source(3), blocklist=lists) as (relay, _):
        await relay.blocklists.look()
        relay.look_at_our_addresses()
        assert relay.blocklists.troubles.keys() == {"errors.example", "not-served.invalid"}
        await deliver(relay, *numbered(4, "dest.example"))
        assert front.taken() == {"2": 2, "3": 2}
