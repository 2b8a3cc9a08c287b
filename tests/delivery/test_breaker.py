"""The breaker: whom the replies blame, when it trips, what it holds, and how it closes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from relay.delivery.breaker import (
    ORDER_TAKES,
    OUR_ADDRESS,
    PAUSE_FIRST,
    PAUSE_LONGEST,
    PROBE_WITHIN,
    KeptBreaker,
    Scope,
    scope_of,
)
from relay.delivery.known_breakers import KnownBreakers
from relay.delivery.machine_breakers import KEPT, MOST_SCOPES, BreakerChange, MachineBreakers, Told
from relay.mail.event import Kind
from relay.mail.meaning import Blame, Category
from relay.mail.verdict import Verdict
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, message, outfit
from tests.peers.mx import Mx, ScriptedMx, until

SITE = "mx.example"
OURS = "shop.example"
SAID = "550 5.7.1 blocked from mx3.example"
NOT_NOW = {"retry": {"ladder": ["1h"]}}
LISTED = b"550 5.7.1 Unfortunately, messages from [192.0.2.10] weren't sent. Please contact us. (S3150)\r\n"
UNAUTHENTICATED = (
    b"550 5.7.515 Access denied, sending domain SENDER.EXAMPLE does not meet the required authentication level\r\n"
)


def blocked(*, category: Category = Category.REPUTATION, action: str = "", **changes: Any) -> Verdict:
    known: dict[str, Any] = {"blame": Blame.SENDER, "category": category, "permanent": True, "action": action}
    return Verdict(**known | changes)


@pytest.mark.parametrize(
    ("verdict", "scope"),
    [
        pytest.param(blocked(), OUR_ADDRESS, id="our reputation is our address"),
        pytest.param(blocked(category=Category.AUTH), OURS, id="authentication is the sender domain"),
        pytest.param(blocked(permanent=False), None, id="what is put off says to wait, not to stop"),
        pytest.param(blocked(permanent=False, action="block"), OUR_ADDRESS, id="but a rule may say so"),
        pytest.param(blocked(blame=Blame.CONTENT), None, id="a content is one message's"),
        pytest.param(blocked(blame=Blame.RECIPIENT), None, id="a recipient is one recipient's"),
        pytest.param(None, None, id="what is taken blames nobody"),
    ],
)
def test_whom_a_refusal_counts_against(verdict: Verdict | None, scope: str | None) -> None:
    assert scope_of(verdict, OURS) == scope


class Clock:
    """Passes as it does, and further when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class House:
    """The breakers of a machine, and what two of its workers know of them at one site."""

    def __init__(self, *, before: Mapping[str, Sequence[KeptBreaker]] = MappingProxyType({}), now: float = 0.0) -> None:
        self.clock = Clock(now)
        self.told: list[Told] = []
        self.changes: list[BreakerChange] = []
        self.machine = MachineBreakers(
            steady=self.clock,
            now=self.clock,
            tell=self._tell,
            noted=lambda _, change: self.changes.append(change),
            before=before,
        )
        self.known = [KnownBreakers(self.clock) for _ in range(2)]
        self.sites = [known.at(SITE, "") for known in self.known]
        for front, told in self.machine.told():
            self._hear(front, told)

    def _tell(self, front: str, told: Told) -> None:
        self.told.append(told)
        self._hear(front, told)

    def _hear(self, front: str, told: Told) -> None:
        for known in self.known:
            known.hear(front, told)

    def note(self, *verdicts: Verdict | None, credential: str = "a", worker: int = 0, of: str = OURS) -> list[str]:
        """What a transaction of one worker's came to; what tripped."""
        reports = self.sites[worker].reports(of, credential, verdicts, SAID)
        return [each.scope.sender_domain for each in reports if self.machine.report(SITE, each)]

    def asks(self, worker: int, of: str = OURS, *, urged: bool = False) -> float:
        """Seconds that a worker's message waits, 0.0 for none; as `Trouble` has it."""
        site, now = self.sites[worker], self.clock()
        if not (scopes := site.holding(of, now=now)):
            return 0.0
        held = site.held(of, now=now)
        return held[1] - now if held and not urged else self.machine.probe(worker, SITE, scopes, urged=urged)

    @property
    def open(self) -> list[str]:
        (seen,) = {tuple((each.scope, each.until) for each in site.open) for site in self.sites}  # all see the same
        return [scope for scope, _ in seen]


def test_a_rule_trips_it_at_once_for_all_workers() -> None:
    house = House()
    assert house.note(blocked(action="block")) == [OUR_ADDRESS]
    for site in house.sites:
        assert site.held("other.example", now=1.0) == (OUR_ADDRESS, PAUSE_FIRST)
        assert [each.cause for each in site.open] == [SAID]
    assert house.changes == [BreakerChange(Scope(OUR_ADDRESS, ""), PAUSE_FIRST, SAID)]
    assert house.machine.open == 1


def test_five_of_twenty_of_two_credentials_trip_it_whichever_workers_they_are_at() -> None:
    house = House()
    for number, credential in enumerate("aaab"):
        assert house.note(blocked(), None, credential=credential, worker=number % 2) == []
    assert house.note(blocked(), credential="a") == [OUR_ADDRESS]


def test_one_application_alone_never_does() -> None:
    house = House()
    assert house.note(*[blocked()] * 100) == []
    assert house.asks(0) == 0.0


def test_four_of_twenty_do_not() -> None:
    house = House()
    for number in range(20):
        assert house.note(blocked(), *[None] * 5, credential="ab"[number % 2]) == []


def test_what_another_worker_delivers_counts_too() -> None:
    house = House()
    for number in range(40):
        assert house.note(blocked(), credential="ab"[number % 2]) == []
        for _ in range(5):
            house.note(None, worker=1)


def test_what_is_delivered_is_told_to_nobody_where_nothing_is_refused() -> None:
    house = House()
    assert house.sites[0].reports(OURS, "a", [None] * 100, SAID) == []
    assert not house.sites[0]
    house.note(blocked())
    assert all(house.sites)
    for _ in range(4):  # five recipients each
        (report,) = house.sites[1].reports(OURS, "a", [None] * 5, SAID)
        house.machine.report(SITE, report)
    assert not any(house.sites)  # twenty were not refused so: nothing is watched any more
    assert house.machine.kept() == {}


def test_one_domains_breaker_holds_no_others_mail() -> None:
    house = House()
    assert house.note(blocked(category=Category.AUTH, action="block")) == [OURS]
    assert house.asks(0, "other.example") == 0.0
    assert house.asks(0) == PAUSE_FIRST


def test_one_message_of_the_machine_probes_and_the_others_wait_for_it() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = PAUSE_FIRST
    assert house.asks(0) == 0.0
    assert house.asks(1) == PROBE_WITHIN
    house.clock.now += PROBE_WITHIN
    assert house.asks(1) == 0.0  # nothing was heard of the first
    assert house.asks(0) == PROBE_WITHIN


def test_a_worker_that_may_probe_lets_one_message_go() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = PAUSE_FIRST
    site = house.sites[0]
    site.wait(OURS, until=PAUSE_FIRST + PROBE_WITHIN)
    assert site.holding(OURS, now=PAUSE_FIRST) == [Scope(OUR_ADDRESS, "")]
    site.grant(OURS)
    assert site.holding(OURS, now=PAUSE_FIRST) == []
    site.go(OURS)
    assert site.held(OURS, now=PAUSE_FIRST) == (OUR_ADDRESS, PAUSE_FIRST + PROBE_WITHIN)


def test_the_probe_of_a_dead_worker_is_waited_for_no_longer() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = PAUSE_FIRST
    assert house.asks(0) == 0.0
    house.machine.left(1)
    assert house.asks(1) == PROBE_WITHIN
    house.machine.left(0)
    assert house.asks(1) == 0.0


def test_a_probe_that_is_refused_doubles_the_pause_up_to_four_hours() -> None:
    house, pauses = House(), []
    for _ in range(7):
        assert house.note(blocked(action="block")) == [OUR_ADDRESS]
        pauses.append(house.changes[-1].pause)
        house.clock.now += pauses[-1]
        assert house.asks(0) == 0.0
    assert pauses == [900.0, 1800.0, 3600.0, 7200.0, *[PAUSE_LONGEST] * 3]


def test_what_was_under_way_neither_trips_it_again_nor_closes_it() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = 1.0
    assert house.note(blocked(action="block"), worker=1) == []
    house.note(None)
    assert house.open == [OUR_ADDRESS]
    assert len(house.changes) == 1


def test_an_operator_has_a_message_probe_at_once() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = ORDER_TAKES - 1
    assert house.asks(1, urged=True) == PAUSE_FIRST - house.clock.now  # what was refused may have been for this order
    house.clock.now += 1
    assert house.asks(1, urged=True) == 0.0
    assert house.asks(0, urged=True) == PROBE_WITHIN  # what was ordered of all mail is one probe too
    house.note(blocked(blame=Blame.TRANSIENT, permanent=False), worker=1)
    assert house.asks(0, urged=True) == 0.0
    house.note(None)
    assert house.open == []


def test_a_probe_that_is_taken_closes_it_for_all_workers() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = PAUSE_FIRST
    assert house.asks(0) == 0.0
    house.note(None)
    assert house.open == []
    assert [house.asks(worker) for worker in range(2)] == [0.0, 0.0]
    assert house.changes[-1].pause == 0.0


@pytest.mark.parametrize(
    "verdicts",
    [
        pytest.param([], id="a session that broke says nothing of anybody"),
        pytest.param([blocked(blame=Blame.TRANSIENT, permanent=False)], id="nor does what is put off"),
    ],
)
def test_a_probe_that_shows_nothing_closes_nothing(verdicts: list[Verdict | None]) -> None:
    house = House()
    house.note(blocked(action="block"))
    house.clock.now = PAUSE_FIRST
    house.note(*verdicts)
    assert house.open == [OUR_ADDRESS]
    house.note(blocked(blame=Blame.RECIPIENT))
    assert house.open == []


def test_scopes_that_never_trip_are_bounded() -> None:
    house = House()
    house.note(blocked(action="block"))
    for number in range(2 * MOST_SCOPES):
        house.note(blocked(category=Category.AUTH), of=f"{number}.example")
    assert len(house.machine.kept()[SITE]) == MOST_SCOPES
    assert {len(known.by_front[SITE]) for known in house.known} == {MOST_SCOPES}
    assert house.open == [OUR_ADDRESS]


def test_a_restart_forgets_neither_the_open_ones_nor_what_was_counted() -> None:
    house = House(now=1_800_000_000.0)
    house.note(blocked(action="block"))
    for credential in "aaab":
        house.note(blocked(category=Category.AUTH), credential=credential)
    kept = msgspec.json.decode(msgspec.json.encode(house.machine.kept()), type=dict[str, tuple[KeptBreaker, ...]])
    later = House(before=kept, now=1_800_000_000.0 + 100)
    assert later.open == [OUR_ADDRESS]
    assert later.asks(0) == PAUSE_FIRST - 100
    assert later.note(blocked(category=Category.AUTH)) == [OURS]
    later.clock.now += PAUSE_FIRST
    assert later.note(blocked(action="block")) == [OUR_ADDRESS]
    assert later.changes[-1].pause == 2 * PAUSE_FIRST


def test_what_nothing_is_heard_of_for_a_day_is_forgotten() -> None:
    house = House()
    house.note(blocked(action="block"))
    house.note(blocked(category=Category.AUTH))
    house.clock.now = KEPT
    assert len(house.machine.kept()[SITE]) == 2
    house.clock.now += 1
    assert len(house.machine.kept()[SITE]) == 1
    house.clock.now += PAUSE_FIRST
    assert house.machine.kept() == {}
    assert not any(house.sites)


async def all_parked(relay: Outfit, *, attempts: int = 0) -> None:
    await until(lambda: not len(relay.shard.scheduler.window), what="nothing waits in memory")
    assert {entry.attempts for entry in await relay.spool.find(Selection())} == {attempts}


async def test_a_blocked_address_costs_one_message_and_the_others_go_after_a_probe(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Mx({"RCPT": LISTED})
    clock = Clock(1_800_000_000.0)
    async with ScriptedMx(mx) as server:
        table = {"mx_suffix": "dest.example", "connections": 1}
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW, site=[table])
        async with outfit(settings, steady=clock) as relay:
            await relay.submit("first@dest.example", sender="")
            await relay.until("first@dest.example", Kind.BOUNCED)
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: bool(site.breakers.open), what="it trips")
            for number in range(5):
                await relay.submit(f"{number}@dest.example", sender="", credential="other")
            await all_parked(relay)
            mx.be_orderly("RCPT")
            clock.now += PAUSE_FIRST
            for number in range(5):
                assert (await relay.until(f"{number}@dest.example", Kind.DELIVERED)).attempt == 1
            assert not site.breakers.open


@pytest.mark.parametrize("verb", ["GREETING", "MAIL"])
async def test_a_session_refused_for_our_address_trips_it(verb: str, nameserver: str, tmp_path: Path) -> None:
    said = b"421 4.7.1 [TS03] All messages from 192.0.2.10 will be permanently deferred\r\n"
    async with ScriptedMx(Mx({verb: said})) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings, steady=Clock(1_800_000_000.0)) as relay:
            await relay.submit("first@dest.example")
            await relay.until("first@dest.example", Kind.DEFERRED)
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: bool(site.breakers.open), what="it trips")
            (one,) = site.breakers.open
            assert (one.scope, one.cause) == (OUR_ADDRESS, f"{said.decode().strip()} from mx.dest.example")


async def test_a_domain_that_is_not_authenticated_pauses_its_own_mail_alone(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": [UNAUTHENTICATED]})
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings, steady=Clock(1_800_000_000.0)) as relay:
            await relay.submit("first@dest.example", sender="")
            await relay.until("first@dest.example", Kind.BOUNCED)
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: bool(site.breakers.open), what="it trips")
            await relay.submit("held@dest.example", sender="")
            await relay.submit("free@dest.example", sender="", sender_domain="other.example")
            await relay.until("free@dest.example", Kind.DELIVERED)
            await all_parked(relay)
            assert await relay.left() == 1


async def test_mail_that_is_released_is_read_although_another_senders_is_parked(
    nameserver: str, tmp_path: Path
) -> None:
    async with ScriptedMx(Mx({"RCPT": [UNAUTHENTICATED]})) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings, steady=Clock(1_800_000_000.0)) as relay:
            await relay.submit("first@dest.example", sender="")
            await relay.until("first@dest.example", Kind.BOUNCED)
            await relay.submit("parked@dest.example", sender="")
            await all_parked(relay)
            window = relay.shard.scheduler.window
            relay.shard.scheduler.released([("dest.example", "app")])
            assert window.readable(now=1_800_000_000.0, limit=1) == [("dest.example", "app")]
            await until(lambda: not window.readable(now=1_800_000_000.0, limit=1), what="it is read")


@pytest.mark.parametrize(
    ("sender_domain", "is_read"),
    [
        pytest.param("other.example", True, id="another's goes at once"),
        pytest.param("sender.example", False, id="what waits does not have the lane read"),
    ],
)
async def test_mail_that_is_stored_behind_the_walk_waits_for_its_own_way_alone(
    sender_domain: str, *, is_read: bool, nameserver: str, tmp_path: Path
) -> None:
    async with ScriptedMx(Mx({"RCPT": [UNAUTHENTICATED]})) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings, steady=Clock(1_800_000_000.0)) as relay:
            await relay.submit("first@dest.example", sender="")
            await relay.until("first@dest.example", Kind.BOUNCED)
            await relay.submit("parked@dest.example", sender="")
            await all_parked(relay)
            scheduler = relay.shard.scheduler
            late = message(relay.spool, "late@dest.example", sender="", sender_domain=sender_domain, accepted_at=1.0)
            await relay.spool.accept(late, hand_over=False)
            scheduler.stored(late)
            assert bool(scheduler.window.readable(now=1_800_000_000.0, limit=1)) == is_read
            if is_read:
                await relay.until("late@dest.example", Kind.DELIVERED)
