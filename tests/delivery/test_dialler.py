"""Which of a site's addresses a session is tried with, and which of two families (RFC 8305)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from relay.delivery.destination import Destination, Host
from relay.delivery.dialler import Dialler, Unreached
from relay.delivery.known_hosts import KnownHosts
from relay.delivery.routing import Direct, Hop, Smarthost
from relay.delivery.site import Line
from relay.delivery.sources import Sources
from relay.log import Log, Output
from relay.mail.event import Kind
from relay.mail.verdict import Stage
from relay.smtpclient import TlsContexts
from tests.delivery.outfit import config, outfit
from tests.peers.mx import Mx, ScriptedMx, until
from tests.peers.silent import dialling, silent

IPV6, IPV4 = "::1", "127.0.0.1"
DELAY = 0.25


def dialler(
    tmp_path: Path, *sources: str, connect: float = 10.0, steady: Callable[[], float] = time.monotonic
) -> Dialler:
    settings, log = config(tmp_path, delivery={"timeouts": {"connect": connect}}).delivery, Log(Output(), now=time.time)
    return Dialler(
        hostname="relay.example.com",
        pool=tuple(Direct(each) for each in sources),
        sources=Sources(steady=time.monotonic, log=log),
        known=KnownHosts(steady=steady, log=log),
        settings=settings,
        contexts=TlsContexts(monotonic=time.monotonic),
        random=Random(1),
    )


def destination(port: int, *hosts: tuple[str, ...]) -> Destination:
    """Hosts in order of preference, each by its addresses."""
    names = (f"mx{number}.dest.example" for number in range(len(hosts)))
    numbered = enumerate(zip(names, hosts, strict=True))
    return Destination("dest.example", tuple(Host(name, at, port, number) for number, (name, at) in numbered))


class Opener:
    """Opens sessions, tells how long it took, and closes them."""

    def __init__(self, tmp_path: Path) -> None:
        self.ahead = 0.0  # seconds that more have passed than have
        self._tmp_path = tmp_path
        self._first: Dialler | None = None
        self._lines: list[Line] = []

    async def __call__(self, where: Destination, *sources: str, **options: Any) -> tuple[Line | Unreached, float]:
        """sources: the pool that mail to a smarthost leaves from; without any it is direct."""
        hop: Hop = Smarthost("mx.dest.example", 25, "none") if sources else Direct()
        began = time.monotonic()
        outcome = await dialler(self._tmp_path, *sources, **options).open(where, hop, ())
        if isinstance(outcome, Line):
            self._lines.append(outcome)
        return outcome, time.monotonic() - began

    async def again(self, where: Destination) -> tuple[str, float]:
        """By one and the same dialler: the address, and how long it took."""
        self._first = self._first or dialler(self._tmp_path, steady=lambda: time.monotonic() + self.ahead)
        began = time.monotonic()
        outcome = await self._first.open(where, Direct(), ())
        lasted = time.monotonic() - began
        assert isinstance(outcome, Line), outcome
        self._lines.append(outcome)
        return address_of(outcome), lasted

    async def close(self) -> None:
        for line in self._lines:
            await line.connection.quit()
        self._lines.clear()


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opener]:
    opener = Opener(tmp_path)
    yield opener
    await opener.close()


def address_of(outcome: Line | Unreached) -> str:
    assert isinstance(outcome, Line), outcome
    return outcome.connection.endpoint.address


async def test_when_all_addresses_were_tried_meanwhile_they_are_tried_anew(tmp_path: Path) -> None:
    async with ScriptedMx(Mx()) as server:
        outcome = await dialler(tmp_path).open(destination(server.port, (IPV4,)), Direct(), [IPV4])
        assert isinstance(outcome, Line)
        await outcome.connection.quit()


async def test_an_ipv6_address_that_does_not_answer_costs_a_quarter_of_a_second(opened: Opener) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        with silent(IPV6, server.port):
            before = dialling(server.port)
            outcome, lasted = await opened(destination(server.port, (IPV6, IPV4)))
            assert address_of(outcome) == IPV4
            assert DELAY <= lasted < 2.0
            assert dialling(server.port) == before
        assert server.connections == 1


async def test_an_ipv6_address_that_did_not_answer_costs_nothing_more_for_ten_minutes(opened: Opener) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        where = destination(server.port, (IPV6, IPV4))
        with silent(IPV6, server.port):
            first, second, third = [await opened.again(where) for _ in range(3)]
            opened.ahead += 601.0
            later = await opened.again(where)
    assert [address for address, _ in (first, second, third, later)] == [IPV4] * 4
    assert min(first[1], later[1]) >= DELAY > max(second[1], third[1])


async def test_an_ipv6_address_that_answers_again_is_found_when_ipv4_does_not(opened: Opener) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        port, where = server.port, destination(server.port, (IPV6, IPV4))
        with silent(IPV6, port):
            assert (await opened.again(where))[0] == IPV4
        await opened.close()
    async with ScriptedMx(Mx(), host=IPV6, port=port):
        with silent(IPV4, port):
            (address, lasted), (again, no_time) = [await opened.again(where) for _ in range(2)]
            assert (address, again) == (IPV6, IPV6)
            assert lasted >= DELAY > no_time
            await opened.close()


async def test_an_ipv6_address_that_answers_is_used_and_no_other_is_tried(opened: Opener) -> None:
    async with ScriptedMx(Mx(), host=IPV6) as server, ScriptedMx(Mx(), host=IPV4, port=server.port) as other:
        outcome, _ = await opened(destination(server.port, (IPV6, IPV4)))
        assert address_of(outcome) == IPV6
        assert (server.connections, other.connections) == (1, 0)


async def test_an_ipv6_address_that_refuses_is_followed_by_the_next_at_once(opened: Opener) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        outcome, _ = await opened(destination(server.port, (IPV6, IPV4)))
        assert address_of(outcome) == IPV4


async def test_what_both_families_came_to_is_told(opened: Opener) -> None:
    with silent(IPV6) as port, silent(IPV4, port):
        outcome, lasted = await opened(destination(port, (IPV6, IPV4)), connect=0.5)
    assert isinstance(outcome, Unreached)
    assert outcome.stage is Stage.CONNECT
    failed = "no connection within 0.5 s"
    assert outcome.detail == f"mx0.dest.example[::1]:{port}: {failed}; mx0.dest.example[127.0.0.1]:{port}: {failed}"
    assert lasted < 2 * 0.5 + 0.5


async def test_a_host_that_greets_no_one_is_tried_at_its_other_address_too(opened: Opener) -> None:
    async with ScriptedMx(Mx({"GREETING": b"554 5.7.1 Not you\r\n"}), host=IPV4) as server:
        with silent(IPV6, server.port):
            outcome, _ = await opened(destination(server.port, (IPV6, IPV4)), connect=0.5)
    assert isinstance(outcome, Unreached)
    assert (str(outcome.reply), "::1]" in outcome.detail) == ("554 5.7.1 Not you", True)


@pytest.mark.parametrize(
    ("hosts", "sources", "address"),
    [
        pytest.param([(IPV4, IPV6)], (), IPV6, id="IPv4 first: IPv6 may have no PTR"),
        pytest.param([(IPV6,), (IPV4,)], (), IPV4, id="another host: the order of preference holds"),
        pytest.param([(IPV6, IPV4)], (IPV6,), IPV4, id="no IPv4 address of ours to send from"),
    ],
)
async def test_no_second_address_is_tried_beside_the_first(
    hosts: list[tuple[str, ...]], sources: tuple[str, ...], address: str, opened: Opener
) -> None:
    async with ScriptedMx(Mx(), host=address) as server:
        with silent(IPV4 if address == IPV6 else IPV6, server.port):
            outcome, lasted = await opened(destination(server.port, *hosts), *sources, connect=0.6)
    assert address_of(outcome) == address
    assert lasted >= 0.6


async def test_an_address_of_ours_is_used_for_its_family_alone(tmp_path: Path) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        with silent(IPV6, server.port):
            where = destination(server.port, (IPV6, IPV4))
            outcome = await dialler(tmp_path).open(where, Direct("127.0.0.2"), ())
            assert isinstance(outcome, Line)
            assert outcome.connection.local_address == "127.0.0.2"
            await outcome.connection.quit()


async def test_dialling_that_is_given_up_leaves_neither_socket(tmp_path: Path) -> None:
    with silent(IPV6) as port, silent(IPV4, port):
        before = dialling(port)
        task = asyncio.create_task(dialler(tmp_path).open(destination(port, (IPV6, IPV4)), Direct(), ()))
        await until(lambda: dialling(port) == before + 2, what="both are tried")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert dialling(port) == before


async def test_mail_to_a_host_whose_ipv6_does_not_answer_goes_by_ipv4(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        delivery = {"ipv6": "prefer", "allow_networks": ["127.0.0.0/8", "::1/128"], "timeouts": {"connect": "20s"}}
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=delivery)
        with silent(IPV6, server.port):
            async with outfit(settings) as relay:
                await relay.submit("x@both.example")
                event = await relay.until("x@both.example", Kind.DELIVERED)
                assert event.mx == f"mx.both.example[{IPV4}]:{server.port}"
