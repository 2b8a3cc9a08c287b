"""From which of our addresses mail leaves: shares, pools, and what keeps an address from sending."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.mail.event import Kind
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, kinds, outfit
from tests.peers.mx import Act, Mx, Peer, ScriptedMx, until

LISTED = b"550 5.7.1 Unfortunately, messages from [192.0.2.10] weren't sent. Please contact us. (S3150)\r\n"
NOT_OURS = "192.0.2.1"
NOT_NOW: dict[str, Any] = {"retry": {"ladder": ["1h"], "jitter": 0}}


class Front:
    """One server that is another one to each address that comes. mx: by address."""

    def __init__(self, **answers: Any) -> None:
        self.mx: defaultdict[str, Mx] = defaultdict(lambda: Mx(answers))
        self.came: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        address = peer.writer.get_extra_info("peername")[0]
        self.came.append(address)
        await self.mx[address](peer)

    def taken(self) -> dict[str, int]:
        """Messages, by the last number of the address."""
        return {address.rpartition(".")[2]: len(mx.messages) for address, mx in self.mx.items() if mx.messages}


class Clock:
    """Seconds that only a test makes pass."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


def source(number: int | str, **keys: Any) -> dict[str, Any]:
    address = f"127.0.0.{number}" if isinstance(number, int) else number
    return {"address": address, "hostname": f"out{number}.relay.example.com", **keys}


@asynccontextmanager
async def sending(
    tmp_path: Path,
    nameserver: str,
    front: Front,
    sources: Sequence[dict[str, Any]],
    routes: Iterable[dict[str, Any]] = (),
    *,
    delivery: dict[str, Any] = NOT_NOW,
    site: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> AsyncIterator[Outfit]:
    async with ScriptedMx(front) as server:
        tables: dict[str, Any] = {"source": list(sources), "route": list(routes), "site": list(site)}
        settings = config(tmp_path / "spool", port=server.port, nameserver=nameserver, delivery=delivery, **tables)
        async with outfit(settings, **more) as relay:
            yield relay


async def deliver(relay: Outfit, *recipients: str, **changes: Any) -> None:
    """One after the other."""
    for recipient in recipients:
        await relay.submit(recipient, **changes)
        await relay.until(recipient, Kind.DELIVERED)


def numbered(count: int, domain: str, *, name: str = "r") -> list[str]:
    return [f"{name}{number}@{domain}" for number in range(count)]


async def until_on_disk(relay: Outfit) -> None:
    await until(lambda: not len(relay.shard.scheduler.window), what="nothing waits in memory")


# Shares.


async def test_messages_are_shared_by_weight_and_each_address_says_its_own_name(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    sources = [source(2, weight=3), source(3), source(4, weight=0)]
    async with sending(tmp_path, nameserver, front, sources) as relay:
        await deliver(relay, *numbered(40, "dest.example"))
        assert front.taken() == {"2": 30, "3": 10}
        for number in (2, 3):
            sessions = front.mx[f"127.0.0.{number}"].sessions
            assert {each.commands[0] for each in sessions} == {f"EHLO out{number}.relay.example.com".encode()}
        assert {event.source for event in await relay.of("r0@dest.example")} <= {"127.0.0.2", "127.0.0.3"}


async def test_each_site_has_its_own_shares(nameserver: str, tmp_path: Path) -> None:
    """With one count for all of them, mail that goes here and there in turn would show each site one address only."""
    front = Front()
    async with sending(tmp_path, nameserver, front, [source(2), source(3)]) as relay:
        for number in range(10):
            await deliver(relay, f"r{number}@dest.example", f"r{number}@implicit.example")
        events = [event for event in await relay.events() if event.kind is Kind.DELIVERED]
        shares = Counter((event.recipient.rpartition("@")[2], event.source) for event in events)
        assert set(shares.values()) == {5}
        assert len(shares) == 4


async def test_without_a_source_the_system_chooses(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, ()) as relay:
        await deliver(relay, *numbered(3, "dest.example"))
        assert front.taken() == {"1": 3}
        ((_, site),) = relay.shard.couriers.sites.items()
        assert (site.place, site.counted_as) == ("mx.dest.example", "mx.dest.example")


class Greylisting(Mx):
    """Puts off every recipient that it has not seen yet."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        line = self.sessions[-1].commands[-1:]
        if verb != "RCPT" or line[0] in self.seen:
            return await super()._answer(peer, verb, default)
        self.seen.add(line[0])
        await peer.say(b"451 4.7.1 Greylisted\r\n")
        return 451


async def test_what_was_put_off_is_sent_again_from_one_and_the_same_address(nameserver: str, tmp_path: Path) -> None:
    """A server that greylists knows a message by the address it came from."""
    front = Front()
    front.mx = defaultdict(Greylisting)
    often = {"retry": {"ladder": ["10ms"], "jitter": 0}}
    async with sending(tmp_path, nameserver, front, [source(n) for n in range(2, 8)], delivery=often) as relay:
        await deliver(relay, *numbered(6, "dest.example"))
        attempts = [(await relay.of(recipient))[-1].attempt for recipient in numbered(6, "dest.example")]
        assert max(attempts) <= 3


async def test_connections_are_kept_by_address(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    table = {"mx_suffix": "dest.example", "connections": 1}
    async with sending(tmp_path, nameserver, front, [source(2), source(3)], site=[table]) as relay:
        await deliver(relay, *numbered(10, "dest.example"))
        assert sorted(front.came) == ["127.0.0.2", "127.0.0.3"]
        assert {site.place: site.governor.connections for site in relay.shard.couriers.sites.values()} == {
            "mx.dest.example from 127.0.0.2": 1,
            "mx.dest.example from 127.0.0.3": 1,
        }


# Pools.


async def test_a_route_says_from_which_pool_mail_leaves(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    sources = [source(2), source(3, pool="bulk"), source(4, pool="bulk"), source(5, pool="shop"), source(6, pool="ci")]
    routes = [
        {"credential": "ci", "via": "direct", "pool": "ci"},
        {"sender_domain": "shop.example", "via": "direct", "pool": "shop"},
        {"stream": "bulk", "via": "direct", "pool": "bulk"},
        {"recipient_domain": "other.example", "via": "direct", "pool": "shop"},
    ]
    async with sending(tmp_path, nameserver, front, sources, routes) as relay:
        await deliver(relay, *numbered(4, "dest.example", name="bulk"), stream="bulk")
        assert front.taken() == {"3": 2, "4": 2}
        await deliver(relay, "first@dest.example", stream="bulk", credential="ci")
        await deliver(relay, "x@dest.example", sender="a@shop.example")
        await deliver(relay, "x@other.example")
        await deliver(relay, "plain@dest.example")
        assert front.taken() == {"2": 1, "3": 2, "4": 2, "5": 2, "6": 1}


async def test_mail_to_a_smarthost_leaves_from_the_default_pool(tmp_path: Path, nameserver: str) -> None:
    front, smarthost = Front(), Front()
    sources = [source(NOT_OURS), source(2), source(3, pool="bulk")]
    async with ScriptedMx(smarthost) as server:
        routes = [{"via": f"smtp://127.0.0.1:{server.port}", "security": "none"}]
        async with sending(tmp_path, nameserver, front, sources, routes) as relay:
            await deliver(relay, *numbered(5, "dest.example"))
            assert smarthost.taken() == {"2": 5}
            assert kinds(await relay.of("r0@dest.example")) == [Kind.DELIVERED]


# An address that cannot be bound.


async def test_an_address_that_is_not_ours_makes_way_for_the_next_one_in_the_same_attempt(
    nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, [source(NOT_OURS, weight=9), source(2)]) as relay:
        await deliver(relay, *numbered(5, "dest.example"))
        for recipient in numbered(5, "dest.example"):
            (event,) = await relay.of(recipient)
            assert (event.kind, event.attempt, event.source) == (Kind.DELIVERED, 1, "127.0.0.2")
        rest = relay.shard.sources.resting(NOT_OURS)
        assert rest is not None
        assert rest.why == f"{NOT_OURS} is not an address of this machine"


async def test_with_no_address_to_send_from_mail_waits_and_no_attempt_is_counted(
    nameserver: str, tmp_path: Path
) -> None:
    front, clock = Front(), Clock()
    async with sending(tmp_path, nameserver, front, [source(NOT_OURS)], steady=clock) as relay:
        await relay.submit("x@dest.example")
        await until(lambda: relay.shard.sources.resting(NOT_OURS) is not None, what="it was tried")
        await until_on_disk(relay)
        (entry,) = await relay.spool.find(Selection())
        assert (entry.attempts, entry.last_reply) == (0, "")
        site = relay.shard.scheduler.site_waited_for(entry)
        assert site is not None
        assert site.source == NOT_OURS
        assert site.last_error.endswith(f"{NOT_OURS} is not an address of this machine")
        assert await relay.of("x@dest.example") == []


async def test_an_address_that_rests_is_tried_again_after_a_while(nameserver: str, tmp_path: Path) -> None:
    front, clock = Front(), Clock()
    async with sending(tmp_path, nameserver, front, [source(NOT_OURS)], steady=clock) as relay:
        sources = relay.shard.sources
        await relay.submit("x@dest.example")
        await until(lambda: sources.resumes_at(NOT_OURS) == clock() + 30.0, what="it was tried")
        await until_on_disk(relay)
        clock.seconds += 31.0
        await until(lambda: sources.resumes_at(NOT_OURS) == clock() + 60.0, what="it was tried again")


async def test_a_reload_that_corrects_the_address_sends_what_waits(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    async with ScriptedMx(front) as server:
        place: dict[str, Any] = {"port": server.port, "nameserver": nameserver}
        wrong = config(tmp_path / "spool", source=[source(NOT_OURS)], **place)
        right = config(tmp_path / "spool", source=[source(2)], **place)
        async with outfit(wrong) as relay:
            await relay.submit("x@dest.example")
            await until(lambda: relay.shard.sources.resting(NOT_OURS) is not None, what="it was tried")
            await until_on_disk(relay)
            relay.reload(right)
            assert (await relay.until("x@dest.example", Kind.DELIVERED)).attempt == 1


# An address that a site refuses.


async def test_a_site_that_blocks_one_address_has_its_mail_from_another(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    front.mx["127.0.0.2"] = Mx({"RCPT": LISTED})
    async with sending(tmp_path, nameserver, front, [source(2), source(3)]) as relay:
        await deliver(relay, *numbered(6, "dest.example"))
        assert front.taken() == {"3": 6}
        assert Counter(front.came)["127.0.0.2"] == 1
        (first,) = [event for event in await relay.events() if event.detail]
        assert (first.kind, first.attempt) == (Kind.DELIVERED, 1)
        assert first.detail.startswith("passed over 127.0.0.2: 550 5.7.1 Unfortunately")
        await deliver(relay, "x@implicit.example", "y@implicit.example")  # another site has no part in it
        assert Counter(front.came)["127.0.0.2"] == 2


async def test_a_provider_that_blocks_an_address_blocks_it_at_all_its_sites(nameserver: str, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('[default]\n[[profile]]\nname = "front"\nscope = "provider"\nmx_suffixes = [".example"]\n')
    front = Front()
    front.mx["127.0.0.2"] = Mx({"RCPT": LISTED})
    delivery = {**NOT_NOW, "profiles": str(profiles)}
    async with sending(tmp_path, nameserver, front, [source(2), source(3)], delivery=delivery) as relay:
        await deliver(relay, "x@dest.example", "x@implicit.example", "y@implicit.example", "y@dest.example")
        assert Counter(front.came)["127.0.0.2"] == 1
        assert front.taken() == {"3": 4}
        assert relay.board.open_breakers == 1


async def test_where_every_address_is_blocked_mail_waits_behind_the_breakers(nameserver: str, tmp_path: Path) -> None:
    front = Front(RCPT=LISTED)
    async with sending(tmp_path, nameserver, front, [source(2), source(3)], steady=Clock()) as relay:
        await relay.submit("first@dest.example")
        await relay.until("first@dest.example", Kind.BOUNCED)
        assert sorted(front.came) == ["127.0.0.2", "127.0.0.3"]
        await relay.submit("second@dest.example")
        await until_on_disk(relay)
        assert await relay.of("second@dest.example") == []
        assert relay.board.open_breakers == 2


async def test_a_sender_domain_that_is_refused_is_refused_from_every_address(nameserver: str, tmp_path: Path) -> None:
    unauthenticated = (
        b"550 5.7.515 Access denied, sending domain SENDER.EXAMPLE does not meet the required authentication level\r\n"
    )
    front = Front(RCPT=[unauthenticated])
    async with sending(tmp_path, nameserver, front, [source(2), source(3)], steady=Clock()) as relay:
        await relay.submit("first@dest.example")
        await relay.until("first@dest.example", Kind.BOUNCED)
        await relay.submit("second@dest.example")
        await until_on_disk(relay)
        assert len(front.came) == 1
        assert relay.board.open_breakers == 1


async def test_trouble_of_one_address_slows_no_other(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    front.mx["127.0.0.2"] = Mx({"RCPT": b"421 4.7.28 Our system has detected an unusual rate\r\n"})
    async with sending(tmp_path, nameserver, front, [source(2), source(3, pool="b")], BY_STREAM) as relay:
        await relay.submit("x@dest.example")
        await relay.until("x@dest.example", Kind.DEFERRED)
        await deliver(relay, *numbered(5, "dest.example"), stream="bulk")
        slowed, other = (site.governor.allowance for site in relay.shard.couriers.sites.values())
        assert [change.after for change in slowed.changes][:1] == [1]
        assert other.changes == ()


BY_STREAM = [{"stream": "bulk", "via": "direct", "pool": "b"}]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Act.DROP, id="a connection that is reset"),
        pytest.param(b"421 4.3.2 busy\r\n", id="421 for a greeting"),
        pytest.param(b"554 5.7.1 go away\r\n", id="5xx for a greeting"),
    ],
)
async def test_hosts_that_give_one_address_no_session_are_tried_from_another(
    answer: Any, nameserver: str, tmp_path: Path
) -> None:
    front = Front(GREETING=answer)
    front.mx["127.0.0.3"] = Mx()
    async with sending(tmp_path, nameserver, front, [source(2), source(3), source(4)]) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert (event.attempt, event.detail.startswith("passed over 127.0.0.2: ")) == (1, True)
        assert set(front.came) == {"127.0.0.2", "127.0.0.3"}


async def test_hosts_that_are_down_are_tried_from_two_addresses_in_an_attempt(nameserver: str, tmp_path: Path) -> None:
    front = Front(GREETING=Act.DROP)
    async with sending(tmp_path, nameserver, front, [source(n) for n in range(2, 7)]) as relay:
        await relay.submit("x@dest.example")
        await relay.until("x@dest.example", Kind.DEFERRED)
        assert sorted(front.came) == ["127.0.0.2", "127.0.0.3"]


async def test_a_site_that_is_down_is_left_to_the_probes_of_two_addresses(nameserver: str, tmp_path: Path) -> None:
    front, clock = Front(GREETING=Act.DROP), Clock()
    pair = {"127.0.0.2", "127.0.0.3"}
    async with sending(tmp_path, nameserver, front, [source(n) for n in range(2, 7)], steady=clock) as relay:
        await relay.submit("first@dest.example")
        await relay.until("first@dest.example", Kind.DEFERRED)
        await relay.submit("second@dest.example")
        await until_on_disk(relay)
        assert (set(front.came), len(front.came)) == (pair, 2)
        entries = {entry.recipient.address: entry for entry in await relay.spool.find(Selection())}
        waited_for = relay.shard.scheduler.site_waited_for(entries["second@dest.example"])
        assert waited_for is not None
        assert "mx.dest.example[127.0.0.1]" in waited_for.last_error
        clock.seconds += 31.0  # one of the two, or both, probe
        await relay.until("second@dest.example", Kind.DEFERRED)
        assert set(front.came) == pair
        for mx in front.mx.values():
            mx.be_orderly("GREETING")
        front.mx.default_factory = Mx
        clock.seconds += 120.0
        await deliver(relay, *numbered(10, "dest.example"))
        assert front.taken() == {"2": 2, "3": 2, "4": 2, "5": 2, "6": 2}


async def test_a_rule_suspends_the_address_that_it_speaks_of_and_an_operator_all(
    nameserver: str, tmp_path: Path
) -> None:
    deferred = b"421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints\r\n"
    front = Front()
    front.mx["127.0.0.2"] = Mx({"RCPT": deferred})
    async with sending(tmp_path, nameserver, front, [source(2), source(3)]) as relay:
        await relay.submit("first@dest.example")
        await relay.until("first@dest.example", Kind.DEFERRED)
        await until(lambda: bool(relay.shard.suspensions), what="it is suspended")
        assert list(relay.shard.suspensions) == ["mx.dest.example from 127.0.0.2"]
        await deliver(relay, *numbered(4, "dest.example"))
        assert front.taken() == {"3": 4}
        relay.suspend("mx.dest.example")
        await relay.submit("x@dest.example")
        await until_on_disk(relay)
        assert await relay.of("x@dest.example") == []


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([source(3)], id="removed"),
        pytest.param([source(2, hostname="new.example"), source(3, weight=0)], id="renamed"),
    ],
)
async def test_a_message_that_waits_for_its_turn_does_not_leave_from_an_address_as_it_was_before_a_reload(
    after: list[dict[str, Any]], nameserver: str, tmp_path: Path
) -> None:
    front = Front()
    site = [{"mx_suffix": "mx.dest.example", "messages_per_second": 0.7}]
    async with sending(tmp_path, nameserver, front, [source(2)], site=site) as relay:
        for name in "xy":
            await relay.submit(f"{name}@dest.example")
        await relay.until("x@dest.example", Kind.DELIVERED)
        (old,) = relay.shard.couriers.sites.values()
        await until(lambda: old.couriers == 1 and not old.waiting, what="the next waits for its turn")
        tables: dict[str, Any] = {"source": after, "delivery": {**NOT_NOW, "port": relay.config.delivery.port}}
        relay.reload(config(tmp_path / "spool", nameserver=nameserver, site=site, **tables))
        await relay.until("y@dest.example", Kind.DELIVERED)
        expected = f"EHLO {after[0]['hostname']}".encode()
        assert front.mx[after[0]["address"]].sessions[-1].commands[0] == expected
        assert sum(front.taken().values()) == 2
        await until(lambda: not old.couriers, what="its connection is given up")


# Families.


async def test_an_address_of_the_other_family_is_for_when_no_other_can(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, [source("::1", weight=9), source(2)]) as relay:
        await deliver(relay, *numbered(3, "dest.example"))
        assert front.taken() == {"2": 3}


async def test_with_no_address_of_its_family_mail_waits_and_says_so(nameserver: str, tmp_path: Path) -> None:
    front = Front()
    async with sending(tmp_path, nameserver, front, [source("::1")]) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DEFERRED)
        assert "mx.dest.example has no address that can be reached from ::1" in event.detail
