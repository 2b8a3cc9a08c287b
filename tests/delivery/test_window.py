from relay.delivery.routing import DIRECT, Smarthost
from relay.delivery.window import Window

SMARTHOST = Smarthost("smarthost.example", 587, "starttls")


def filled(window: Window, domain: str, count: int) -> None:
    for number in range(count):
        window.claim(domain, (domain, number))


def read_whole(window: Window, domain: str) -> None:
    window.next_page(domain)
    window.page_read(domain, last=None)


def test_a_domain_may_not_fill_the_window() -> None:
    window = Window(4000)
    filled(window, "slow.example", window.per_domain)
    assert not window.admits("slow.example")
    assert window.admits("other.example")


def test_a_domain_with_more_on_disk_is_read_again_once_half_of_its_share_is_free() -> None:
    window = Window(4000)
    filled(window, "big.example", window.per_domain)
    window.mark_more("big.example")
    assert window.readable(now=0.0, limit=10) == []
    for number in range(window.per_domain // 2):
        window.release("big.example", ("big.example", number))
    assert window.readable(now=0.0, limit=10) == ["big.example"]
    read_whole(window, "big.example")
    assert window.readable(now=0.0, limit=10) == []


def test_a_domain_is_read_page_by_page() -> None:
    window = Window(4000)
    window.mark_more("big.example")
    assert window.next_page("big.example") is None
    window.page_read("big.example", last=(5.0, 1, 0))
    assert window.readable(now=0.0, limit=10) == ["big.example"]
    assert window.next_page("big.example") == (5.0, 1, 0)
    window.page_read("big.example", last=None)
    assert window.readable(now=0.0, limit=10) == []


def test_a_way_that_is_parked_leaves_the_domains_other_ways_open() -> None:
    window = Window(4000)
    window.park("half.example", SMARTHOST, site="mx.dead.example", until=100.0)
    assert list(window.parked("half.example", now=99.0)) == [SMARTHOST]
    assert window.readable(now=99.0, limit=10) == []
    assert window.admits("half.example")
    assert window.admits_fresh(["half.example"], count=1)


def test_a_domain_is_read_when_a_way_is_parked_no_longer() -> None:
    window = Window(4000)
    window.park("dead.example", DIRECT, site="mx.dead.example", until=100.0)
    assert list(window.parked("dead.example", now=100.0)) == []
    assert window.readable(now=100.0, limit=10) == ["dead.example"]
    read_whole(window, "dead.example")
    assert window.readable(now=200.0, limit=10) == []


def test_what_arrives_for_a_parked_way_does_not_have_the_domain_read() -> None:
    window = Window(4000)
    window.park("dead.example", DIRECT, site="mx.dead.example", until=100.0)
    window.mark_all(["dead.example"])
    assert window.readable(now=1.0, limit=10) == []


def test_an_operator_can_have_a_parked_domain_read_at_once() -> None:
    window = Window(4000)
    window.park("dead.example", DIRECT, site="mx.dead.example", until=100.0)
    window.urge("dead.example")
    assert window.readable(now=1.0, limit=10) == ["dead.example"]
    assert window.take_urge("dead.example")
    assert not window.take_urge("dead.example")


def test_what_is_marked_while_a_domain_is_read_is_read_again() -> None:
    window = Window(4000)
    window.mark_more("busy.example")
    window.next_page("busy.example")
    window.mark_more("busy.example")
    window.page_read("busy.example", last=None)
    assert window.readable(now=0.0, limit=10) == ["busy.example"]
    assert window.next_page("busy.example") is None


def test_fresh_mail_finds_room_when_old_mail_has_filled_the_window() -> None:
    window = Window(1000)
    for number in range(10):
        filled(window, f"old{number}.example", 100)
    assert window.free == 0
    assert window.admits_fresh(["new.example"], count=1)
    filled(window, "fresh.example", 250)
    assert not window.admits_fresh(["new.example"], count=1)


def test_domains_take_turns_at_being_read() -> None:
    window = Window(4000)
    for domain in ("a.example", "b.example", "c.example"):
        window.mark_more(domain)
    window.next_page("a.example")
    window.page_read("a.example", last=(1.0, 1, 0))
    assert window.readable(now=0.0, limit=3) == ["b.example", "c.example", "a.example"]


def test_what_was_released_twice_counts_once() -> None:
    window = Window(1000)
    window.claim("x.example", ("m", 0))
    window.release("x.example", ("m", 0))
    window.release("x.example", ("m", 0))
    assert len(window) == 0
    assert window.admits("x.example")
