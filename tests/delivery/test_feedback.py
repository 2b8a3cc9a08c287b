"""What a site's replies teach: which quantity is lowered for what, and what is told of it."""

from relay.delivery.feedback import CHANGES, Feedback, Kind, Push

SAID = "421 4.7.0 Too many from mx3.example"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0


def site(*, connections: int, clock: Clock | None = None) -> Feedback:
    """Which has taken messages over so many connections, at 10 messages per second."""
    clock = clock or Clock()
    made = Feedback()
    made.most = 20
    while made.connections < connections:
        made.held = made.sessions = made.connections
        clock.now += made.connections / 10
        made.taken(made.connections, is_paced=False, now=clock.now, at=clock.now)
    made.held = made.sessions = made.connections
    return made


def push(kind: Kind, feedback: Feedback, *, in_session: bool = True) -> Push:
    return Push(kind, SAID, feedback.allowance.epoch, in_session)


def refused(feedback: Feedback, *, now: float = 100.0) -> list[str]:
    """A session more."""
    feedback.held += 1
    changes = feedback.pushed_back(push(Kind.REFUSED, feedback, in_session=False), now=now, at=now)
    feedback.held -= 1
    return [str(change) for change in changes]


def test_a_refused_session_is_told_with_its_numbers_and_cause() -> None:
    feedback = site(connections=18)
    assert refused(feedback) == [f"18 → 9 connections: {SAID}"]
    assert feedback.per_second == 0.0


def test_what_was_begun_before_a_lowering_lowers_nothing_more() -> None:
    feedback = site(connections=10)
    late = push(Kind.REFUSED, feedback, in_session=False)
    refused(feedback)
    assert feedback.pushed_back(late, now=100.0, at=100.0) == []
    assert feedback.connections == 5


def test_of_several_refused_at_once_the_last_tells_how_many_stay() -> None:
    feedback = site(connections=8)
    feedback.sessions = 5
    pushes = [push(Kind.REFUSED, feedback, in_session=False) for _ in range(3)]
    for each in pushes:
        feedback.pushed_back(each, now=100.0, at=100.0)
        feedback.held -= 1
    feedback.held = 5
    for _ in range(20):
        feedback.sessions = feedback.held = feedback.connections
        feedback.taken(1, is_paced=False, now=101.0, at=101.0)
    assert feedback.connections == 5


def test_a_reply_that_asks_for_less_halves_both_and_then_the_rate() -> None:
    clock = Clock()
    feedback = site(connections=10, clock=clock)
    changes = feedback.pushed_back(push(Kind.SLOW, feedback), now=clock.now, at=clock.now)
    assert [change.what for change in changes] == ["connections", "messages_per_second"]
    rate = feedback.per_second
    assert 4.0 <= rate <= 6.0  # half of what was taken
    feedback.pushed_back(push(Kind.SLOW, feedback), now=clock.now + 3, at=clock.now)
    assert (feedback.connections, feedback.per_second) == (5, rate / 2)


def test_a_session_that_breaks_says_nothing_of_a_rate() -> None:
    feedback = site(connections=10)
    feedback.pushed_back(push(Kind.BROKEN, feedback), now=100.0, at=100.0)
    assert (feedback.connections, feedback.per_second) == (5, 0.0)


def test_a_reply_of_connections_alone_says_nothing_of_a_rate() -> None:
    feedback = site(connections=10)
    changes = feedback.pushed_back(push(Kind.TOO_MANY, feedback), now=100.0, at=100.0)
    assert [str(change) for change in changes] == [f"10 → 5 connections: {SAID}"]
    for _ in range(40):
        feedback.taken(1, is_paced=False, now=101.0, at=101.0)
        feedback.sessions = feedback.held = feedback.connections
    assert feedback.connections == 9  # the others that were open: it grows back to them


def test_a_rule_that_says_so_halves_the_connections_each_time() -> None:
    clock = Clock()
    feedback = site(connections=8, clock=clock)
    for _ in range(2):
        feedback.pushed_back(push(Kind.HALVE, feedback), now=clock.now, at=clock.now)
    assert feedback.connections == 2


def test_connections_that_are_not_used_do_not_become_more() -> None:
    feedback = site(connections=4)
    feedback.held = feedback.sessions = 3
    feedback.taken(100, is_paced=False, now=1.0, at=1.0)
    assert feedback.connections == 4


def test_connections_that_wait_for_their_pace_do_not_become_more() -> None:
    feedback = site(connections=4)
    feedback.taken(100, is_paced=True, now=1.0, at=1.0)
    assert feedback.connections == 4


def test_a_rate_that_holds_nothing_up_does_not_become_more_and_is_forgotten_after_an_hour() -> None:
    clock = Clock()
    feedback = site(connections=4, clock=clock)
    feedback.pushed_back(push(Kind.SLOW, feedback), now=clock.now, at=clock.now)
    rate = feedback.per_second
    for seconds in range(0, 3600, 60):
        feedback.taken(100, is_paced=False, now=clock.now + seconds, at=clock.now)
    assert feedback.per_second == rate
    feedback.taken(1, is_paced=False, now=clock.now + 3600, at=clock.now)
    assert feedback.per_second == 0.0


def test_a_site_that_takes_mail_may_refuse_as_many_as_were_allowed_before_it_is_in_trouble() -> None:
    feedback = site(connections=3)
    feedback.sessions = 0  # each was closed after its message
    asked = push(Kind.REFUSED, feedback, in_session=False)
    assert [feedback.is_one_too_many(asked) for _ in range(4)] == [True, True, True, False]


def test_a_site_that_never_took_any_is_in_trouble_at_once() -> None:
    feedback = Feedback()
    feedback.held = 2
    assert not feedback.is_one_too_many(push(Kind.REFUSED, feedback, in_session=False))


def test_growth_is_one_change_and_lowerings_are_kept() -> None:
    feedback = site(connections=10)
    assert [str(change) for change in feedback.allowance.changes] == ["2 → 10 connections: all was taken"]
    for now in range(CHANGES):
        refused(feedback, now=float(now))
        feedback.held = feedback.sessions = feedback.connections
        feedback.taken(100, is_paced=False, now=float(now), at=float(now))
    assert len(feedback.allowance.changes) == CHANGES
