from relay.delivery.window import Window


def filled(window: Window, domain: str, count: int) -> None:
    for number in range(count):
        window.claim(domain, (domain, number))


def test_a_domain_may_not_fill_the_window() -> None:
    window = Window(4000)
    filled(window, "slow.example", window.per_domain)
    assert not window.admits("slow.example", now=0.0)
    assert window.admits("other.example", now=0.0)


def test_a_domain_with_more_on_disk_is_read_again_once_half_of_its_share_is_free() -> None:
    window = Window(4000)
    filled(window, "big.example", window.per_domain)
    window.mark_more("big.example")
    assert window.readable(now=0.0, limit=10) == []
    for number in range(window.per_domain // 2):
        window.release("big.example", ("big.example", number))
    assert window.readable(now=0.0, limit=10) == ["big.example"]
    window.all_read("big.example", marks=window.marks("big.example"))
    assert window.readable(now=0.0, limit=10) == []


def test_a_parked_domain_is_not_read_before_its_time_nor_given_fresh_mail() -> None:
    window = Window(4000)
    window.park("dead.example", until=100.0)
    assert window.readable(now=99.0, limit=10) == []
    assert not window.admits_fresh(["dead.example"], count=1, now=99.0)
    assert window.readable(now=100.0, limit=10) == ["dead.example"]


def test_an_operator_can_have_a_parked_domain_read_at_once() -> None:
    window = Window(4000)
    window.park("dead.example", until=100.0)
    window.urge("dead.example")
    assert window.readable(now=1.0, limit=10) == ["dead.example"]
    assert window.take_urge("dead.example")
    assert not window.take_urge("dead.example")


def test_what_is_marked_while_a_domain_is_read_is_read_again() -> None:
    window = Window(4000)
    window.mark_more("busy.example")
    marks = window.marks("busy.example")
    window.mark_more("busy.example")
    window.all_read("busy.example", marks=marks)
    assert window.readable(now=0.0, limit=10) == ["busy.example"]


def test_fresh_mail_finds_room_when_old_mail_has_filled_the_window() -> None:
    window = Window(1000)
    for number in range(10):
        filled(window, f"old{number}.example", 100)
    assert window.free == 0
    assert window.admits_fresh(["new.example"], count=1, now=0.0)
    filled(window, "fresh.example", 250)
    assert not window.admits_fresh(["new.example"], count=1, now=0.0)


def test_domains_take_turns_at_being_read() -> None:
    window = Window(4000)
    for domain in ("a.example", "b.example", "c.example"):
        window.mark_more(domain)
    window.later("a.example")
    assert window.readable(now=0.0, limit=3) == ["b.example", "c.example", "a.example"]


def test_what_was_released_twice_counts_once_and_leaves_nothing_behind() -> None:
    window = Window(1000)
    window.claim("x.example", ("m", 0))
    window.release("x.example", ("m", 0))
    window.release("x.example", ("m", 0))
    assert len(window) == 0
    assert window.claimed_of("x.example") == 0
    assert window.admits("x.example", now=0.0)
