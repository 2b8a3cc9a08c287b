"""The ledger's verdict on what was told to it."""

import pytest

from tests.faults.ledger import Arrival, Fate, Ledger, Sent

KEY = ("t1", "ann@a.test")
IN_FLIGHT = 1.0


def ledger(*arrivals: Arrival, fate: Fate = Fate.ACKNOWLEDGED, faults: tuple[tuple[float, float], ...] = ()) -> Ledger:
    """One message to Ann was sent, with this fate."""
    made = Ledger(in_flight=IN_FLIGHT)
    made.sent(Sent("t1", ("ann@a.test",), fate, "id1", "the reply"))
    for arrival in arrivals:
        made.arrived(arrival)
    for began, ended in faults:
        made.fault(began, ended)
    return made


def copy(
    at: float = 10.0,
    *,
    answered: bool = True,
    intact: bool = True,
    token: str = "t1",
    gone_after: float = float("inf"),
) -> Arrival:
    return Arrival(token, "ann@a.test", at, answered, intact, gone_after)


def test_what_was_acknowledged_and_came_once_is_as_it_should_be() -> None:
    verdict = ledger(copy()).verdict()
    assert verdict.is_clean
    assert (verdict.messages, verdict.recipients, verdict.arrived) == (1, 1, 1)


def test_what_was_acknowledged_and_is_nowhere_is_lost() -> None:
    verdict = ledger().verdict()
    assert verdict.lost == [KEY]
    assert not verdict.is_clean


def test_what_is_still_owed_is_not_lost() -> None:
    assert ledger().verdict(owed=[KEY]).is_clean


def test_what_was_reported_is_not_lost() -> None:
    reported = ledger()
    reported.reported(*KEY)
    assert reported.verdict().is_clean


@pytest.mark.parametrize("fate", [fate for fate in Fate if fate is not Fate.ACKNOWLEDGED])
def test_what_was_not_acknowledged_cannot_be_lost(fate: Fate) -> None:
    assert ledger(fate=fate).verdict().is_clean


@pytest.mark.parametrize(
    ("fate", "may_arrive"),
    [
        pytest.param(Fate.UNKNOWN, True, id="a client that lost its connection after the dot"),
        pytest.param(Fate.TROUBLED, True, id="a client that was told of trouble"),
        pytest.param(Fate.REFUSED, False, id="a client that was refused"),
        pytest.param(Fate.UNSENT, False, id="a client that never came to the end"),
    ],
)
def test_what_arrives_unacknowledged_belongs_to(fate: Fate, *, may_arrive: bool) -> None:
    verdict = ledger(copy(), fate=fate).verdict()
    assert bool(verdict.made_up) is not may_arrive
    assert verdict.unacknowledged == may_arrive


def test_what_nobody_sent_is_made_up() -> None:
    assert ledger(copy(), copy(token="t2")).verdict().made_up == [(("t2", "ann@a.test"), "never sent")]


def test_another_body_is_altered() -> None:
    assert ledger(copy(intact=False)).verdict().altered == [KEY]


@pytest.mark.parametrize(
    ("first", "faults", "age", "has_cause"),
    [
        pytest.param(copy(10.0), ((10.3, 12.0),), 0.3, True, id="just before a fault"),
        pytest.param(copy(10.0), ((9.0, 12.0),), 0.0, True, id="while a fault lasts"),
        pytest.param(copy(10.0), ((11.5, 12.0),), 1.5, False, id="long before a fault"),
        pytest.param(copy(10.0), ((8.0, 9.0),), float("inf"), False, id="after the fault"),
        pytest.param(copy(10.0), ((21.0, 22.0),), float("inf"), False, id="with a fault after both"),
        pytest.param(copy(10.0), (), float("inf"), False, id="without a fault"),
        pytest.param(copy(10.0, answered=False), (), 0.0, True, id="without an answer"),
        pytest.param(copy(10.0, gone_after=0.01), (), 0.01, True, id="to a client that was gone"),
        pytest.param(copy(10.0, gone_after=5.0), (), 5.0, False, id="to a client that went long after"),
        pytest.param(copy(10.0), ((11.5, 12.0), (10.1, 10.2)), 0.1, True, id="before two faults"),
    ],
)
def test_a_second_copy_where_the_first_came(
    first: Arrival, faults: tuple[tuple[float, float], ...], age: float, *, has_cause: bool
) -> None:
    verdict = ledger(first, copy(20.0), faults=faults).verdict()
    (doubled,) = verdict.doubled
    assert (doubled.key, doubled.copies) == (KEY, 2)
    assert doubled.age == pytest.approx(age)
    assert bool(verdict.doubled_without_cause) is not has_cause


def test_three_copies_are_judged_by_the_one_that_had_waited_longest() -> None:
    verdict = ledger(copy(10.0), copy(10.2), copy(20.0), faults=((10.1, 10.15), (12.0, 13.0))).verdict()
    assert verdict.doubled[0].copies == 3
    assert verdict.doubled_without_cause


def test_a_token_is_sent_once() -> None:
    made = ledger()
    with pytest.raises(ValueError, match="before"):
        made.sent(Sent("t1", (), Fate.REFUSED))
