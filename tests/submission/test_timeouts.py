"""Who has taken too long, with a clock that is moved by hand."""

import pytest

from relay.config.models import SubmissionLimits
from relay.submission.timeouts import Watch
from tests.submission.house import House
from tests.submission.talk import MESSAGE, Talk

LIMITS = SubmissionLimits()
MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.net>\r\n"


def verdicts(talk: Talk, steps: list[tuple[float, bytes]]) -> list[str]:
    """Each step: a time, what the client sends just before it; and what the sweep then says."""
    watch, said = Watch(0.0), []
    for now, octets in steps:
        if octets:
            talk.say(octets)
        reply = watch.overdue(talk.session, LIMITS, now=now)
        said.append(f"{reply.code} {reply.status}" if reply else "")
    return said


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([(59.0, b"")], [""], id="silent, not yet"),
        pytest.param([(60.0, b"")], ["421 4.7.0"], id="silent for 60 s"),
        pytest.param(
            [(20.0, b"EHLO c\r\n"), (40.0, b"NOOP\r\n"), (60.0, b"NOOP\r\n")], ["", "", "421 4.7.0"], id="busy for 60 s"
        ),
        pytest.param([(50.0, b"AUTH PLA")], [""], id="within a line"),
    ],
)
def test_before_auth_there_is_a_time_in_all(
    house: House, steps: list[tuple[float, bytes]], expected: list[str]
) -> None:
    assert verdicts(Talk(house), steps) == expected


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param([(1.0, b""), (300.0, b""), (301.0, b"")], ["", "", "421 4.4.2"], id="idle for 5 min"),
        pytest.param(
            [(1.0, b""), (299.0, b"NOOP\r\n"), (598.0, b""), (599.0, b"")], ["", "", "", "421 4.4.2"], id="later"
        ),
        pytest.param([(1.0, b""), (200.0, b"N"), (400.0, b"O"), (650.0, b"O")], ["", "", "", ""], id="slow typing"),
    ],
)
def test_after_auth_silence_counts(house: House, steps: list[tuple[float, bytes]], expected: list[str]) -> None:
    assert verdicts(Talk.ready(house), steps) == expected


def in_data(house: House) -> Talk:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT, b"DATA\r\n")
    return talk


def test_content_may_not_stand_still(house: House) -> None:
    assert verdicts(in_data(house), [(1.0, b"From: "), (300.0, b""), (301.0, b"")]) == ["", "", "421 4.4.2"]


def test_content_must_come_at_1_kib_a_second_over_5_minutes(house: House) -> None:
    second = b"x" * 98 + b"\r\n"
    slow = [(float(at), second * 10) for at in range(1, 303)]
    assert verdicts(in_data(house), slow)[-2:] == ["421 4.7.0", "421 4.7.0"]
    fast = [(float(at), second * 11) for at in range(1, 1000)]
    assert set(verdicts(in_data(house), fast)) == {""}


def test_each_window_is_measured_anew(house: House) -> None:
    burst = [(1.0, b"line\r\n" * 500_000)]
    trickle = [(float(at), b"x\r\n") for at in range(2, 700)]
    said = verdicts(in_data(house), burst + trickle)
    assert said.index("421 4.7.0") == 600, "the burst pays for its own five minutes only"


def test_the_time_of_a_commit_is_ours(house: House) -> None:
    talk = in_data(house)
    talk.outcome = None
    said = verdicts(talk, [(1.0, MESSAGE + b".\r\n"), (1000.0, b""), (2000.0, b"")])
    assert said == ["", "", ""]


def test_the_sessions_of_a_trusted_listener_are_idle_only(house: House) -> None:
    assert verdicts(Talk(house, trusted="shop"), [(100.0, b""), (300.0, b"")]) == ["", "421 4.4.2"]
