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
OK = "250 2.0.0"


def with_strangers(rates: Rates, limits: Limits, steps: list[tuple[float, int]]) -> list[float]:
    return [rates.take("shop", limits, now=now, first_time=count) for now, count in steps]


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


@pytest.mark.parametrize(
    ("limits", "steps", "expected"),
    [
        pytest.param(Limits(), [(0.0, 99), (0.0, 99)], [0.0, 0.0], id="no limit"),
        pytest.param(Limits(first_time=3), [(0.0, 2), (0.0, 1), (0.0, 1)], [0.0, 0.0, 86400.0], id="recipients count"),
        pytest.param(Limits(first_time=2), [(0.0, 2), (9.0, 0), (9.0, 1)], [0.0, 0.0, 86391.0], id="known ones go on"),
        pytest.param(Limits(first_time=2), [(0.0, 3), (0.0, 2)], [86400.0, 0.0], id="more at once than ever allowed"),
        pytest.param(
            Limits(first_time=2),
            [(0.0, 1), (43200.0, 2), (43200.0, 1), (86400.0, 1)],
            [0.0, 43200.0, 0.0, 0.0],
            id="the day slides, and what is refused counts nothing",
        ),
        pytest.param(
            Limits(hour=1, first_time=1),
            [(0.0, 1), (1.0, 0), (3600.0, 1), (3600.0, 0)],
            [0.0, 3599.0, 82800.0, 0.0],
            id="all limits or none: what one refuses counts for no other",
        ),
        pytest.param(Limits(first_time=1), [(86400.0, 1), (0.0, 1)], [0.0, 86400.0], id="the clock is set back"),
    ],
)
def test_rates_of_first_time_recipients(limits: Limits, steps: list[tuple[float, int]], expected: list[float]) -> None:
    assert with_strangers(Rates(), limits, steps) == expected


def test_a_limit_that_was_lowered_stops_strangers_and_nobody_else() -> None:
    rates = Rates()
    assert with_strangers(rates, Limits(first_time=9), [(0.0, 9)]) == [0.0]
    assert with_strangers(rates, Limits(first_time=3), [(0.0, 0), (0.0, 1)]) == [0.0, 86400.0]


def test_a_refusal_counts_nothing() -> None:
    rates = Rates()
    limits = Limits(hour=1)
    assert taken(rates, limits, [0.0, *[1.0] * 100, 3600.0])[-1] == 0.0


def test_credentials_do_not_share() -> None:
    rates = Rates()
    assert rates.take("a", Limits(day=1), now=0.0) == 0.0
    assert rates.take("b", Limits(day=1), now=0.0) == 0.0


def is_ever_allowed(limits: Limits, count: int, first_time: int) -> bool:
    asked = ((limits.hour, count), (limits.day, count), (limits.first_time, first_time))
    return all(not limit or wanted <= limit for limit, wanted in asked)


@given(
    steps=st.lists(st.tuples(st.floats(0, 400), st.integers(1, 3), st.integers(0, 5)), max_size=60),
    limits=st.builds(
        Limits, second=st.integers(0, 3), hour=st.integers(0, 20), day=st.integers(0, 50), first_time=st.integers(0, 30)
    ),
)
def test_who_waits_as_told_may_and_nobody_gets_more_than_the_limit(
    steps: list[tuple[float, int, int]], limits: Limits
) -> None:
    rates, now, passed = Rates(), NOW, []
    for pause, count, strangers in steps:
        now += pause
        retry_after = rates.take("shop", limits, now=now, count=count, first_time=strangers)
        if retry_after and is_ever_allowed(limits, count, strangers):
            now += retry_after + 1e-6
            assert rates.take("shop", limits, now=now, count=count, first_time=strangers) == 0.0
            retry_after = 0.0
        if not retry_after:
            passed.append((now, count, strangers))
    for length, limit, column in ((3600, limits.hour, 1), (86400, limits.day, 1), (86400, limits.first_time, 2)):
        for at, *_ in passed:
            if limit:
                assert sum(step[column] for step in passed if at - length + length / 60 < step[0] <= at) <= limit


def test_the_windows_survive_a_restart() -> None:
    before, after, limits = Rates(), Rates(), Limits(hour=3, day=10, first_time=4)
    assert with_strangers(before, limits, [(NOW, 0), (NOW, 1), (NOW + 600, 3)]) == [0.0] * 3
    after.restore(before.counters())
    assert after.counters() == before.counters()
    assert after.take("shop", limits, now=NOW + 700) == before.take("shop", limits, now=NOW + 700) > 0
    later = [(NOW + 3700, 0), (NOW + 3700, 1)]
    assert with_strangers(after, limits, later) == with_strangers(before, limits, later)


@given(
    pauses=st.lists(st.floats(0.0, 40_000.0), min_size=1, max_size=60),
    counts=st.lists(st.integers(1, 4), min_size=60, max_size=60),
)
def test_no_calendar_day_has_more_than_a_day_may(pauses: list[float], counts: list[int]) -> None:
    """UTC's. Nor has one of them whose limit is larger than the day's before."""
    rates, now, days = Rates(), 20_800 * 86_400.0, dict[int, int]()
    for pause, count in zip(pauses, counts, strict=False):
        now += pause
        day = int(now // 86_400)
        if rates.take("shop", Limits(day=5 + day - 20_800), now=now, count=count) == 0.0:
            days[day] = days.get(day, 0) + count
    assert all(sent <= 5 + day - 20_800 for day, sent in days.items())


def test_what_was_sent_in_the_last_hour_and_day_is_told() -> None:
    rates = Rates()
    assert rates.used("shop", now=NOW) == {}
    rates.take("blog", Limits(day=1), now=NOW)
    for ago, count in ((90_000, 7), (80_000, 5), (7200, 3), (60, 2)):
        rates.take("shop", Limits(hour=10, day=20), now=NOW - ago, count=count)
    assert rates.used("sh", now=NOW) == {"shop": (2, 10)}
    assert rates.used("sh", now=NOW + 3600) == {"shop": (0, 10)}


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


@given(steps=st.lists(st.tuples(st.floats(0, 200), st.booleans(), st.integers(0, 3)), max_size=60))
def test_what_is_given_back_was_never_taken(steps: list[tuple[float, bool, int]]) -> None:
    rates, without, limits, now = Rates(), Rates(), Limits(hour=8, day=20, first_time=9), NOW
    for pause, is_refused, strangers in steps:
        now += pause
        wait = rates.take("shop", limits, now=now, first_time=strangers)
        if is_refused:
            if not wait:
                rates.give_back("shop", limits, first_time=strangers)
        else:
            assert wait == without.take("shop", limits, now=now, first_time=strangers)


# -- what a client hears ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "seconds", "strangers", "text"),
    [
        pytest.param(Limits(hour=100), 340.2, 0, "may send 100 per hour; try again in 341 seconds", id="an hour"),
        pytest.param(
            Limits(second=5, day=1000), 0.2, 0, "may send 5 per second, 1000 per day; try again in 1 sec", id="two"
        ),
        pytest.param(
            Limits(first_time=20),
            1440.0,
            3,
            "may send to 20 first-time recipients per day (this message has 3); try again in 1440 seconds",
            id="first-time recipients",
        ),
        pytest.param(
            Limits(day=9, first_time=20),
            1440.0,
            1,
            "may send 9 per day, to 20 first-time recipients per day (this message has 1); try again in 1440 seconds",
            id="both",
        ),
        pytest.param(
            Limits(day=9, first_time=20), 1.0, 0, "may send 9 per day; try", id="who has none hears nothing of them"
        ),
        pytest.param(
            Limits(first_time=20),
            86400.0,
            21,
            "may send to 20 first-time recipients per day (this message has 21); send it to fewer at once",
            id="no time is enough for so many at once",
        ),
    ],
)
def test_excess_is_transient_and_says_when_to_come_again(
    limits: Limits, seconds: float, strangers: int, text: str
) -> None:
    reply = excess(limits, seconds, first_time=strangers)
    assert (reply.code, reply.status) == (451, "4.7.1")
    assert text in reply.text


def submitted_by(house: House, *recipients: str, **fields: Any) -> Submitted:
    house.grant(credential(**fields))
    talk = Talk.ready(house)
    talk.outcome = None
    wanted = [f"RCPT TO:<{each}>\r\n".encode() for each in recipients or ("b@example.net",)]
    talk.say(b"MAIL FROM:<a@example.com> SMTPUTF8\r\n", *wanted, b"DATA\r\n", MESSAGE + b".\r\n")
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


# -- first-time recipients -------------------------------------------------------------------------------------------


async def handed_over(house: House, over: Excess, *recipients: str, **fields: Any) -> str:
    reply = await hand_over(submitted_by(house, *recipients, **fields), house.services(), over)
    return f"{reply.code} {reply.status}"


async def test_known_recipients_go_on_getting_mail_when_strangers_are_over_the_limit(house: House) -> None:
    house.acquaintances.sent_to("shop", ["known@example.net"])
    over, limit = Excess(), {"limit_first_time": 2}
    assert await handed_over(house, over, "known@example.net", "one@example.net", "two@example.net", **limit) == OK
    assert await handed_over(house, over, "three@example.net", **limit) == "451 4.7.1"
    assert over.left("shop", Limits(first_time=2), now=NOW) == 0.0, "the next MAIL may be for those who are known"
    assert await handed_over(house, over, "one@example.net", "two@example.net", "known@example.net", **limit) == OK
    assert await handed_over(house, over, "known@example.net", "three@example.net", **limit) == "451 4.7.1"
    house.clock.time += 86400
    assert await handed_over(house, over, "three@example.net", **limit) == OK


async def test_a_refusal_says_what_the_limit_is_in_the_journal_too(house: House) -> None:
    await handed_over(house, Excess(), "a@example.net", "b@example.net", limit_first_time=1)
    (event,) = house.events
    assert event.reply == (
        "451 4.7.1 This credential may send to 1 first-time recipients per day (this message has 2);"
        " send it to fewer at once"
    )


async def test_a_limit_of_messages_is_hinted_at_only_where_no_stranger_may_be_the_reason(house: House) -> None:
    over, limits = Excess(), {"limit_hour": 1, "limit_first_time": 9}
    assert await handed_over(house, over, "a@example.net", **limits) == OK
    assert await handed_over(house, over, "b@example.net", **limits) == "451 4.7.1"
    assert over.left("shop", Limits(hour=1, first_time=9), now=NOW) == 0.0
    assert await handed_over(house, over, "a@example.net", **limits) == "451 4.7.1"
    assert over.left("shop", Limits(hour=1, first_time=9), now=NOW) > 0.0


async def test_strangers_of_a_message_that_is_refused_are_strangers_still_and_counted_for_nothing(house: House) -> None:
    accepted, house.inbox.reply = house.inbox.reply, Reply(550, "5.7.1", "no such sender")
    over, limit = Excess(), {"limit_first_time": 1}
    refused = [await handed_over(house, over, "new@example.net", **limit) for _ in range(3)]
    assert refused == ["550 5.7.1"] * 3 and not house.acquaintances.known
    house.inbox.reply = accepted
    assert [await handed_over(house, over, f"{name}@example.net", **limit) for name in "ab"] == [OK, "451 4.7.1"]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        pytest.param("Ann@example.net", "Ann@EXAMPLE.net", OK, id="the domain's case does not matter"),
        pytest.param("Ann@example.net", "ann@example.net", "451 4.7.1", id="the local part's does"),
        pytest.param(
            "ann@bücher.example", "ann@xn--bcher-kva.example", OK, id="a domain is the same in both its forms"
        ),
    ],
)
async def test_who_is_the_same_recipient(house: House, first: str, second: str, outcome: str) -> None:
    assert await handed_over(house, Excess(), first, limit_first_time=1) == OK
    assert await handed_over(house, Excess(), second, limit_first_time=1) == outcome


async def test_without_the_limit_nobody_is_asked(house: House) -> None:
    assert await handed_over(house, Excess(), limit_hour=5) == OK
    assert not house.acquaintances.asked and not house.acquaintances.known


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
