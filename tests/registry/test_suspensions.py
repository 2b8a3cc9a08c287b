"""Suspended sites in the registry: kept with who and why, ended by time or by hand, seen by every process."""

from pathlib import Path

from relay.registry.store import Registry
from relay.registry.suspensions import KEPT, from_source
from tests.registry.clock import NOW, Clock

PAIR = ("mx.example.com+2-0123456789ab", ["a.mx.example.com", "b.mx.example.com"])


async def test_a_suspension_is_kept_with_who_and_why(registry: Registry, tmp_path: Path, clock: Clock) -> None:
    await registry.suspend_sites([PAIR], until=NOW + 60, by="alice", reason="they asked")
    other = await Registry.open(tmp_path, now=clock)
    found = other.snapshot().suspended(now=NOW)[PAIR[0]]
    assert (found.site, list(found.mx_hosts)) == PAIR
    assert (found.since, found.until, found.by, found.reason) == (NOW, NOW + 60, "alice", "they asked")
    await other.close()


async def test_it_ends_when_its_time_is_over_or_when_it_is_resumed(registry: Registry) -> None:
    await registry.suspend_sites([PAIR], until=NOW + 60, by="alice", reason="")
    await registry.suspend_sites([("other", ["other"])], until=0.0, by="alice", reason="")
    assert registry.snapshot().suspended(now=NOW + 59).keys() == {PAIR[0], "other"}
    assert registry.snapshot().suspended(now=NOW + 60).keys() == {"other"}
    assert await registry.resume_sites(["other", "unknown"], by="bob") == ["other"]
    assert registry.snapshot().suspended(now=NOW).keys() == {PAIR[0]}
    (other,) = [each for each in registry.snapshot().suspensions if each.site == "other"]
    assert (other.until, other.resumed_by) == (NOW, "bob")
    assert await registry.resume_sites(["other"], by="bob") == []


async def test_one_that_is_suspended_again_keeps_since_when_and_gets_the_new_time(
    registry: Registry, clock: Clock
) -> None:
    await registry.suspend_sites([PAIR], until=NOW + 60, by="alice", reason="one")
    clock.time += 30
    await registry.suspend_sites([PAIR], until=0.0, by="bob", reason="another")
    (found,) = registry.snapshot().suspended(now=clock()).values()
    assert (found.since, found.until, found.by, found.reason) == (NOW, 0.0, "bob", "another")
    await registry.resume_sites([PAIR[0]], by="bob")
    clock.time += 30
    await registry.suspend_sites([PAIR], until=0.0, by="carol", reason="")
    (found,) = registry.snapshot().suspended(now=clock()).values()
    assert (found.since, found.by, found.resumed_by) == (NOW + 60, "carol", "")


async def test_what_is_long_over_is_forgotten(registry: Registry, clock: Clock) -> None:
    await registry.suspend_sites([PAIR], until=NOW + 60, by="alice", reason="")
    clock.time += 60 + KEPT
    await registry.suspend_sites([("other", ["other"])], until=0.0, by="alice", reason="")
    assert [each.site for each in registry.snapshot().suspensions] == ["other"]


async def test_what_was_resumed_stays_so_when_the_clock_is_set_back(registry: Registry, clock: Clock) -> None:
    await registry.suspend_sites([PAIR], until=0.0, by="alice", reason="")
    clock.time += 3600
    await registry.resume_sites([PAIR[0]], by="bob")
    clock.time -= 1800
    assert registry.snapshot().suspended(now=clock()) == {}
    assert await registry.resume_sites([PAIR[0]], by="bob") == []
    await registry.suspend_sites([PAIR], until=0.0, by="carol", reason="")
    assert registry.snapshot().suspended(now=clock())[PAIR[0]].by == "carol"


async def test_a_rule_does_not_change_what_an_operator_ordered(registry: Registry) -> None:
    await registry.suspend_sites([PAIR], until=0.0, by="alice", reason="until they answer")
    await registry.suspend_sites([PAIR], until=NOW + 60, by='the rule "x"', reason="", anew=False)
    (found,) = registry.snapshot().suspended(now=NOW).values()
    assert (found.until, found.by, found.reason) == (0.0, "alice", "until they answer")
    await registry.resume_sites([PAIR[0]], by="alice")
    await registry.suspend_sites([PAIR], until=NOW + 60, by='the rule "x"', reason="", anew=False)
    (found,) = registry.snapshot().suspended(now=NOW).values()
    assert (found.until, found.by) == (NOW + 60, 'the rule "x"')


async def test_an_address_that_is_to_rest_is_no_site(registry: Registry) -> None:
    await registry.suspend_sites([(from_source("2001:db8::1"), ())], until=NOW + 60, by="alice", reason="new cable")
    await registry.suspend_sites([PAIR], until=0.0, by="alice", reason="")
    snapshot = registry.snapshot()
    assert snapshot.suspended(now=NOW).keys() == {PAIR[0]}
    assert snapshot.resting(now=NOW).keys() == {"2001:db8::1"}
    assert snapshot.resting(now=NOW)["2001:db8::1"].reason == "new cable"
    assert snapshot.resting(now=NOW + 60) == {}
    assert await registry.resume_sites([from_source("2001:db8::1")], by="bob") == ["from 2001:db8::1"]
    assert registry.snapshot().resting(now=NOW) == {}
