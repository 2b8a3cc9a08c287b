"""Behind a proxy: its header is required and believed from configured networks, and from nobody else."""

import asyncio
import ssl
import struct
from typing import Any

import pytest

from tests.peers.certificates import Authority, Issued
from tests.submission.house import House
from tests.submission.wire import Wire, running, until

PROXIED: dict[str, Any] = {"proxy_networks": ["127.0.0.0/8"]}
V1 = b"PROXY TCP4 192.0.2.33 198.51.100.2 1024 465\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12)
    + bytes((192, 0, 2, 33, 198, 51, 100, 2))
    + struct.pack("!HH", 1024, 465)
)


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("relay.test")


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.root)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_on_587_the_client_is_whom_the_header_names(
    house: House, issued: Issued, trust: ssl.SSLContext, header: bytes
) -> None:
    async with running(house, issued, **PROXIED) as up:
        wire = await Wire.to(up.starttls)
        wire.writer.write(header + b"EHLO c\r\n")
        assert await wire.replies(2) == ["220", "250"]
        await wire.say(b"STARTTLS\r\n")
        await wire.starttls(trust)
        await wire.login()
        await wire.send()
        await wire.close()
    assert house.inbox.messages[0].client == "192.0.2.33"


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("pieces", ["together", "apart", "in single octets"])
async def test_on_465_the_header_comes_before_tls_even_in_one_segment(
    house: House, issued: Issued, trust: ssl.SSLContext, header: bytes, pieces: str
) -> None:
    async with running(house, issued, **PROXIED) as up:
        wire = await Wire.to(up.tls)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trust.wrap_bio(incoming, outgoing, server_hostname="relay.test")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        if pieces == "together":
            wire.writer.write(header + hello)
        elif pieces == "apart":
            wire.writer.write(header)
            await asyncio.sleep(0)
            wire.writer.write(hello)
        else:
            for octet in header:
                wire.writer.write(bytes((octet,)))
                await asyncio.sleep(0)
            wire.writer.write(hello)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.writer.write(outgoing.read())
                async with asyncio.timeout(5):
                    incoming.write(await wire.reader.read(65536))
        wire.writer.write(outgoing.read())
        greeting = b""
        while b"\r\n" not in greeting:
            try:
                greeting += tls.read(100)
            except ssl.SSLWantReadError:
                async with asyncio.timeout(5):
                    incoming.write(await wire.reader.read(65536))
        assert greeting.startswith(b"220 relay.test")
        assert house.sessions.count("address:192.0.2.33") == 1
        await wire.close()
        await until(lambda: not up.server.sessions)
    assert house.sessions.count("address:192.0.2.33") == 0


async def test_a_header_without_addresses_leaves_the_proxys_own(house: House, issued: Issued) -> None:
    async with running(house, issued, **PROXIED) as up:
        wire = await Wire.to(up.trusted)
        wire.writer.write(b"PROXY UNKNOWN\r\n")
        assert await wire.replies(1) == ["220"]
        await wire.close()


async def test_a_trusted_listener_looks_at_the_client_and_not_at_the_proxy(house: House, issued: Issued) -> None:
    async with running(house, issued, **PROXIED) as up:
        wire = await Wire.to(up.trusted)
        assert await wire.say(V1) == ["554 5.7.1"]
        await wire.close()


@pytest.mark.parametrize(
    "octets", [b"EHLO c\r\n", b"\x16\x03\x01\x02\x00", b"PROXY TCP4 x\r\n"], ids=["SMTP", "TLS", "bad"]
)
async def test_a_proxy_that_sends_no_header_is_closed_without_a_word(
    house: House, issued: Issued, octets: bytes
) -> None:
    async with running(house, issued, **PROXIED) as up:
        for port in (up.starttls, up.tls, up.trusted):
            wire = await Wire.to(port)
            wire.writer.write(octets)
            assert await wire.rest() == b""
            await wire.close()
        await until(lambda: not up.server.sessions)
    assert "PROXY header refused" in house.logged()


async def test_a_header_that_does_not_come_is_not_waited_for(house: House, issued: Issued) -> None:
    async with running(house, issued, **PROXIED) as up:
        wire = await Wire.to(up.starttls)
        wire.writer.write(b"PROXY TCP4 192.0.2.33 ")
        await until(lambda: up.server.sessions == 1)
        up.clock.time += 6
        up.server.sweep()
        assert await wire.rest() == b""
        await wire.close()


async def test_a_header_from_elsewhere_is_nonsense(house: House, issued: Issued) -> None:
    async with running(house, issued, proxy_networks=["203.0.113.0/24"]) as up:
        wire = await Wire.to(up.starttls)
        assert await wire.say(V1, 2) == ["220", "500 5.5.2"]
        await wire.close()
