import time
from collections.abc import Callable

import pytest

from relay.delivery.lane import EVERY
from relay.delivery.routing import DIRECT, Direct, Smarthost, Way
from relay.delivery.window import Window

SMARTHOST = Smarthost("smarthost.example", 587, "starttls")
THROUGH_IT = Way.of(SMARTHOST)
APP = "app"


def filled(window: Window, domain: str, count: int, credential: str = APP) -> None:
    for number in range(count):
        window.claim(domain, credential, (domain + credential, number))


def emptied(window: Window, domain: str, count: int, credential: str = APP) -> None:
    for number in range(count):
        window.release(domain, credential, (domain + credential, number))


def read_whole(window: Window, domain: str) -> None:
    window.next_page(domain, APP)
    window.page_read(domain, APP, last=None)


def test_a_domain_may_not_fill_the_window() -> None:
    window = Window(4000)
    filled(window, "slow.example", window.per_domain)
    assert not window.admits("slow.example", APP)
    assert window.admits("other.example", APP)


def test_a_domain_full_of_one_credentials_mail_has_room_for_anothers() -> None:
    window = Window(4000)
    filled(window, "big.example", window.per_domain)
    window.mark_more("big.example", APP)
    assert not window.admits_fresh(["big.example"], APP, count=1)
    for number in range(window.per_domain // 2):
        assert window.admits_fresh(["big.example"], "other", count=1)
        assert window.admits("big.example", "other")
        window.claim("big.example", "other", ("other", number))
    assert not window.admits_fresh(["big.example"], "other", count=1)
    assert window.admits_fresh(["big.example"], "third", count=1)


def test_a_lane_with_more_on_disk_is_read_again_once_half_of_its_share_is_free() -> None:
    window = Window(4000)
    filled(window, "big.example", window.per_domain)
    window.mark_more("big.example", APP)
    assert window.readable(now=0.0, limit=10) == []
    emptied(window, "big.example", window.per_domain // 2)
    assert window.readable(now=0.0, limit=10) == [("big.example", APP)]
    assert window.room_for("big.example", APP) == window.per_domain // 2
    read_whole(window, "big.example")
    assert window.readable(now=0.0, limit=10) == []


def test_it_is_told_once_when_a_lane_may_be_read_again() -> None:
    told: list[int] = []
    window = Window(4000, has_room=lambda: told.append(len(window)))
    for domain in ("big.example", "done.example"):
        filled(window, domain, window.per_domain)
    window.mark_more("big.example", APP)
    for number in range(window.per_domain):
        window.release("big.example", APP, ("big.example" + APP, number))
        window.release("done.example", APP, ("done.example" + APP, number))
    assert told == [window.per_domain + 1]


@pytest.mark.parametrize(
    ("count", "then"),
    [
        pytest.param(100, [50], id="a full window, once half of it is free"),
        pytest.param(99, [], id="one that was not full kept nothing on disk"),
    ],
)
def test_it_is_told_when_a_window_has_room_again(count: int, then: list[int]) -> None:
    told: list[int] = []
    window = Window(100, has_room=lambda: told.append(len(window)))
    filled(window, "big.example", count)
    emptied(window, "big.example", count)
    assert told == then


def test_a_lane_is_read_page_by_page() -> None:
    window = Window(4000)
    window.mark_more("big.example", APP)
    assert window.next_page("big.example", APP) is None
    window.page_read("big.example", APP, last=(5.0, 1, 0))
    assert window.readable(now=0.0, limit=10) == [("big.example", APP)]
    assert window.next_page("big.example", APP) == (5.0, 1, 0)
    window.page_read("big.example", APP, last=None)
    assert window.readable(now=0.0, limit=10) == []


def test_a_way_that_is_parked_leaves_the_domains_other_ways_open() -> None:
    window = Window(4000)
    window.park("half.example", THROUGH_IT, site="smarthost.example:587", hop=SMARTHOST, until=100.0)
    assert list(window.parked("half.example", now=99.0)) == [(THROUGH_IT, "")]
    assert window.readable(now=99.0, limit=10) == []
    assert window.admits("half.example", APP)
    assert window.admits_fresh(["half.example"], APP, count=1)


def test_what_waits_is_read_when_a_way_is_parked_no_longer() -> None:
    window = Window(4000)
    window.park("dead.example", DIRECT, site="mx.dead.example", hop=Direct(), until=100.0)
    window.mark_waiting("dead.example", APP)
    assert list(window.parked("dead.example", now=100.0)) == []
    assert window.readable(now=99.0, limit=10) == []
    assert window.readable(now=100.0, limit=10) == [("dead.example", APP)]
    read_whole(window, "dead.example")
    assert window.readable(now=200.0, limit=10) == []


def test_each_parking_ends_in_its_time() -> None:
    window = Window(4000)
    for domain, until in (("a.example", 100.0), ("b.example", 300.0), ("c.example", 200.0)):
        window.park(domain, DIRECT, site="mx", hop=Direct(), until=until)
        window.mark_waiting(domain, APP)
    found = []
    for now in (99.0, 100.0, 200.0, 300.0):
        found.append(window.readable(now=now, limit=10))
        for domain, _ in found[-1]:
            read_whole(window, domain)
    assert found == [[], [("a.example", APP)], [("c.example", APP)], [("b.example", APP)]]


@pytest.mark.parametrize("all_sites", [True, False])
def test_what_waits_is_read_when_its_site_is_resumed(*, all_sites: bool) -> None:
    window = Window(4000)
    window.park("dead.example", DIRECT, site="mx.dead.example", hop=Direct(), until=100.0)
    window.mark_waiting("dead.example", APP)
    window.unpark("mx.other.example")
    assert window.readable(now=1.0, limit=10) == []
    if all_sites:
        window.unpark_all()
    else:
        window.unpark("mx.dead.example")
    assert window.readable(now=1.0, limit=10) == [("dead.example", APP)]


def test_an_operator_can_have_a_parked_domain_read_at_once() -> None:
    window = Window(4000)
    window.park("dead.example", DIRECT, site="mx.dead.example", hop=Direct(), until=100.0)
    window.mark_waiting("dead.example", "other")
    window.urge("dead.example", APP)
    assert sorted(window.readable(now=1.0, limit=10)) == [("dead.example", APP), ("dead.example", "other")]
    assert window.take_urge("dead.example")
    assert not window.take_urge("dead.example")


def test_what_is_marked_while_a_lane_is_read_is_read_again() -> None:
    window = Window(4000)
    window.mark_more("busy.example", APP)
    window.next_page("busy.example", APP)
    window.mark_more("busy.example", APP)
    window.page_read("busy.example", APP, last=None)
    assert window.readable(now=0.0, limit=10) == [("busy.example", APP)]
    assert window.next_page("busy.example", APP) is None


def test_fresh_mail_finds_room_when_old_mail_has_filled_the_window() -> None:
    window = Window(1000)
    for number in range(15):
        filled(window, f"old{number}.example", 50)
    assert not window.admits("old.example", APP)
    window.leave("old.example", APP)
    fresh = 0
    while window.admits_fresh([f"fresh{fresh}.example"], APP, count=1):
        window.claim_fresh(f"fresh{fresh}.example", APP, ("fresh", fresh))
        fresh += 1
    assert fresh == 188


def test_fresh_mail_does_not_starve_what_its_credential_has_on_disk() -> None:
    window = Window(1000)
    window.mark_more(EVERY, APP)
    window.claim("old.example", APP, ("old", 0))
    for number in range(250):
        assert window.admits_fresh(["new.example"], APP, count=1)
        window.claim_fresh("new.example", APP, ("new", number))
        window.release("new.example", APP, ("new", number))
    assert not window.admits_fresh(["new.example"], APP, count=1)
    window.next_page(EVERY, APP)
    window.page_read(EVERY, APP, last=(5.0, 1, 0))
    assert window.admits_fresh(["new.example"], APP, count=1)


def _full_of_one_credential() -> Window:
    window = Window(1000)
    for number in range(750):
        window.claim(f"d{number}.example", APP, ("m", number))
    return window


def test_lanes_of_a_credential_that_has_no_room_are_read_as_a_whole() -> None:
    window = _full_of_one_credential()
    for number in range(5000):
        window.mark_more(f"released{number}.example", APP)
    assert window.readable(now=0.0, limit=10) == []
    assert len(window._domains) == 750
    for number in range(150):
        window.release(f"d{number}.example", APP, ("m", number))
    assert window.readable(now=0.0, limit=10) == [(EVERY, APP)]


def test_what_an_operator_wants_tried_does_not_wait_for_all_of_its_credentials() -> None:
    window = _full_of_one_credential()
    window.leave("d.example", APP)
    window.urge("urged.example", APP)
    assert window.readable(now=0.0, limit=10) == []
    window.release("d0.example", APP, ("m", 0))
    assert window.readable(now=0.0, limit=10) == [("urged.example", APP)]


def _seconds(call: Callable[[], object]) -> float:
    """Of CPU, for a hundred."""
    began = time.process_time()
    for _ in range(100):
        call()
    return time.process_time() - began


def test_lanes_without_room_are_not_looked_at_again_and_again() -> None:
    window = Window(100_000)
    for number in range(20_000):
        lane = (f"d{number % 100}.example", f"app{number // 100}")
        for message in range(20):
            window.claim(*lane, (str(number), message))
        window.mark_more(*lane)
    window.capacity = 10**6
    assert window.readable(now=0.0, limit=10) == []
    assert _seconds(lambda: window.readable(now=0.0, limit=10)) < 0.05


def test_each_parking_ends_at_the_same_cost_however_many_there_are() -> None:
    window = Window(1000)
    for number in range(20_000):
        window.park(f"d{number}.example", DIRECT, site="mx", hop=Direct(), until=100.0 + number)
    ends = iter(range(20_000))
    assert _seconds(lambda: window.readable(now=100.0 + next(ends), limit=10)) < 0.05
    assert len(window._parked) == 20_000 - 100


def test_each_credential_leaves_room_for_the_next_to_however_many_domains() -> None:
    window = Window(1000)
    had = []
    for credential in ("news", "blog", "shop"):
        number = 0
        while window.admits(f"d{number}.example", credential):
            window.claim(f"d{number}.example", credential, (credential, number))
            number += 1
        had.append(number)
    assert had == [750, 188, 47]
    assert window.admits("d.example", APP)


def test_what_a_credential_has_no_room_for_is_read_as_a_whole_once_half_of_its_room_is_free() -> None:
    told: list[int] = []
    window = Window(1000, has_room=lambda: told.append(len(window)))
    for number in range(750):
        window.claim(f"d{number}.example", APP, ("m", number))
    for number in range(750, 10_000):
        window.leave(f"d{number}.example", APP)
    assert not window.admits("new.example", APP)
    for number in range(750):
        assert not window.readable(now=0.0, limit=10)
        window.release(f"d{number}.example", APP, ("m", number))
        if told:
            break
    assert told == [600]
    assert window.readable(now=0.0, limit=10) == [(EVERY, APP)]
    assert window.room_for(EVERY, APP) == 150
    assert len(window._domains) == 600
    read_whole(window, EVERY)
    assert window.admits("new.example", APP)
    assert window.readable(now=0.0, limit=10) == []


def test_one_credentials_mail_to_many_domains_leaves_room_for_fresh_mail_of_others() -> None:
    window = Window(1000)
    number = 0
    while window.admits_fresh([f"dead{number}.example"], "bulk", count=1):
        filled(window, f"dead{number}.example", 1, credential="bulk")
        number += 1
    assert len(window) == 938
    assert window.admits_fresh(["new.example"], APP, count=200)


def test_lanes_take_turns_at_being_read() -> None:
    window = Window(4000)
    lanes = [("a.example", APP), ("a.example", "other"), ("b.example", APP)]
    for lane in lanes:
        window.mark_more(*lane)
    window.next_page(*lanes[0])
    window.page_read(*lanes[0], last=(1.0, 1, 0))
    assert window.readable(now=0.0, limit=3) == [*lanes[1:], lanes[0]]


def test_what_was_released_twice_counts_once() -> None:
    window = Window(1000)
    window.claim("x.example", APP, ("m", 0))
    window.release("x.example", APP, ("m", 0))
    window.release("x.example", APP, ("m", 0))
    assert len(window) == 0
    assert window.admits("x.example", APP)


def test_nothing_is_left_of_what_is_over() -> None:
    window = Window(1000)
    window.park("x.example", DIRECT, site="mx", hop=Direct(), until=100.0)
    window.mark_waiting("x.example", APP)
    filled(window, "x.example", 3, "other")
    assert window.readable(now=100.0, limit=1) == [("x.example", APP)]
    read_whole(window, "x.example")
    emptied(window, "x.example", 3, "other")
    assert not window._domains
    assert not window._wholes
