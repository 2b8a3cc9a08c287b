"""Whose message is next: equal shares, whatever queues there are, and first who had none."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from relay.delivery.fair_order import CREDIT, FairOrder, Sharer

NEWS, BLOG, SHOP = ("bulk", "news"), ("bulk", "blog"), ("transactional", "shop")


def sent(order: FairOrder, sharers: Sequence[Sharer], count: int, *, length: Callable[[Sharer], int]) -> list[Sharer]:
    """Whose messages go, where all of them always have some."""
    gone = []
    for sharer in sharers:
        order.wait(sharer)
    for _ in range(count):
        sharer = order.first()
        order.reach(order.place(sharer, count=length(sharer)))
        gone.append(sharer)
    return gone


def one(_sharer: Sharer) -> int:
    return 1


def test_all_have_the_same_share() -> None:
    gone = Counter(sent(FairOrder(), [NEWS, BLOG, SHOP], 300, length=one))
    assert set(gone.values()) == {100}


def test_what_counts_for_more_goes_less_often() -> None:
    gone = Counter(sent(FairOrder(), [NEWS, SHOP], 400, length=lambda sharer: 3 if sharer == NEWS else 1))
    assert gone[SHOP] == pytest.approx(3 * gone[NEWS], abs=3)


def test_who_had_none_comes_before_everybody_who_had_some() -> None:
    order = FairOrder()
    campaigns = [("bulk", f"campaign{number}") for number in range(1000)]
    sent(order, campaigns, 5000, length=one)
    order.wait(SHOP)
    assert order.first() == SHOP


def test_who_comes_late_makes_up_for_a_few_messages_only() -> None:
    order = FairOrder()
    sent(order, [NEWS], 1000, length=one)
    gone = sent(order, [NEWS, SHOP], 100, length=one)
    assert gone.count(SHOP) == pytest.approx(50 + CREDIT / 2, abs=1)


def test_what_was_not_sent_is_not_counted() -> None:
    order = FairOrder()
    sent(order, [NEWS, SHOP], 10, length=one)
    for _ in range(100):
        order.reach(order.place(NEWS))
        order.give_up(NEWS)
    gone = Counter(sent(order, [NEWS, SHOP], 100, length=one))
    assert gone[NEWS] == pytest.approx(50, abs=1)


def test_who_sends_no_more_is_forgotten() -> None:
    order = FairOrder()
    for number in range(1000):
        order.reach(order.place(("bulk", f"once{number}")))
        order.reach(order.place(NEWS))
    assert len(order._ends) < 300


def test_a_turn_costs_hardly_more_with_ten_thousand_that_wait() -> None:
    def seconds(waiting: int) -> float:
        order = FairOrder()
        campaigns = [("bulk", f"campaign{number}") for number in range(waiting)]
        sent(order, campaigns, 2 * waiting, length=one)
        began = time.process_time()
        sent(order, [], 2000, length=one)
        return time.process_time() - began

    assert min(seconds(10_000) for _ in range(3)) < 20 * min(seconds(10) for _ in range(3))


def test_what_is_never_sent_leaves_nothing_behind() -> None:
    order = FairOrder()
    for sharer in (NEWS, BLOG, SHOP):
        order.wait(sharer)
    for _ in range(1000):
        begun = sent(order, [], 2, length=one)
        order.first()
        for sharer in begun:
            order.give_up(sharer)
            order.leave(sharer)
            order.wait(sharer)
    assert len(order._line) < 300


class Plain:
    """Where each begins is looked up anew for every turn."""

    def __init__(self) -> None:
        self.ends: dict[Sharer, float] = {}
        self.reached = 0.0
        self.waiting: dict[Sharer, None] = {}

    def begins(self, sharer: Sharer) -> float:
        return max(self.reached - CREDIT, self.ends.get(sharer, 0.0))

    def first(self) -> Sharer:
        """Of several the one that has waited longest."""
        return min(self.waiting, key=self.begins)


sharers = st.sampled_from([("bulk", f"app{number}") for number in range(8)])


class AsPlain(RuleBasedStateMachine):
    """In whatever order all of it happens, the same one is first."""

    def __init__(self) -> None:
        super().__init__()
        self.order = FairOrder()
        self.plain = Plain()
        self.placed: list[tuple[Sharer, int]] = []

    @rule(sharer=sharers)
    def wait(self, sharer: Sharer) -> None:
        self.order.wait(sharer)
        self.plain.waiting.setdefault(sharer)

    @rule(sharer=sharers)
    def leave(self, sharer: Sharer) -> None:
        self.order.leave(sharer)
        self.plain.waiting.pop(sharer, None)

    @rule()
    def clear(self) -> None:
        self.order.clear()
        self.plain.waiting.clear()

    @precondition(lambda self: self.plain.waiting)
    @rule(turns=st.integers(1, 20), count=st.integers(1, 3))
    def send(self, turns: int, count: int) -> None:
        for _ in range(turns):
            sharer = self.plain.first()
            assert self.order.first() == sharer
            self.place(sharer, count=count)
            self.order.reach(self.plain.reached)

    def place(self, sharer: Sharer, *, count: int) -> None:
        begins = self.plain.begins(sharer)
        assert self.order.place(sharer, count=count) == begins
        self.plain.ends[sharer] = begins + count
        self.plain.reached = max(self.plain.reached, begins)
        self.placed.append((sharer, count))

    @precondition(lambda self: self.placed)
    @rule(turns=st.integers(1, 5))
    def give_up(self, turns: int) -> None:
        for _ in range(min(turns, len(self.placed))):
            sharer, count = self.placed.pop()
            self.order.give_up(sharer, count=count)
            if sharer in self.plain.ends:
                self.plain.ends[sharer] -= count

    @rule()
    def forget(self) -> None:
        self.order._forget()

    @precondition(lambda self: self.plain.waiting)
    @rule()
    def look(self) -> None:
        assert self.order.first() == self.plain.first()


AsPlain.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestAsPlain = AsPlain.TestCase
