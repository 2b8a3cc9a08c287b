"""What was used when and from where, and the counters of the limits."""

from pathlib import Path

import pytest

from relay.mail.address import Pattern
from relay.registry.store import Registry
from relay.registry.usage import KNOWN_NETWORKS, KNOWN_SECONDS, Use, network_of
from relay.submission.limits import Rates
from relay.submission.services import Limits
from tests.registry.clock import NOW, Clock

ANY = (Pattern.parse("*@example.com"),)


async def reopened(directory: Path, clock: Clock, registry: Registry) -> Registry:
    await registry.close()
    return await Registry.open(directory, now=clock)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", id="an IPv4 address is itself"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", id="an IPv4-mapped address is the IPv4 one"),
        pytest.param("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", id="an IPv6 address is its /64"),
        pytest.param("2001:db8:1:2::/64", "2001:db8:1:2::/64", id="a network is itself"),
    ],
)
def test_network(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_last_use_is_shown(tmp_path: Path, clock: Clock) -> None:
    registry = await Registry.open(tmp_path, now=clock)
    issued = await registry.add_credential("shop", senders=ANY)
    rotated = await registry.rotate("shop")
    old, new = issued.credential.secrets[0].sha256, rotated.credential.secrets[0].sha256
    await registry.record_use([Use("shop", NOW + 9, "192.0.2.9", old), Use("shop", NOW + 5, "192.0.2.5", new)])
    await registry.record_use([Use("shop", NOW + 7, "2001:db8::7", new), Use("gone", NOW, "192.0.2.1", "ab")])
    again = await reopened(tmp_path, clock, registry)
    shop = again.snapshot().credentials["shop"]
    assert (shop.last_used_at, shop.last_used_from) == (NOW + 9, "192.0.2.9")
    assert {secret.sha256: secret.last_used_at for secret in shop.secrets} == {old: NOW + 9, new: NOW + 7}
    await again.close()


async def test_networks_are_known_for_thirty_days(registry: Registry, clock: Clock) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    login = issued.credential.login
    await registry.record_use([Use("shop", NOW, "192.0.2.1"), Use("shop", NOW + 60, "2001:db8::1")])
    assert registry.known_addresses(login) == {"192.0.2.1": NOW, "2001:db8::/64": NOW + 60}
    assert registry.last_login_from(login, "2001:db8::ffff") == NOW + 60
    assert registry.last_login_from(login, "192.0.2.2") == 0.0
    clock.time = NOW + KNOWN_SECONDS
    assert set(registry.known_addresses(login)) == {"2001:db8::/64"}
    assert registry.known_addresses("nobody") == {}


async def test_only_the_newest_networks_are_kept(registry: Registry) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    uses = [Use("shop", NOW + number, f"10.0.{number >> 8}.{number & 255}") for number in range(KNOWN_NETWORKS + 50)]
    await registry.record_use(uses[:30])
    await registry.record_use(uses[30:])
    known = registry.known_addresses(issued.credential.login)
    assert known == {use.address: use.at for use in uses[-KNOWN_NETWORKS:]}


async def test_counters_survive_a_restart(tmp_path: Path, clock: Clock) -> None:
    registry = await Registry.open(tmp_path, now=clock)
    start = int(NOW)
    await registry.save_usage({("shop", "hour", start): 3, ("shop", "day", start): 7})
    await registry.save_usage({("shop", "hour", start): 4, ("blog", "hour", start): 1})
    again = await reopened(tmp_path, clock, registry)
    assert await again.load_usage() == {
        ("shop", "hour", start): 4,
        ("shop", "day", start): 7,
        ("blog", "hour", start): 1,
    }
    clock.time = NOW + 2 * 86400 + 1
    await again.save_usage({("shop", "hour", start + 172800): 1})
    assert await again.load_usage() == {("shop", "hour", start + 172800): 1}
    await again.close()


async def test_what_was_sent_before_the_clock_was_set_back_counts_once_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    registry = await Registry.open(tmp_path, now=clock)
    rates, limits = Rates(), Limits(day=20)
    assert rates.take("shop", limits, now=NOW + 86400, count=16) == 0.0
    assert rates.take("blog", limits, now=NOW, count=1) == 0.0
    await registry.save_usage(rates.counters())
    assert rates.take("shop", limits, now=NOW, count=1) == 0.0
    await registry.save_usage(rates.counters(since=NOW + 86400))
    restarted = Rates()
    restarted.restore(await registry.load_usage())
    for known in (rates, restarted):
        assert known.used("", now=NOW) == {"shop": (17, 17), "blog": (1, 1)}
    await registry.close()
