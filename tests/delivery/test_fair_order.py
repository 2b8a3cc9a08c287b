"""Whose message is next: equal shares, whatever queues there are, and first who had none."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from relay.delivery.fair_order import CREDIT, FairOrder, Sharer

NEWS, BLOG, SHOP = ("bulk", "news"), ("bulk", "blog"), ("transactional", "shop")


def sent(order: FairOrder, sharers: Sequence[Sharer], count: int, *, length: Callable[[Sharer], int]) -> list[Sharer]:
    """Whose messages go, where all of them always have some."""
    gone = []
    for _ in range(count):
        sharer = order.first(sharers)
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
    assert order.first([*campaigns, SHOP]) == SHOP


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
