"""The nameserver of simulated providers, asked by Relay's own resolver."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
import pytest_asyncio

from relay.config.models import Dns
from relay.config.providers import Provider
from relay.resolver import Failure, Found, MxHost, NoRecords, Resolver
from relay.simulator.nameserver import Nameserver
from relay.simulator.providers import sites

HOUSE = Provider(name="house", domains=("dest-%.example",), mx="MX.dest-%.example", sites=2)


@pytest_asyncio.fixture
async def nameserver() -> AsyncIterator[Nameserver]:
    simulated = sites([HOUSE], first_address="127.0.0.2", clock=lambda: 0.0, seed=1)
    nameserver = await Nameserver.start(simulated, host="127.0.0.1", port=0)
    yield nameserver
    nameserver.close()
    await asyncio.sleep(0)


@pytest.fixture
def resolver(nameserver: Nameserver) -> Resolver:
    return Resolver(Dns(nameservers=(f"127.0.0.1:{nameserver.port}",), timeout=2.0), time.time)


async def test_it_knows_the_domains_and_their_hosts(resolver: Resolver) -> None:
    assert await resolver.mx("Dest-2.example") == Found((MxHost(10, "mx.dest-2.example"),))
    assert await resolver.addresses("mx.dest-2.example") == Found((ip_address("127.0.0.3"),))
    assert await resolver.txt("dest-1.example") == NoRecords()


async def test_no_word_about_other_names(resolver: Resolver) -> None:
    assert isinstance(await resolver.mx("example.com"), Failure)
    assert isinstance(await resolver.mx("dest-3.example"), Failure)


async def test_what_is_no_question_is_not_answered(nameserver: Nameserver, resolver: Resolver) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        for octets in (b"", b"x", b"\0" * 12, b"\xff" * 40):
            client.sendto(octets, ("127.0.0.1", nameserver.port))
    assert isinstance(await resolver.mx("dest-1.example"), Found)
