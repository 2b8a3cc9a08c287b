"""The resolver's answers, from a real authoritative server."""

import asyncio
import ipaddress

import dns.resolver
import pytest

from relay.config.models import Dns
from relay.errors import ConfigError
from relay.resolver import (
    AddressAnswer,
    Failure,
    Found,
    MxAnswer,
    MxHost,
    NoDomain,
    NoRecords,
    NullMx,
    Resolver,
    TextAnswer,
)


def resolver_at(nameserver: str, *, now: float = 0.0, **settings: float) -> Resolver:
    return Resolver(Dns.model_validate({"nameservers": (nameserver,), "timeout": 2.0, **settings}), lambda: now)


MX = [
    pytest.param(
        "relay.test",
        Found((MxHost(10, "mx1.relay.test"), MxHost(10, "mx2.relay.test"), MxHost(20, "backup.relay.test"))),
        id="MX hosts come best first, in lower case",
    ),
    pytest.param(
        "RELAY.Test",
        Found((MxHost(10, "mx1.relay.test"), MxHost(10, "mx2.relay.test"), MxHost(20, "backup.relay.test"))),
        id="case does not matter",
    ),
    pytest.param(
        "alias.relay.test",
        Found((MxHost(10, "mx1.relay.test"), MxHost(10, "mx2.relay.test"), MxHost(20, "backup.relay.test"))),
        id="a CNAME is followed",
    ),
    pytest.param("x.wild.relay.test", Found((MxHost(5, "mx1.relay.test"),)), id="a wildcard"),
    pytest.param("null.relay.test", NullMx(), id="a null MX, whatever addresses there are"),
    pytest.param("both.relay.test", Found((MxHost(10, "mx1.relay.test"),)), id="a null MX beside a host names no host"),
    pytest.param("bare.relay.test", NoRecords(), id="an address and no MX"),
    pytest.param("gone.relay.test", NoDomain(), id="NXDOMAIN"),
    pytest.param("a..test", NoDomain(), id="an empty label cannot exist"),
    pytest.param("x" * 64 + ".test", NoDomain(), id="an overlong label cannot exist"),
    pytest.param(".".join(["x" * 60] * 5), NoDomain(), id="an overlong name cannot exist"),
    pytest.param("odd.relay.test", Found((MxHost(10, "a\\.b.relay.test"),)), id="a dot within a label stays escaped"),
]


@pytest.mark.parametrize(("domain", "answer"), MX)
async def test_mx(domain: str, answer: MxAnswer, nameserver: str) -> None:
    assert await resolver_at(nameserver).mx(domain) == answer


def ips(*texts: str) -> Found[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    return Found(tuple(ipaddress.ip_address(text) for text in texts))


ADDRESSES = [
    pytest.param("mx2.relay.test", ips("192.0.2.20"), id="IPv4 only"),
    pytest.param("six.relay.test", ips("2001:db8::6"), id="IPv6 only"),
    pytest.param("mx2.relay.test.", ips("192.0.2.20"), id="a final dot"),
    pytest.param("alias.relay.test", ips("192.0.2.1"), id="a CNAME is followed"),
    pytest.param("text.relay.test", NoRecords(), id="a name without addresses"),
    pytest.param("gone.relay.test", NoDomain(), id="NXDOMAIN"),
    pytest.param("localhost", ips("127.0.0.1", "::1"), id="localhost is not asked for"),
    pytest.param("a\\.b.relay.test", NoDomain(), id="an escaped label can be asked for"),
]


@pytest.mark.parametrize(("host", "answer"), ADDRESSES)
async def test_addresses(host: str, answer: AddressAnswer, nameserver: str) -> None:
    assert await resolver_at(nameserver).addresses(host) == answer


async def test_both_families_of_a_host(nameserver: str) -> None:
    answer = await resolver_at(nameserver).addresses("mx1.relay.test")
    assert isinstance(answer, Found)
    assert {str(address) for address in answer.records} == {"192.0.2.10", "192.0.2.11", "2001:db8::10"}
    assert str(answer.records[2]) == "2001:db8::10"
    assert (answer.missing, answer.stale) == ("", False)


TEXTS = [
    pytest.param("text.relay.test", Found(("only text",)), id="one record"),
    pytest.param("mx1.relay.test", NoRecords(), id="none"),
    pytest.param("gone.relay.test", NoDomain(), id="NXDOMAIN"),
]


@pytest.mark.parametrize(("name", "answer"), TEXTS)
async def test_txt(name: str, answer: TextAnswer, nameserver: str) -> None:
    assert await resolver_at(nameserver).txt(name) == answer


async def test_the_strings_of_a_txt_record_are_joined(nameserver: str) -> None:
    answer = await resolver_at(nameserver).txt("relay.test")
    assert isinstance(answer, Found)
    assert set(answer.records) == {"v=spf1 ip4:192.0.2.0/24 -all", "something else"}


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        pytest.param("192.0.2.10", Found(("mx1.relay.test",)), id="of IPv4"),
        pytest.param("2001:db8::10", Found(("mx1.relay.test",)), id="of IPv6"),
        pytest.param("192.0.2.99", NoDomain(), id="none"),
    ],
)
async def test_ptr(address: str, answer: TextAnswer, nameserver: str) -> None:
    assert await resolver_at(nameserver).ptr(ipaddress.ip_address(address)) == answer


async def test_a_server_that_refuses_is_a_failure_that_names_it(nameserver: str) -> None:
    answer = await resolver_at(nameserver).mx("elsewhere.example")
    assert answer == Failure(f"MX of elsewhere.example: {nameserver} answered REFUSED")


async def test_a_referral_is_a_failure_not_an_absence(nameserver: str) -> None:
    answer = await resolver_at(nameserver).mx("x.child.relay.test")
    assert answer == Failure(
        f"MX of x.child.relay.test: {nameserver} answered with a referral; it does not resolve for us"
    )


async def test_twenty_equal_questions_at_once_are_one(nameserver: str) -> None:
    resolver = resolver_at(nameserver)
    answers = await asyncio.gather(*(resolver.mx("null.relay.test") for _ in range(20)))
    assert answers == [NullMx()] * 20


def test_a_system_without_nameservers_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> None:
        raise dns.resolver.NoResolverConfiguration("cannot open /etc/resolv.conf")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", unreadable)
    with pytest.raises(ConfigError, match="no nameserver") as error:
        Resolver(Dns(), lambda: 0.0)
    assert "[dns]" in error.value.remedy


def test_the_system_s_nameservers_are_the_default() -> None:
    Resolver(Dns(), lambda: 0.0)
