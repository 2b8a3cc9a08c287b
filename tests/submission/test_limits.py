"""How much a credential may send, how many sessions there may be, and what is said beyond."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.models import SubmissionLimits
from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.submission.admission import ALL, UNAUTHENTICATED, Admission, Reason, admit, admit_trusted
from relay.submission.client import Client
from relay.submission.handover import hand_over
from relay.submission.limits import Excess, InProcessLimiter, Rates, Sessions, excess, limits_of
from relay.submission.services import Limits
from tests.submission.house import NOW, House, credential
from tests.submission.talk import MESSAGE, Talk

HERE = Client("192.0.2.7", "192.0.2.7")


def taken(rates: Rates, limits: Limits, at: list[float]) -> list[float]:
    return [rates.take("shop", limits, now=now) for now in at]


# -- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "at", "expected"),
    [
        pytest.param(Limits(), [0.0] * 5, [0.0] * 5, id="no limit"),
        pytest.param(Limits(second=2), [0.0, 0.0, 0.0], [0.0, 0.0, 0.5], id="two a second"),
        pytest.param(Limits(second=2), [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.5], id="the bucket fills"),
        pytest.param(
            Limits(second=2), [0.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.5], id="... and holds no more than a second's"
        ),
        pytest.param(Limits(hour=2), [0.0, 1.0, 2.0], [0.0, 0.0, 3598.0], id="two an hour"),
        pytest.param(Limits(hour=2), [0.0, 1800.0, 3599.0, 3600.0], [0.0, 0.0, 1.0, 0.0], id="the hour slides"),
        pytest.param(Limits(day=1), [0.0, 1440.0, 86400.0], [0.0, 84960.0, 0.0], id="one a day"),
        pytest.param(Limits(second=1, hour=1), [0.0, 0.0], [0.0, 3600.0], id="the longest wait counts"),
        pytest.param(Limits(hour=1), [100.0, 40.0], [0.0, 3620.0], id="a clock that goes back gives nothing away"),
        pytest.param(
            Limits(hour=1),
            [90000.0, 3600.0, 7140.0, 7200.0],
            [0.0, 3600.0, 60.0, 0.0],
            id="... and one that is set back by a day takes no more than an hour",
        ),
    ],
)
def test_rates(limits: Limits, at: list[float], expected: list[float]) -> None:
    assert taken(Rates(), limits, at) == expected


def test_a_refusal_counts_nothing() -> None:
    rates = Rates()
    limits = Limits(hour=1)
    assert taken(rates, limits, [0.0, *[1.0] * 100, 3600.0])[-1] == 0.0


def test_credentials_do_not_share() -> None:
    rates = Rates()
    assert rates.take("a", Limits(day=1), now=0.0) == 0.0
    assert rates.take("b", Limits(day=1), now=0.0) == 0.0


@given(
    steps=st.lists(st.tuples(st.floats(0, 400), st.integers(1, 3)), max_size=60),
    limits=st.builds(Limits, second=st.integers(0, 3), hour=st.integers(0, 20), day=st.integers(0, 50)),
)
def test_who_waits_as_told_may_and_nobody_gets_more_than_the_limit(
    steps: list[tuple[float, int]], limits: Limits
) -> None:
    rates, now, passed = Rates(), NOW, []
    for pause, count in steps:
        now += pause
        retry_after = rates.take("shop", limits, now=now, count=count)
        if retry_after and (not limits.hour or count <= limits.hour) and (not limits.day or count <= limits.day):
            now += retry_after + 1e-6
            assert rates.take("shop", limits, now=now, count=count) == 0.0
            retry_after = 0.0
        if not retry_after:
            passed.append((now, count))
    for length, limit in ((3600, limits.hour), (86400, limits.day)):
        for at, _ in passed:
            if limit:
                assert sum(count for when, count in passed if at - length + length / 60 < when <= at) <= limit


def test_the_windows_survive_a_restart() -> None:
    before, after, limits = Rates(), Rates(), Limits(hour=3, day=10)
    assert taken(before, limits, [NOW, NOW, NOW + 600]) == [0.0] * 3
    after.restore(before.counters())
    assert after.counters() == before.counters()
    assert after.take("shop", limits, now=NOW + 700) == before.take("shop", limits, now=NOW + 700) > 0


def test_what_cannot_have_changed_since_is_not_saved_again() -> None:
    rates, limits = Rates(), Limits(hour=10)
    taken(rates, limits, [NOW, NOW + 600])
    kept = {start: count for (_, window, start), count in rates.counters(since=NOW + 590).items() if window == "hour"}
    assert kept == {NOW + 600: 1}
    saved = rates.counters()
    taken(rates, limits, [NOW + 601, NOW + 4000])
    after = Rates()
    after.restore(saved | rates.counters(since=NOW + 600))
    assert after.counters() == saved | rates.counters()


def test_credentials_that_have_gone_quiet_are_forgotten() -> None:
    rates = Rates()
    for number in range(3000):
        rates.take(f"c{number}", Limits(day=5), now=0.0)
    for _ in range(1024):
        rates.take("busy", Limits(day=5000), now=90_000.0)
    assert len(rates) == 1


@given(steps=st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=60))
def test_what_is_given_back_was_never_taken(steps: list[tuple[float, bool]]) -> None:
    rates, without, limits, now = Rates(), Rates(), Limits(hour=8, day=20), NOW
    for pause, is_refused in steps:
        now += pause
        wait = rates.take("shop", limits, now=now)
        if is_refused:
            if not wait:
                rates.give_back("shop", limits)
        else:
            assert wait == without.take("shop", limits, now=now)


# -- what a client hears ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "seconds", "text"),
    [
        pytest.param(Limits(hour=100), 340.2, "may send 100 per hour; try again in 341 seconds", id="an hour"),
        pytest.param(
            Limits(second=5, day=1000), 0.2, "may send 5 per second, 1000 per day; try again in 1 sec", id="two"
        ),
    ],
)
def test_excess_is_transient_and_says_when_to_come_again(limits: Limits, seconds: float, text: str) -> None:
    reply = excess(limits, seconds)
    assert (reply.code, reply.status) == (451, "4.7.1")
    assert text in reply.text


def submitted_by(house: House, **fields: Any) -> Submitted:
    house.grant(credential(**fields))
    talk = Talk.ready(house)
    talk.outcome = None
    talk.say(b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.net>\r\n", b"DATA\r\n", MESSAGE + b".\r\n")
    return talk.messages[0]


async def test_over_the_limit_is_451_once_after_the_content_and_then_at_mail(house: House) -> None:
    over, services = Excess(), house.services()
    message = submitted_by(house, limit_hour=2)
    codes = [(await hand_over(message, services, over)).code for _ in range(3)]
    assert codes == [250, 250, 451]
    assert [event.reply[:9] for event in house.events] == ["451 4.7.1"]
    limits = limits_of(message.credential)
    assert over.left("shop", limits, now=NOW) == pytest.approx(3600, abs=61)
    assert over.left("shop", Limits(hour=3), now=NOW) == 0.0, "the operator has changed the limit"
    assert over.left("shop", limits, now=NOW + 61) == 0.0, "something may have been given back: ask anew"
    house.clock.time += 3600
    assert (await hand_over(message, services, over)).code == 250


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Reply(550, "5.7.1", "no such sender"), id="refused for good"),
        pytest.param(Reply(452, "4.3.1", "no room"), id="refused for now"),
        pytest.param(ValueError("a bug"), id="trouble of ours"),
    ],
)
async def test_a_message_that_is_refused_counts_for_no_limit(house: House, failure: Reply | Exception) -> None:
    message, services, over = submitted_by(house, limit_hour=1, limit_second=1), house.services(), Excess()
    accepted = house.inbox.reply
    if isinstance(failure, Reply):
        house.inbox.reply = failure
    else:
        house.inbox.failure = failure
    refused = [await hand_over(message, services, over) for _ in range(5)]
    assert not any("may send" in reply.text for reply in refused)
    house.inbox.reply, house.inbox.failure = accepted, None
    assert [(await hand_over(message, services, over)).code for _ in range(2)] == [250, 451]


async def test_what_breaks_is_451_and_the_client_keeps_its_message(house: House) -> None:
    message = submitted_by(house)
    house.inbox.failure = ValueError("a bug")
    reply = await hand_over(message, house.services(), Excess())
    assert str(reply) == f"451 4.3.0 Trouble here; try again later ({message.id})"
    assert "a bug" in house.logged() and message.id in house.logged()


async def test_an_in_process_limiter_asks_the_rates(house: House) -> None:
    limiter = InProcessLimiter(Rates(), now=house.clock)
    assert await limiter.take("shop", Limits(day=1), 1) == 0.0
    assert await limiter.take("shop", Limits(day=1), 1) > 0.0


# -- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_per_address_and_in_all() -> None:
    table = Sessions()
    limits = SubmissionLimits(sessions=8, sessions_per_address=3)
    outcomes = [admit(table, HERE, limits) for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [Admission] * 3 + [Reason]
    assert outcomes[3] is Reason.ADDRESS
    others = [admit(table, Client(str(number), str(number)), limits) for number in range(2)]
    assert others[1] is Reason.FULL, "half of all places at most are for those who have not authenticated"
    for outcome in (*outcomes, *others):
        if isinstance(outcome, Admission):
            outcome.leave()
            outcome.leave()
    assert table.count(ALL) == table.count(UNAUTHENTICATED) == table.count(f"address:{HERE.key}") == 0


def test_auth_gives_the_place_of_the_unauthenticated_back() -> None:
    table = Sessions()
    limits = SubmissionLimits(sessions=4, sessions_per_address=50)
    for _ in range(3):
        admission = admit(table, HERE, limits)
        assert isinstance(admission, Admission)
        assert admission.move_to_credential("shop", limit=3)
    assert table.count(UNAUTHENTICATED) == 0
    assert table.count("credential:shop") == table.count(ALL) == 3
    last = admit(table, HERE, limits)
    assert isinstance(last, Admission)
    assert not last.move_to_credential("shop", limit=3)
    last.leave()
    assert table.count(ALL) == 3


def test_a_trusted_listener_has_places_of_its_own() -> None:
    table = Sessions()
    assert isinstance(admit_trusted(table, "127.0.0.1:2525", limit=1), Admission)
    assert admit_trusted(table, "127.0.0.1:2525", limit=1) is Reason.FULL
    assert isinstance(admit(table, HERE, SubmissionLimits()), Admission)


def test_networks_of_a_client() -> None:
    assert HERE.is_in([ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24")])
    assert not Client("2001:db8::1", "").is_in([ip_network("10.0.0.0/8")])
