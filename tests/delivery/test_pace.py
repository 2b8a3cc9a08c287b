"""When the next message may go: never too many in any second, minute or hour, and nearly as many as may."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.profiles import Profile, Profiles, SiteRules
from relay.delivery.machine_limits import MOST_SITES, TURNS_KEPT, MachineLimits
from relay.delivery.pace import SOON, Pace, Turns
from relay.mail.event import Kind
from tests.delivery.outfit import config, outfit
from tests.peers.mx import Mx, ScriptedMx, until

START = 1_000_003.7


def sent(pace: Pace, *, within: float, after: Sequence[float] = ()) -> list[float]:
    """When messages go that are always there, but for pauses of `after` seconds after the first, second, ..."""
    turns, now, moments, pauses = Turns(), START, list[float](), iter(after)
    while now < START + within:
        now += turns.wait(pace, now=now)
        turns.take(pace, at=now)
        moments.append(now)
        now += next(pauses, 0.0)
    return moments


def most_in(moments: Sequence[float], seconds: float) -> int:
    """In any so many seconds."""
    return max(bisect_left(moments, at + seconds) - position for position, at in enumerate(moments))


@pytest.mark.parametrize(
    ("pace", "seconds", "most"),
    [
        pytest.param(Pace(per_second=14), 1.0, 14, id="second"),
        pytest.param(Pace(per_second=0.1), 10.0, 1, id="ten seconds"),
        pytest.param(Pace(per_minute=100), 60.0, 100, id="minute"),
        pytest.param(Pace(per_minute=1), 60.0, 1, id="minute, of one"),
        pytest.param(Pace(per_hour=5000), 3600.0, 5000, id="hour"),
        pytest.param(Pace(per_second=14, per_minute=600, per_hour=20_000), 3600.0, 20_000, id="all three"),
    ],
)
def test_no_time_has_more_than_the_limit_and_nearly_all_of_it_is_used(pace: Pace, seconds: float, most: int) -> None:
    moments = sent(pace, within=4 * seconds)
    assert most_in(moments, seconds - 1e-6) <= most
    assert len(moments) >= 0.95 * 3 * most


def test_of_ten_a_second_three_hundred_a_minute_and_a_thousand_an_hour_each_holds_whenever_one_looks() -> None:
    moments = sent(Pace(per_second=10, per_minute=300, per_hour=1000), within=3 * 3600.0)
    for seconds, most in ((1.0, 10), (60.0, 300), (3600.0, 1000)):
        assert most_in(moments, seconds - 1e-6) <= most
    assert most_in(moments, 60.0) == 300
    assert most_in(moments, 3600.0) == 1000
    assert len(moments) >= 0.95 * 3 * 1000


@given(
    st.builds(Pace, st.sampled_from([0.0, 0.5, 20.0]), st.integers(0, 30), st.integers(0, 90)),
    st.lists(st.sampled_from([0.0, 0.3, 7.0, 59.0, 1800.0]), max_size=100),
)
def test_whatever_comes_when_no_limit_is_passed(pace: Pace, after: list[float]) -> None:
    if pace == Pace():
        return
    moments = sent(pace, within=600.0, after=after)[:500]
    for seconds, most in (
        (1 / (pace.per_second or 1), 1 if pace.per_second else 0),
        (60.0, pace.per_minute),
        (3600.0, pace.per_hour),
    ):
        assert not most or most_in(moments, seconds - 1e-6) <= most


def test_another_limit_counts_from_the_next_message_on() -> None:
    turns = Turns()
    for _ in range(10):
        assert turns.wait(Pace(per_minute=10), now=START) == 0.0
        turns.take(Pace(per_minute=10), at=START)
    assert turns.wait(Pace(per_minute=11), now=START) == 0.0
    assert turns.wait(Pace(per_minute=5), now=START) > 60.0
    assert turns.wait(Pace(per_hour=10), now=START) > 3600.0


def test_without_a_limit_nothing_is_asked() -> None:
    rules = SiteRules(Profiles(Profile(name="default"), {}))
    assert Pace.of(rules.limits(["mx.example.com"])) is None


async def test_what_counts_for_nothing_any_more_is_forgotten() -> None:
    now = START
    limits = MachineLimits(
        steady=lambda: now, now=lambda: now, tell=lambda *_: None, is_free=lambda *_: None, noted=lambda *_: None
    )
    take = partial(limits.take_turn, 0, pace=Pace(per_hour=1), count=1, sharer=("bulk", "news"))
    for number in range(MOST_SITES):
        await take(f"old{number}")
    now += TURNS_KEPT - 1
    await take("young")
    now += 1
    for number in range(2 * MOST_SITES):
        await take(f"new{number}")
    assert len(limits._sites) <= 2 * MOST_SITES + 1
    assert await take("young") > SOON


async def test_mail_beyond_a_pace_waits_in_memory_and_climbs_nothing(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    table = {"mx_suffix": "mx.dest.example", "messages_per_hour": 3}
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(settings) as relay:
            for number in range(5):
                await relay.submit(f"{number}@dest.example")
            await until(lambda: len(mx.messages) == 3, what="as many as may are sent")
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: site.waiting == 2 and not site.couriers, what="the others wait")
            assert site.next_turn_at > 0
            assert [each.kind for each in await relay.events() if each.kind is Kind.DEFERRED] == []
            relay.reload(config(tmp_path, port=server.port, nameserver=nameserver))
            await until(lambda: len(mx.messages) == 5, what="without the limit they go")
