"""An address in its warm-up: each provider gets its number from it, day by day, and the rest goes by warm ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from relay.delivery.site import Site
from relay.mail.event import Kind
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, outfit
from tests.delivery.test_sources import NOT_NOW, Clock, Front, numbered, source, until_on_disk
from tests.peers.mx import Mx, ScriptedMx

DAY = 86_400.0
PLAN = {"first": 2, "growth": 2, "until": 16, "hours": 1}
TODAY = "2027-01-15"  # of Clock
TOO_MUCH = (
    b"421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address."
    b" https://support.google.com/mail/?p=UnsolicitedRateLimitError - gsmtp\r\n"
)
PROFILES = """
[default]
connections = 10

[[profile]]
name = "big"
mx_suffixes = ["dest.example", "implicit.example"]
"""


def new(number: int = 2, **keys: Any) -> dict[str, Any]:
    return source(number, warm_up=TODAY, weight=9, **keys)


def warm(number: int = 3, **keys: Any) -> dict[str, Any]:
    return source(number, weight=0, **keys)


@pytest.fixture
def clock() -> Clock:
    """08:00 UTC of the first day."""
    return Clock()


class Warming:
    """A relay with sources in their warm-up."""

    def __init__(self, relay: Outfit, front: Front, clock: Clock) -> None:
        self.relay = relay
        self.front = front
        self._clock = clock

    async def submit(self, *recipients: str) -> None:
        now = self._clock()
        await self.relay.submit(*recipients, accepted_at=now, expires_at=now + 3 * DAY)

    async def send(self, count: int, domain: str = "dest.example") -> dict[str, int]:
        """One after the other; how many came from which address meanwhile."""
        before = self.front.taken()
        for recipient in numbered(count, domain, name=f"t{self._clock():.0f}"):
            await self.submit(recipient)
            await self.relay.until(recipient, Kind.DELIVERED)
        return {
            each: count - before.get(each, 0)
            for each, count in self.front.taken().items()
            if count != before.get(each, 0)
        }

    @property
    def sites(self) -> list[Site]:
        return list(self.relay.shard.couriers.sites.values())

    def later(self, seconds: float) -> None:
        self._clock.seconds += seconds
        self.relay.look_at_our_addresses()


@asynccontextmanager
async def warming(
    tmp_path: Path, nameserver: str, clock: Clock, *sources: dict[str, Any], front: Front | None = None, **tables: Any
) -> AsyncIterator[Warming]:
    front = front or Front()
    tables = {"warm_up": PLAN, "source": list(sources), **tables}
    tables["delivery"] = {**NOT_NOW, **tables.get("delivery", {})}
    async with ScriptedMx(front) as server:
        settings = config(tmp_path / "spool", port=server.port, nameserver=nameserver, **tables)
        async with outfit(settings, now=clock) as relay:
            yield Warming(relay, front, clock)


async def test_what_is_over_the_days_number_goes_by_a_warm_address_in_the_same_attempt(
    nameserver: str, tmp_path: Path, clock: Clock
) -> None:
    async with warming(tmp_path, nameserver, clock, new(), warm()) as here:
        assert await here.send(5) == {"2": 2, "3": 3}
        events = [event for event in await here.relay.events() if event.kind is not Kind.ACCEPTED]
        assert {(event.kind, event.attempt) for event in events} == {(Kind.DELIVERED, 1)}


async def test_it_grows_each_day_until_the_address_is_warm(nameserver: str, tmp_path: Path, clock: Clock) -> None:
    async with warming(tmp_path, nameserver, clock, new(), warm()) as here:
        for share in (2, 4, 8):
            assert await here.send(10) == {"2": share, "3": 10 - share}
            here.later(DAY)
        assert await here.send(10) == {"2": 10}


async def test_each_provider_has_its_own_number_and_its_sites_have_it_together(
    nameserver: str, tmp_path: Path, clock: Clock
) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(PROFILES)
    delivery = {"profiles": str(profiles)}
    async with warming(tmp_path, nameserver, clock, new(), warm(), delivery=delivery) as here:
        assert await here.send(1, "dest.example") == {"2": 1}
        assert await here.send(3, "implicit.example") == {"2": 1, "3": 2}
        assert await here.send(3, "backup.example") == {"2": 2, "3": 1}
        named = {site.name: site.quota.stage.provider for site in here.sites if site.quota.stage}
        alone = next(name for name in named if name.startswith("backup.example"))
        assert named == {"mx.dest.example": "big", "implicit.example": "big", alone: alone}


async def test_how_far_it_has_come_is_told(nameserver: str, tmp_path: Path, clock: Clock) -> None:
    async with warming(tmp_path, nameserver, clock, new(), warm()) as here:
        known = here.relay.shard.our_addresses
        assert await known.progress("127.0.0.2") == []
        await here.send(1, "dest.example")
        await here.send(3, "implicit.example")
        found = await known.progress("127.0.0.2")
        assert [(each.stage.provider, each.used_in_day) for each in found] == [
            ("implicit.example", 2),
            ("mx.dest.example", 1),
        ]
        await known.measure()
        told = {name: cast(Any, read)() for name, read in known.gauges().items()}
        assert told["relay_source_warm_up_day"] == {"127.0.0.2": 1.0}
        assert told["relay_source_warm_up_used_ratio"] == {"127.0.0.2": 1.0}
        here.later(DAY)
        await known.measure()
        told = {name: cast(Any, read)() for name, read in known.gauges().items()}
        assert told["relay_source_warm_up_used_ratio"] == {"127.0.0.2": 0.0}
        here.later(2 * DAY)
        assert cast(Any, known.gauges()["relay_source_warm_up_day"])() == {}


async def test_a_message_is_one_whatever_its_recipients(nameserver: str, tmp_path: Path, clock: Clock) -> None:
    async with warming(tmp_path, nameserver, clock, new(), warm()) as here:
        await here.submit(*numbered(5, "dest.example"))
        await here.relay.until("r4@dest.example", Kind.DELIVERED)
        assert await here.send(2) == {"2": 1, "3": 1}


async def test_without_a_warm_address_mail_waits_climbs_no_ladder_and_goes_when_there_is_room(
    nameserver: str, tmp_path: Path, clock: Clock
) -> None:
    async with warming(tmp_path, nameserver, clock, new()) as here:
        assert await here.send(2) == {"2": 2}
        await here.submit("x@dest.example")
        await until_on_disk(here.relay)
        (entry,) = await here.relay.spool.find(Selection())
        assert (entry.attempts, entry.last_reply) == (0, "")
        site = here.relay.shard.scheduler.site_waited_for(entry)
        assert site is not None
        words = "127.0.0.2 is in day 1 of its warm-up: its 2 messages per day to mx.dest.example are used up"
        assert site.last_error == words
        here.later(DAY - 60)  # day 2 has begun, and has four
        assert (await here.relay.until("x@dest.example", Kind.DELIVERED)).attempt == 1


async def test_an_hour_has_its_part_of_the_day(nameserver: str, tmp_path: Path, clock: Clock) -> None:
    plan = {"first": 8, "growth": 2, "until": 100, "hours": 4}
    async with warming(tmp_path, nameserver, clock, new(), warm(), warm_up=plan) as here:
        for _ in range(4):
            assert await here.send(3) == {"2": 2, "3": 1}
            here.later(3660)
        assert await here.send(1) == {"3": 1}


async def test_what_is_not_taken_does_not_count(nameserver: str, tmp_path: Path, clock: Clock) -> None:
    front = Front()
    front.mx["127.0.0.2"] = Mx({"RCPT": [b"550 5.1.1 no such user\r\n", b"250 2.1.5 ok\r\n"]})
    async with warming(tmp_path, nameserver, clock, new(), warm(), front=front) as here:
        await here.submit("gone@dest.example")
        await here.relay.until("gone@dest.example", Kind.BOUNCED)
        front.mx["127.0.0.2"].be_orderly("RCPT")
        assert await here.send(3) == {"2": 2, "3": 1}


async def test_a_day_on_which_the_provider_asks_for_less_is_a_setback(
    nameserver: str, tmp_path: Path, clock: Clock
) -> None:
    front = Front()
    front.mx["127.0.0.2"] = Mx({"RCPT": TOO_MUCH})
    async with warming(tmp_path, nameserver, clock, new(), warm(), front=front) as here:
        await here.submit("first@dest.example")
        await here.relay.until("first@dest.example", Kind.DEFERRED)
        front.mx["127.0.0.2"].be_orderly("RCPT")
        here.later(DAY)
        assert (await here.send(6))["2"] == 2  # as on the first day
        here.later(DAY)
        assert (await here.send(6))["2"] == 4


async def test_a_day_on_which_the_provider_refuses_the_address_is_a_setback(
    nameserver: str, tmp_path: Path, clock: Clock
) -> None:
    front = Front()
    front.mx["127.0.0.2"] = Mx(
        {"RCPT": b"550 5.7.1 Unfortunately, messages from [192.0.2.10] weren't sent. (S3150)\r\n"}
    )
    async with warming(tmp_path, nameserver, clock, new(), warm(), front=front) as here:
        assert await here.send(1) == {"3": 1}
        front.mx["127.0.0.2"].be_orderly("RCPT")
        here.later(DAY)
        assert (await here.send(6))["2"] == 2


async def test_an_address_whose_warm_up_begins_later_sends_nothing_before(
    nameserver: str, tmp_path: Path, clock: Clock
) -> None:
    later = source(2, weight=9, warm_up="2027-01-16")
    async with warming(tmp_path, nameserver, clock, later, warm()) as here:
        assert await here.send(3) == {"3": 3}
        clock.seconds = datetime(2027, 1, 16, tzinfo=UTC).timestamp() - 1
        here.later(0)
        assert await here.send(3) == {"3": 3}
        here.later(1)
        assert await here.send(3) == {"2": 2, "3": 1}


async def test_a_pace_of_the_site_holds_beside_the_warm_up(nameserver: str, tmp_path: Path, clock: Clock) -> None:
    table = {"mx_suffix": "dest.example", "messages_per_hour": 30}
    async with warming(tmp_path, nameserver, clock, new(), warm(), site=[table]) as here:
        assert await here.send(3) == {"2": 2, "3": 1}
        (site,) = [site for site in here.sites if site.quota]
        assert site.governor.pace is not None
        assert site.governor.pace.per_hour == 30
