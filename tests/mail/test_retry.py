"""Retry: when a deferred recipient is tried again, and that its last try is not lost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.retry import Defer, Expire, asked_wait, decide

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
LADDER = (1 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, 1 * HOUR, 2 * HOUR, 4 * HOUR)
MIDDLE = 0.5  # the random number that changes no wait of the ladder


def after(
    reply: str = "451 4.3.0 Not now",
    *,
    attempts: int = 1,
    now: float = 1000.0,
    expires_at: float = 5 * DAY,
    jitter: float = 0.2,
    random: float = MIDDLE,
) -> Defer | Expire:
    return decide(
        reply,
        attempts=attempts,
        accepted_at=0.0,
        expires_at=expires_at,
        now=now,
        ladder=LADDER,
        jitter=jitter,
        obey=HOUR,
        random=random,
    )


def wait(decision: Defer | Expire, now: float = 1000.0) -> float:
    assert isinstance(decision, Defer)
    return decision.until - now


@pytest.mark.parametrize(("attempts", "seconds"), [*enumerate(LADDER, start=1), (9, 4 * HOUR), (50, 4 * HOUR)])
def test_each_attempt_climbs_a_rung_and_the_last_repeats(attempts: int, seconds: float) -> None:
    decision = after(attempts=attempts)
    assert wait(decision) == seconds
    assert isinstance(decision, Defer)


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 48.0), (0.5, 60.0), (1.0, 72.0)])
def test_a_wait_is_changed_by_up_to_its_jitter(random: float, seconds: float) -> None:
    assert wait(after(random=random)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("reply", "seconds"),
    [
        pytest.param("451 4.7.1 Greylisted, please try again in 300 seconds", 300.0, id="seconds"),
        pytest.param("450 4.2.0 Greylisted for 5 minutes", 300.0, id="minutes"),
        pytest.param("451 Please retry after 1 hour", HOUR, id="an hour"),
        pytest.param("451 4.7.1 Greylisting in action, please come back in 00:04:58", 298.0, id="a clock"),
        pytest.param("421 4.7.0 Wait 90s before you come back", 90.0, id="a unit without a space"),
        pytest.param("451 Try again in\n10 min.", 600.0, id="over two lines"),
        pytest.param("451 You may try again in 2 hrs", 7200.0, id="hours"),
        pytest.param("451 4.7.1 Try again later", 0.0, id="no time"),
        pytest.param("451 At most 100 messages per 60 minutes, try again later", 0.0, id="a rate before the words"),
        pytest.param("451 Try again later, at most 10 messages per 60 minutes", 0.0, id="a rate after them"),
        pytest.param("421 4.7.0 [TSS04] Messages deferred - 4.16.55.1", 0.0, id="a version is no time"),
        pytest.param("550 5.1.1 User unknown", 0.0, id="nothing of the kind"),
        pytest.param("451 again " + "1" * 5000 + " seconds", 0.0, id="a number without end"),
    ],
)
def test_a_reply_may_ask_for_a_wait(reply: str, seconds: float) -> None:
    assert asked_wait(reply) == seconds


@pytest.mark.parametrize(
    ("reply", "attempts", "least", "most"),
    [
        pytest.param("451 try again in 300 seconds", 1, 300.0, 360.0, id="longer than the rung, never earlier"),
        pytest.param("451 try again in 30 seconds", 3, 30.0, 36.0, id="shorter than the rung"),
        pytest.param("451 try again in 5 hours", 1, HOUR, 1.2 * HOUR, id="an hour at most"),
        pytest.param("451 try again in 5 hours", 8, 3.2 * HOUR, 4.8 * HOUR, id="less than the rung once capped"),
        pytest.param("451 try again in 1 second", 9, 3.2 * HOUR, 4.8 * HOUR, id="not for ever"),
    ],
)
@pytest.mark.parametrize("random", [0.0, 0.3, 1.0])
def test_what_is_asked_is_obeyed_within_reason(
    reply: str, attempts: int, least: float, most: float, random: float
) -> None:
    decision = after(reply, attempts=attempts, random=random)
    if attempts == 8:
        assert wait(decision) <= most
    else:
        assert least <= wait(decision) <= most


def test_the_last_try_is_at_the_expiry_and_not_lost() -> None:
    assert after(attempts=8, now=5 * DAY - 60) == Defer(5 * DAY)
    assert after(attempts=9, now=5 * DAY) == Expire()


def test_an_expiry_before_acceptance_expires_at_the_first_failure() -> None:
    assert after(now=10.0, expires_at=-5.0) == Expire()


@given(
    st.text(max_size=200),
    st.integers(0, 100),
    st.floats(0, 6 * DAY),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 0.9),
)
def test_any_decision_is_forward_and_within_the_expiry(
    reply: str, attempts: int, now: float, random: float, jitter: float
) -> None:
    decision = after(reply, attempts=attempts, now=now, random=random, jitter=jitter)
    if isinstance(decision, Expire):
        assert now >= 5 * DAY
    else:
        assert now <= decision.until <= 5 * DAY


def test_five_days_hold_enough_tries() -> None:
    now, attempts = 0.0, 0
    while True:
        attempts += 1
        decision = after(attempts=attempts, now=now, jitter=0.0)
        if isinstance(decision, Expire):
            break
        now = decision.until
    # RFC 5321 4.5.4.1: two tries in the first hour, then every two or three; given up after four or five days.
    assert now == 5 * DAY
    assert 30 <= attempts <= 45
    assert math.isclose(sum(LADDER[:3]), 16 * MINUTE)
