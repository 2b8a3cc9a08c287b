"""STARTTLS: nothing learnt or sent in clear text survives it, and the client's haste does no harm, on both loops."""

import asyncio
import ssl

import pytest

from tests.peers.certificates import Authority, Issued
from tests.submission.house import House
from tests.submission.talk import LOGIN, MESSAGE
from tests.submission.wire import ENVELOPE, WITHIN, Wire, running, until


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("relay.test")


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.root)


class Hasty:
    """A TLS client whose octets are cut and joined by the test: TLS in memory over a plain connection."""

    def __init__(self, wire: Wire, trust: ssl.SSLContext) -> None:
        self._wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="relay.test")

    def hello(self) -> bytes:
        """The client's first flight."""
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def last_flight(self) -> bytes:
        """Reads the server's flight; the octets that end the handshake."""
        while True:
            await self._read()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    return self._outgoing.read()
                continue
            return self._outgoing.read()

    def encrypt(self, octets: bytes) -> bytes:
        self._tls.write(octets)
        return self._outgoing.read()

    def send(self, octets: bytes) -> None:
        self._wire.writer.write(octets)

    async def lines(self, count: int) -> list[bytes]:
        octets = b""
        while octets.count(b"\r\n") < count:
            try:
                octets += self._tls.read(65536)
            except ssl.SSLWantReadError:
                await self._read()
        return octets.split(b"\r\n")[:-1]

    async def _read(self) -> None:
        async with asyncio.timeout(WITHIN):
            octets = await self._wire.reader.read(65536)
        assert octets, "closed"
        self._incoming.write(octets)


async def at_starttls(port: int) -> Wire:
    wire = await Wire.to(port)
    assert await wire.say(b"EHLO client\r\n", 2) == ["220", "250"]
    return wire


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
async def test_what_comes_in_one_segment_with_the_end_of_the_handshake_is_answered_inside_tls(
    house: House, issued: Issued, trust: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """The server's protocol gets these octets before the task that awaits `start_tls` has the new transport."""
    trust.minimum_version = trust.maximum_version = version
    async with running(house, issued) as up:
        for _ in range(20):
            wire = await at_starttls(up.starttls)
            assert await wire.say(b"STARTTLS\r\n") == ["220 2.0.0"]
            client = Hasty(wire, trust)
            client.send(client.hello())
            last = await client.last_flight()
            if version is ssl.TLSVersion.TLSv1_2:
                client.send(last)
                with pytest.raises(ssl.SSLWantReadError):
                    client._tls.do_handshake()
                await client._read()
                client._tls.do_handshake()
                last = b""
            client.send(last + client.encrypt(b"EHLO client\r\n" + LOGIN + ENVELOPE + b"DATA\r\n"))
            lines = await client.lines(14)
            assert lines[-4][:3] == b"235" and lines[-1][:3] == b"354"
            client.send(client.encrypt(MESSAGE + b".\r\n"))
            assert (await client.lines(1))[0].startswith(b"250 2.0.0 Ok: queued as")
            await wire.close()
    assert len(house.inbox.messages) == 20


async def test_a_client_that_closes_in_one_segment_with_the_end_of_the_handshake_is_answered_to_the_end(
    house: House, issued: Issued, trust: ssl.SSLContext
) -> None:
    async with running(house, issued) as up:
        wire = await at_starttls(up.starttls)
        await wire.say(b"STARTTLS\r\n")
        client = Hasty(wire, trust)
        client.send(client.hello())
        last = await client.last_flight()
        whole = b"EHLO c\r\n" + LOGIN + ENVELOPE + b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE
        client.send(last + client.encrypt(whole))
        wire.writer.write_eof()
        await until(lambda: len(house.inbox.messages) == 1)
        await wire.close()
        await until(lambda: not up.server.sessions)


@pytest.mark.parametrize(
    "injected",
    [
        pytest.param(b"EHLO evil\r\n", id="a command"),
        pytest.param(b"MAIL FROM:<a@example.com>\r\n", id="a transaction"),
        pytest.param(b"\r", id="one octet"),
    ],
)
async def test_octets_sent_along_with_starttls_close_the_session(house: House, issued: Issued, injected: bytes) -> None:
    async with running(house, issued) as up:
        wire = await at_starttls(up.starttls)
        wire.writer.write(b"STARTTLS\r\n" + injected)
        assert await wire.rest() in (b"220 2.0.0 Ready to start TLS\r\n", b"")
        await wire.close()
        await until(lambda: not up.server.sessions)


async def test_octets_in_clear_text_after_the_220_are_no_handshake(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await at_starttls(up.starttls)
        await wire.say(b"STARTTLS\r\n")
        wire.writer.write(b"EHLO evil\r\n" + ENVELOPE)
        assert b"250" not in await wire.rest()
        await wire.close()
        await until(lambda: not up.server.sessions)
    assert house.facts.words.count("tls failed") == 1
    assert house.sessions.count("all") == 0


async def test_what_was_said_before_tls_is_forgotten(house: House, issued: Issued, trust: ssl.SSLContext) -> None:
    async with running(house, issued) as up:
        wire = await at_starttls(up.starttls)
        await wire.say(b"STARTTLS\r\n")
        await wire.starttls(trust)
        assert await wire.say(LOGIN + ENVELOPE, 3) == ["503 5.5.1", "530 5.7.0", "530 5.7.0"]
        assert await wire.say(b"EHLO other\r\n" + LOGIN + b"STARTTLS\r\n", 3) == ["250", "235 2.7.0", "503 5.5.1"]
        await wire.send()
        await wire.close()
    assert house.inbox.messages[0].ehlo == "other"


async def test_a_client_that_goes_away_in_the_handshake_leaves_nothing(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        for end in (Wire.reset, lambda wire: wire.writer.close()):
            wire = await at_starttls(up.starttls)
            await wire.say(b"STARTTLS\r\n")
            end(wire)
            await wire.close()
            await until(lambda: not up.server.sessions)
    assert house.sessions.count("all") == house.sessions.count("address:127.0.0.1") == 0
    assert house.facts.words.count("closed starttls") == 2


async def test_a_handshake_that_stands_still_ends(house: House, issued: Issued) -> None:
    async with running(house, issued, limits={"handshake": 0.2}) as up:
        wire = await at_starttls(up.starttls)
        await wire.say(b"STARTTLS\r\n")
        silent = await Wire.to(up.tls)
        assert await wire.rest() == await silent.rest() == b""
        await wire.close()
        await silent.close()
        await until(lambda: not up.server.sessions and not house.sessions.count("all"))
    assert house.facts.words.count("tls failed") == 2


async def test_a_drain_does_not_wait_for_handshakes(house: House, issued: Issued) -> None:
    async with running(house, issued) as up:
        wire = await at_starttls(up.starttls)
        await wire.say(b"STARTTLS\r\n")
        silent = await Wire.to(up.tls)
        await until(lambda: house.sessions.count("all") == 2)
        async with asyncio.timeout(WITHIN):
            await up.server.drain(seconds=60.0)
        assert await wire.rest() == await silent.rest() == b""
        await wire.close()
        await silent.close()
    assert house.sessions.count("all") == 0
