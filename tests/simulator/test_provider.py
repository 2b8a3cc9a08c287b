"""What a simulated provider does when it is pushed, part by part; no sockets."""

from random import Random
from typing import Any

import pytest

from relay.config.providers import Provider as Behaviour
from relay.mail.esmtp import MailCommand
from relay.mail.reply import Reply
from relay.simulator.provider import Provider
from relay.simulator.providers import sites, totals
from relay.simulator.session import Visit

SENDER = "news@sender.example"


class House:
    """One provider with these tables, and its clock."""

    def __init__(self, **tables: Any) -> None:
        plain = {"name": "house", "domains": ["dest.example"], "mx": "mx.dest.example"}
        self.now = 1000.0
        self.provider = Provider(
            Behaviour.model_validate(plain | tables),
            name="mx.dest.example",
            domains=("dest.example",),
            clock=lambda: self.now,
            random=Random(1),
        )

    def visit(self, address: str = "192.0.2.1") -> tuple[Visit, Reply]:
        visit = Visit(address)
        greeting = self.provider.begin(visit)
        visit.is_given = greeting.is_positive
        return visit, greeting

    def send(self, visit: Visit, recipient: str = "a@dest.example", sender: str = SENDER) -> Reply:
        """The first refusal, or the reply to the content."""
        visit.reset()
        mail = MailCommand(sender)
        reply = self.provider.sender(visit, mail)
        if not reply.is_positive:
            return reply
        visit.mail = mail
        reply = self.provider.recipient(visit, recipient)
        if not reply.is_positive:
            return reply
        visit.recipients = [recipient]
        visit.messages += 1
        answer = self.provider.content(visit)
        assert answer is not None
        return answer


def refusal(code: int, **more: Any) -> dict[str, Any]:
    return {"reply": f"{code} {code // 100}.7.0 from %s", **more}


def refused(code: int) -> Reply:
    return Reply(code, f"{code // 100}.7.0", "from 192.0.2.1")


def test_without_a_table_it_takes_everything() -> None:
    house = House()
    visit, greeting = house.visit()
    assert greeting.code == 220
    for number in range(100):
        assert house.send(visit, f"{number}@dest.example").code == 250
    assert (house.provider.counts.taken, house.provider.counts.refused) == (100, {})


def test_it_takes_mail_for_its_domains_only() -> None:
    house = House()
    assert house.send(house.visit()[0], "a@other.example").code == 550


def test_sessions_beyond_the_limit_are_refused_address_by_address() -> None:
    house = House(connections=refusal(421, most=2))
    (first, _), (_, second) = house.visit(), house.visit()
    turned_away, third = house.visit()
    assert (second.code, third) == (220, refused(421))
    assert house.visit("192.0.2.2")[1].code == 220
    house.provider.end(turned_away)
    assert house.visit()[1] == refused(421)
    house.provider.end(first)
    assert house.visit()[1].code == 220
    counts = house.provider.counts
    assert (counts.sessions, counts.most_open, counts.open, counts.refused["connections"]) == (4, 3, 3, 2)


def test_so_many_messages_in_a_session() -> None:
    house = House(messages=refusal(421, most=2))
    visit, _ = house.visit()
    assert [house.send(visit).code for _ in range(3)] == [250, 250, 421]


@pytest.mark.parametrize("at", ["mail", "rcpt", "content"])
def test_a_rate_lets_a_burst_pass_and_then_so_many_a_second(at: str) -> None:
    house = House(rate=refusal(451, per_second=2, burst=3, at=at))
    visit, _ = house.visit()
    assert [house.send(visit).code for _ in range(5)] == [250, 250, 250, 451, 451]
    house.now += 1.0
    assert [house.send(visit).code for _ in range(3)] == [250, 250, 451]
    assert house.provider.counts.refused == {"rate": 3}


def test_who_was_over_the_rate_is_refused_for_the_penalty() -> None:
    house = House(rate=refusal(421, per_second=1, burst=1, penalty="10s"))
    visit, _ = house.visit()
    assert [house.send(visit).code for _ in range(2)] == [250, 421]
    house.now += 9.0
    assert house.send(visit).code == 421
    house.now += 1.0
    assert house.send(visit).code == 250


def test_greylisting_takes_each_triplet_after_its_wait() -> None:
    house = House(greylist=refusal(451, wait="5m"))
    visit, _ = house.visit()
    assert house.send(visit).code == 451
    house.now += 299.0
    assert house.send(visit).code == 451
    assert house.send(visit, sender="other@sender.example").code == 451
    house.now += 1.0
    assert house.send(visit).code == 250
    assert house.send(visit, sender="other@sender.example").code == 451
    assert house.send(house.visit("192.0.2.2")[0]).code == 451


def test_the_share_of_recipients_that_do_not_exist_is_always_the_same_ones() -> None:
    house = House(unknown=refusal(550, share=0.1))
    visit, _ = house.visit()
    first, again = ([house.send(visit, f"user{n}@dest.example").code for n in range(2000)] for _ in range(2))
    assert first == again
    assert 150 < first.count(550) < 250


def test_trouble_of_its_own_is_chance() -> None:
    house = House(busy=refusal(451, share=0.25))
    visit, _ = house.visit()
    codes = [house.send(visit).code for _ in range(2000)]
    assert 400 < codes.count(451) < 600


def test_a_reputation_is_lost_by_wrong_recipients_and_comes_back() -> None:
    house = House(
        unknown={"reply": "550 5.1.1 no such user", "share": 0.5},
        reputation=refusal(550, unknown=0.3, of=20, lasts="1h"),
    )
    visit, _ = house.visit()
    said = [str(house.send(visit, f"user{n}@dest.example")) for n in range(40)]
    assert "5.7.0" not in "".join(said[:20])
    assert said[20:] == ["550 5.7.0 from 192.0.2.1"] * 20
    house.now += 3600.0
    assert str(house.send(visit, "user0@dest.example")) == said[0]


def test_a_provider_of_several_sites_has_each_at_an_address_of_its_own() -> None:
    behaviours = [
        Behaviour(name="one", domains=("a.example", "b.example"), mx="mx.a.example"),
        Behaviour(name="many", domains=("d-%.example",), mx="mx.d-%.example", sites=3),
    ]
    simulated = sites(behaviours, first_address="127.0.0.9", clock=lambda: 0.0, seed=1)
    assert [(each.provider, each.mx, each.address, each.domains) for each in simulated] == [
        ("one", "mx.a.example", "127.0.0.9", ("a.example", "b.example")),
        ("many", "mx.d-1.example", "127.0.0.10", ("d-1.example",)),
        ("many", "mx.d-2.example", "127.0.0.11", ("d-2.example",)),
        ("many", "mx.d-3.example", "127.0.0.12", ("d-3.example",)),
    ]
    for number in (1, 2, 2):
        simulated[number].receiver.begin(Visit("192.0.2.1"))
    one, many = totals(simulated)
    assert (one.sessions, many.sessions, many.most_open) == (0, 3, 2)
