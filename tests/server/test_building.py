"""What a worker opens and builds, and what its parts are asked."""

import asyncio
import fcntl
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import pytest

from relay.config.models import Dns
from relay.dkim import generate_keys, public_record
from relay.errors import SpoolLocked
from relay.mail.address import Pattern
from relay.mail.message import parse_header
from relay.mail.suppression import Cause, Suppression
from relay.metrics import merge, render
from relay.registry.domains import NewKey
from relay.resolver import Resolver
from relay.server.building import share_of
from relay.server.machine import ipv6_source, own_addresses
from relay.server.stores import StoppedEarly, open_stores
from relay.server.surroundings import Surroundings
from relay.spool.spool import Spool
from tests.peers.dns import FakeDns, response
from tests.peers.waiting import eventually
from tests.server.household import household, post
from tests.server.logbook import Logbook
from tests.server.tables import config

NOW = time.time


# On disk.


async def opened(directory: Path, logbook: Logbook, *, patience: float, stopping: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        await open_stores(directory, (0, 1), stack, stopping=stopping, now=NOW, log=logbook.log, patience=patience)


async def test_a_shard_that_somebody_lets_go_of_in_time_is_waited_for(tmp_path: Path, logbook: Logbook) -> None:
    (tmp_path / "shard-1").mkdir()
    somebody = (tmp_path / "shard-1" / "lock").open("w")
    fcntl.flock(somebody, fcntl.LOCK_EX)

    async def let_go_once_it_is_waited_for() -> None:
        await asyncio.to_thread(eventually, lambda: logbook.lines("waiting for a shard"), what="a wait for the shard")
        somebody.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(let_go_once_it_is_waited_for())
        await opened(tmp_path, logbook, patience=10.0, stopping=asyncio.Event())
    (line,) = logbook.lines("waiting for a shard")
    assert line["shard"] == 1


async def test_one_that_stays_somebody_elses_is_an_error_and_the_others_are_free(
    tmp_path: Path, logbook: Logbook
) -> None:
    other = await Spool.open(tmp_path, shard=1)
    with pytest.raises(SpoolLocked, match="shard-1 belongs to process"):
        await opened(tmp_path, logbook, patience=0.1, stopping=asyncio.Event())
    await (await Spool.open(tmp_path, shard=0)).close()
    await other.close()


async def test_who_is_to_stop_waits_no_longer(tmp_path: Path, logbook: Logbook) -> None:
    other = await Spool.open(tmp_path, shard=1)
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stopping.set)
    with pytest.raises(StoppedEarly):
        await opened(tmp_path, logbook, patience=60.0, stopping=stopping)
    await (await Spool.open(tmp_path, shard=0)).close()
    await other.close()


# Inquiries.


def keys() -> tuple[NewKey, NewKey]:
    rsa, ed25519 = generate_keys()
    return NewKey("rsa", rsa, public_record(rsa)), NewKey("ed25519", ed25519, public_record(ed25519))


def header(address: str) -> Any:
    return parse_header(f"From: {address}\r\n".encode(), size_limit=10_000, received_limit=100)


async def test_a_sender_is_allowed_when_its_domain_signs(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        registry, inquiries = house.stores.registry, house.parts.inquiries
        issued = await registry.add_credential("shop", senders=[Pattern.parse("*@sender.example")])
        refused = inquiries.authorize(issued.credential, header("a@sender.example"))
        assert refused is not None
        assert refused.code == 550
        await registry.add_domain("sender.example", keys())
        assert inquiries.authorize(issued.credential, header("a@sender.example")) is None
        assert {key.algorithm for key in inquiries.signing_keys()} == {"rsa", "ed25519"}


async def test_a_recipient_is_suppressed_for_all_or_for_one_stream_of_one_credential(
    tmp_path: Path, logbook: Logbook
) -> None:
    async with household(config(tmp_path), logbook) as house:
        registry = house.stores.registry
        shop = (await registry.add_credential("shop", senders=[Pattern.parse("*@a.example")])).credential
        blog = (await registry.add_credential("blog", senders=[Pattern.parse("*@a.example")])).credential
        everywhere = Suppression("gone@dest.example", Cause.HARD_BOUNCE, created_at=NOW())
        there = Suppression(
            "cross@dest.example", Cause.COMPLAINT, created_at=NOW(), scope="credential:shop/transactional"
        )
        await house.stores.suppressions.add([everywhere, there])
        suppressed = house.parts.inquiries.suppressed
        assert suppressed("gone@dest.example", shop) == suppressed("gone@dest.example", blog) == everywhere
        assert suppressed("cross@dest.example", shop) == there
        assert suppressed("cross@dest.example", blog) is None
        assert suppressed("fine@dest.example", shop) is None


async def test_an_address_literal_is_allowed_by_its_network(tmp_path: Path, logbook: Logbook) -> None:
    settings = config(tmp_path, delivery={"allow_networks": ["10.0.0.0/8", "fd00::/8"]})
    async with household(settings, logbook) as house:
        allowed = house.parts.inquiries.literal_allowed
        assert allowed("[10.1.2.3]") and allowed("[IPv6:fd00::1]")
        assert not allowed("[192.0.2.1]") and not allowed("[IPv6:2001:db8::1]")


# What is counted.


async def test_the_queue_is_counted_on_disk_when_somebody_asks_and_not_more_often(
    tmp_path: Path, logbook: Logbook
) -> None:
    async with household(config(tmp_path), logbook) as house:
        spool, gauges = house.parts.holdings[0].spool, house.parts.gauges
        house.metrics.read_from(gauges.sources())
        await post(spool, "a@dest.example", "b@dest.example")
        await post(spool, "c@dest.example", held=True)
        await gauges.refresh()
        values = house.metrics.snapshot()["values"]
        assert values["relay_queue_recipients"] == [[["queued"], 2], [["deferred"], 0], [["held"], 1], [["damaged"], 0]]
        ages = {labels[0]: age for labels, age in values["relay_queue_oldest_age_seconds"]}
        assert 0 < ages["held"] < 60
        assert ages["deferred"] == 0
        await post(spool, "d@dest.example")
        await gauges.refresh()
        assert house.metrics.snapshot()["values"]["relay_queue_recipients"][0] == [["queued"], 2]


async def test_who_asks_while_the_queue_is_being_counted_gets_the_count_too(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        gauges, metrics = house.parts.gauges, house.metrics
        metrics.read_from(gauges.sources())
        await post(house.parts.holdings[0].spool, "a@dest.example")

        async def asked() -> object:
            await gauges.refresh()
            return metrics.snapshot()["values"]["relay_queue_recipients"][0]

        assert list(await asyncio.gather(asked(), asked())) == [[["queued"], 1]] * 2


async def test_every_gauge_can_be_read_and_shown(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook) as house:
        house.metrics.read_from(house.parts.gauges.sources())
        snapshot = house.metrics.snapshot()
        assert snapshot["values"]["relay_metric_source_failures"] == []
        page = render(merge([snapshot])).decode()
        for name in ("relay_disk_free_bytes", "relay_spool_commits_total", "relay_sessions_unauthenticated"):
            assert f"\n{name} " in page


async def test_what_a_shard_committed_stays_counted_when_it_is_let_go_of(tmp_path: Path, logbook: Logbook) -> None:
    async with household(config(tmp_path), logbook, shards=(0, 1)) as house:
        house.metrics.read_from(house.parts.gauges.sources())
        adopted = house.parts.holdings[1]
        await post(adopted.spool, "a@dest.example")
        before = _value(house.metrics.snapshot(), "relay_spool_commits")
        assert before >= 1
        await adopted.drain(seconds=0.0)
        await adopted.let_go()
        assert _value(house.metrics.snapshot(), "relay_spool_commits") >= before
        await house.parts.gauges.refresh()


def _value(snapshot: Mapping[str, Any], name: str) -> float:
    return float(snapshot["values"][name][0][1])


@pytest.mark.parametrize(
    ("connections", "workers", "shards", "share"),
    [
        pytest.param(1000, 1, 1, 1000, id="one worker has all"),
        pytest.param(1000, 8, 1, 125, id="eight share them"),
        pytest.param(1000, 2, 3, 166, id="and a worker's shards its share"),
        pytest.param(2, 8, 1, 1, id="with none there would be no delivery"),
    ],
)
def test_connections_out_are_the_machines(connections: int, workers: int, shards: int, share: int) -> None:
    settings = config(Path("/spool"), delivery={"connections": connections})
    assert share_of(settings, workers=workers, shards=shards) == share


# Where it is.


async def test_our_names_are_those_of_the_configuration_in_force(tmp_path: Path) -> None:
    source = [{"address": "127.0.0.1", "hostname": "MX1.Relay.Example.com"}]
    settings = [config(tmp_path, source=source), config(tmp_path, server={"hostname": "New.example.com"})]
    surroundings = Surroundings(lambda: settings[0], Resolver(settings[0].dns, NOW))
    machine = surroundings.machine()
    assert machine.names == {"relay.example.com", "mx1.relay.example.com"}
    assert machine.addresses == own_addresses()
    settings[0] = settings[1]
    assert surroundings.machine().names == {"new.example.com"}


@pytest.mark.parametrize("named", [True, False], ids=["with a PTR", "without"])
async def test_ipv6_comes_first_only_with_a_route_and_a_name_for_the_address(tmp_path: Path, named: bool) -> None:
    def answer(query: dns.message.Message, _tcp: bool) -> dns.message.Message:
        return response(query, "300 PTR mx1.relay.example.com.") if named else response(query, rcode="NXDOMAIN")

    async with FakeDns(answer) as nameserver:
        settings = Dns.model_validate({"nameservers": [nameserver.address], "timeout": "2s"})
        surroundings = Surroundings(lambda: config(tmp_path), Resolver(settings, NOW))
        assert not surroundings.machine().prefers_ipv6
        await surroundings.look()
        assert surroundings.machine().prefers_ipv6 == (named and ipv6_source() != "")
        if ipv6_source():
            assert ip_address(ipv6_source()).reverse_pointer in nameserver.questions[0]
