"""Nameservers that fail, and what the cache does about it; the clock is the test's."""

import asyncio
import time
from typing import Any

import dns.message
import pytest

from relay.config.models import Dns
from relay.resolver import Failure, Found, MxHost, NoDomain, NoRecords, Resolver
from tests.peers.dns import FakeDns, Respond, response
from tests.peers.mx import until

Query = dns.message.Message


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def resolver_at(*servers: FakeDns, clock: Clock | None = None, **settings: Any) -> Resolver:
    addresses = tuple(server.address for server in servers)
    return Resolver(Dns.model_validate({"nameservers": addresses, "timeout": 0.5, **settings}), clock or Clock())


def servfail(query: Query, tcp: bool) -> Query:
    return response(query, rcode="SERVFAIL")


def silent(query: Query, tcp: bool) -> None:
    return None


def garbage(query: Query, tcp: bool) -> bytes:
    return query.to_wire()[:2] + b"\xff" * 30


def another_answer(query: Query, tcp: bool) -> Query:
    """The answer to another question, under this one's id."""
    other = dns.message.make_query("evil.test", "MX", id=query.id)
    return response(other, "300 MX 10 evil.test.")


def mx(query: Query, tcp: bool) -> Query:
    return response(query, "300 MX 10 mx.a.test.")


FAILING = [
    pytest.param(servfail, "{} answered SERVFAIL", id="SERVFAIL"),
    pytest.param(silent, "{} did not answer", id="silence"),
    pytest.param(garbage, "{} did not answer", id="garbage is not listened to"),
    pytest.param(another_answer, "{} did not answer", id="the answer to another question is not listened to"),
]


@pytest.mark.parametrize(("respond", "text"), FAILING)
async def test_a_failure_names_the_question_the_server_and_what_it_did(respond: Respond, text: str) -> None:
    async with FakeDns(respond) as server:
        started = time.monotonic()
        answer = await resolver_at(server).mx("a.test")
        assert time.monotonic() - started < 1.0
    assert isinstance(answer, Failure)
    assert answer.text in (
        f"MX of a.test: {text.format(server.address)}",
        f"MX of a.test: no answer within 0.5 s from {server.address}",
    )


async def test_a_server_that_cannot_be_reached_is_a_failure() -> None:
    async with FakeDns(mx) as server:
        pass
    answer = await resolver_at(server).mx("a.test")
    assert isinstance(answer, Failure)
    assert server.address in answer.text


async def test_the_next_server_is_asked_when_one_fails() -> None:
    async with FakeDns(servfail) as first, FakeDns(mx) as second:
        assert await resolver_at(first, second).mx("a.test") == Found((MxHost(10, "mx.a.test"),))


async def test_the_next_server_is_asked_when_one_is_silent() -> None:
    async with FakeDns(silent) as first, FakeDns(mx) as second:
        assert await resolver_at(first, second).mx("a.test") == Found((MxHost(10, "mx.a.test"),))


async def test_every_server_that_failed_is_named() -> None:
    async with FakeDns(servfail) as first, FakeDns(servfail) as second:
        answer = await resolver_at(first, second).mx("a.test")
    assert answer == Failure(f"MX of a.test: {first.address} answered SERVFAIL; {second.address} answered SERVFAIL")


async def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    def truncating(query: Query, tcp: bool) -> Query:
        if not tcp:
            return response(query, flags="TC")
        return response(query, *(f"300 MX {n} mx{n}.a.test." for n in range(1, 201)))

    async with FakeDns(truncating) as server:
        answer = await resolver_at(server, timeout=3.0).mx("a.test")
    assert isinstance(answer, Found)
    assert len(answer.records) == 200
    assert server.questions == ["a.test MX"] * 2


async def test_what_was_found_of_one_family_is_kept_when_the_other_fails() -> None:
    def four_only(query: Query, tcp: bool) -> Query:
        if "AAAA" in query.question[0].to_text():
            return response(query, rcode="SERVFAIL")
        return response(query, "300 A 192.0.2.1")

    async with FakeDns(four_only) as server:
        answer = await resolver_at(server).addresses("mx.test")
    assert isinstance(answer, Found)
    assert [str(address) for address in answer.records] == ["192.0.2.1"]
    assert answer.missing == f"AAAA of mx.test: {server.address} answered SERVFAIL"


async def test_absence_of_one_family_and_failure_of_the_other_is_a_failure() -> None:
    def four_fails(query: Query, tcp: bool) -> Query:
        return response(query, rcode="NOERROR" if "AAAA" in query.question[0].to_text() else "SERVFAIL")

    async with FakeDns(four_fails) as server:
        answer = await resolver_at(server).addresses("mx.test")
    assert answer == Failure(f"A of mx.test: {server.address} answered SERVFAIL")


async def test_equal_questions_under_way_are_one_question() -> None:
    async with FakeDns(mx) as server:
        resolver = resolver_at(server)
        answers = await asyncio.gather(*(resolver.mx("a.test") for _ in range(20)))
    assert answers == [Found((MxHost(10, "mx.a.test"),))] * 20
    assert server.questions == ["a.test MX"]


async def test_who_gives_up_does_not_take_the_answer_from_the_others() -> None:
    def once_silent(query: Query, tcp: bool) -> Query | None:
        return mx(query, tcp) if len(server.questions) > 1 else None

    async with FakeDns(once_silent) as server:
        resolver = resolver_at(server, timeout=5.0)
        first = asyncio.create_task(resolver.mx("a.test"))
        others = [asyncio.create_task(resolver.mx("a.test")) for _ in range(3)]
        await until(lambda: bool(server.questions), what="the question was asked")
        others[0].cancel()
        first.cancel()
        assert await asyncio.gather(*others[1:]) == [Found((MxHost(10, "mx.a.test"),))] * 2
        with pytest.raises(asyncio.CancelledError):
            await first
    assert server.questions == ["a.test MX"] * 2


async def asked_after(resolver: Resolver, server: FakeDns, clock: Clock, seconds: float) -> bool:
    """Whether the server is asked again `seconds` from now."""
    clock.now += seconds
    before = len(server.questions)
    await resolver.mx("a.test")
    return len(server.questions) > before


@pytest.mark.parametrize(
    ("records", "settings", "kept"),
    [
        pytest.param(("300 MX 10 mx.a.test.",), {}, 300, id="an answer for its TTL"),
        pytest.param(("1 MX 10 mx.a.test.",), {"minimum_ttl": 30}, 30, id="at least minimum_ttl"),
        pytest.param(("999999 MX 10 mx.a.test.",), {"maximum_ttl": 600}, 600, id="at most maximum_ttl"),
    ],
)
async def test_an_answer_is_kept(records: tuple[str, ...], settings: dict[str, float], kept: float) -> None:
    clock = Clock()
    async with FakeDns(lambda query, tcp: response(query, *records)) as server:
        resolver = resolver_at(server, clock=clock, **settings)
        await resolver.mx("a.test")
        assert not await asked_after(resolver, server, clock, kept - 1)
        assert await asked_after(resolver, server, clock, 2)


@pytest.mark.parametrize(
    ("rcode", "ttl", "minimum", "kept"),
    [
        pytest.param("NXDOMAIN", 900, 60, 60, id="NXDOMAIN for the SOA's minimum"),
        pytest.param("NXDOMAIN", 40, 900, 40, id="NXDOMAIN for the SOA's own TTL if that is less"),
        pytest.param("NOERROR", 900, 60, 60, id="absence of records for the SOA's minimum"),
        pytest.param("NXDOMAIN", 864000, 864000, 10800, id="three hours at most"),
    ],
)
async def test_absence_is_kept(rcode: str, ttl: int, minimum: int, kept: float) -> None:
    def absent(query: Query, tcp: bool) -> Query:
        message = response(query, rcode=rcode)
        soa = f"ns.test. root.test. 1 1 1 1 {minimum}"
        message.authority.append(dns.rrset.from_text(query.question[0].name, ttl, "IN", "SOA", soa))
        return message

    clock = Clock()
    async with FakeDns(absent) as server:
        resolver = resolver_at(server, clock=clock)
        assert await resolver.mx("a.test") == (NoDomain() if rcode == "NXDOMAIN" else NoRecords())
        assert not await asked_after(resolver, server, clock, kept - 1)
        assert await asked_after(resolver, server, clock, 2)


async def test_a_failure_is_kept_for_a_moment() -> None:
    clock = Clock()
    async with FakeDns(servfail) as server:
        resolver = resolver_at(server, clock=clock, minimum_ttl=5)
        await resolver.mx("a.test")
        assert not await asked_after(resolver, server, clock, 4)
        assert await asked_after(resolver, server, clock, 2)


class Changing:
    """Answers as it is told at the moment."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond

    def __call__(self, query: Query, tcp: bool) -> Any:
        return self.respond(query, tcp)


async def test_an_answer_serves_past_its_ttl_while_the_servers_fail() -> None:
    clock, answer = Clock(), Changing(mx)
    async with FakeDns(answer) as server:
        resolver = resolver_at(server, clock=clock, stale=3600, minimum_ttl=5)
        await resolver.mx("a.test")
        answer.respond = servfail
        clock.now += 301
        assert await resolver.mx("a.test") == Found((MxHost(10, "mx.a.test"),), stale=True)
        assert not await asked_after(resolver, server, clock, 4)
        assert await asked_after(resolver, server, clock, 2)
        answer.respond = mx
        clock.now += 6
        assert await resolver.mx("a.test") == Found((MxHost(10, "mx.a.test"),))
        answer.respond = servfail
        clock.now += 300 + 3601
        assert isinstance(await resolver.mx("a.test"), Failure)


async def test_a_refusal_never_serves_past_its_ttl() -> None:
    clock, answer = Clock(), Changing(lambda query, tcp: response(query, rcode="NXDOMAIN"))
    async with FakeDns(answer) as server:
        resolver = resolver_at(server, clock=clock, stale=3600)
        assert await resolver.mx("a.test") == NoDomain()
        answer.respond = servfail
        clock.now += 10801
        assert isinstance(await resolver.mx("a.test"), Failure)


async def test_the_least_recently_used_answer_is_dropped_first() -> None:
    async with FakeDns(mx) as server:
        resolver = resolver_at(server, cache_size=100)
        for number in range(100):
            await resolver.mx(f"{number}.test")
        await resolver.mx("0.test")
        await resolver.mx("100.test")
        asked = len(server.questions)
        await resolver.mx("0.test")
        assert len(server.questions) == asked
        await resolver.mx("1.test")
        assert len(server.questions) == asked + 1
