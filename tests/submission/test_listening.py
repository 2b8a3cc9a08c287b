"""Listeners that come and go while the server runs, without a session noticing; on both loops."""

import ssl
from pathlib import Path

import pytest

from relay.config.models import Config
from relay.errors import ConfigError
from tests.peers.certificates import Authority, Issued
from tests.submission.house import House
from tests.submission.wire import ENVELOPE, Opened, Running, Wire, config_for, listen, running


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("relay.test")


async def refused(port: int) -> bool:
    try:
        await Wire.to(port)
    except OSError:
        return True
    return False


async def relisten(house: Running, opened: Opened, issued: Issued) -> Config:
    config = config_for(opened, issued, {})
    house.server.reload(config)
    await house.server.listen(opened)
    return config


async def test_a_listener_that_is_new_takes_sessions_and_one_that_is_gone_takes_none(
    house: House, issued: Issued, authority: Authority
) -> None:
    async with running(house, issued) as served:
        new = Opened([listen()], [listen()], [listen()])
        await relisten(served, new, issued)
        for port in (served.starttls, served.tls, served.trusted):
            assert await refused(port)
        for kind in (new.starttls, new.trusted):
            wire = await Wire.to(kind[0].getsockname()[1])
            assert (await wire.reply()).startswith("220")
            await wire.close()


async def test_a_session_outlives_its_listener(house: House, issued: Issued) -> None:
    async with running(house, issued) as served:
        wire = await Wire.to(served.trusted)
        assert (await wire.reply()).startswith("220")
        assert await wire.say(b"EHLO client\r\n" + ENVELOPE + b"DATA\r\n", 4) == [
            "250",
            "250 2.1.0",
            "250 2.1.5",
            "354",
        ]
        await relisten(served, Opened([listen()]), issued)
        assert await refused(served.trusted)
        reply = await wire.ask(b"From: a@example.com\r\n\r\nhello\r\n.\r\n")
        assert reply.startswith("250 2.0.0 Ok: queued")
        await wire.close()


async def test_a_listener_that_stays_is_left_alone(house: House, issued: Issued) -> None:
    opened = Opened([listen()], [listen()], [listen()])
    async with running(house, issued) as served:
        await relisten(served, opened, issued)
        before = list(served.server._entrances)
        again = Opened(list(opened.starttls), list(opened.tls), list(opened.trusted))
        await relisten(served, again, issued)
        assert served.server._entrances == before
        wire = await Wire.to(opened.trusted[0].getsockname()[1])
        assert (await wire.reply()).startswith("220")
        await wire.close()


async def test_an_address_may_change_from_starttls_to_tls(house: House, issued: Issued, authority: Authority) -> None:
    async with running(house, issued) as served:
        first = Opened([listen()])
        await relisten(served, first, issued)
        port = first.starttls[0].getsockname()[1]
        second = Opened(tls=[first.starttls[0].dup()])
        await relisten(served, second, issued)
        wire = await Wire.to(port, context=_trusting(authority))
        assert (await wire.reply()).startswith("220")
        await wire.close()


async def test_a_certificate_is_read_with_the_first_listener_that_needs_it(
    house: House, issued: Issued, authority: Authority
) -> None:
    async with running(house, issued) as served:
        await relisten(served, Opened(trusted=[listen()]), issued)
        opened = Opened([listen()])
        await relisten(served, opened, issued)
        wire = await Wire.to(opened.starttls[0].getsockname()[1])
        await wire.reply()
        assert await wire.say(b"EHLO client\r\nSTARTTLS\r\n", 2) == ["250", "220 2.0.0"]
        await wire.starttls(_trusting(authority))
        assert await wire.say(b"EHLO client\r\n") == ["250"]
        await wire.close()


async def test_a_configuration_that_cannot_be_used_leaves_everything_as_it_was(
    house: House, issued: Issued, tmp_path: Path
) -> None:
    async with running(house, issued) as served:
        missing = Issued(tmp_path / "missing.pem", tmp_path / "missing.key")
        opened = Opened([listen()])
        with pytest.raises(ConfigError, match="missing"):
            served.server.reload(config_for(opened, missing, {"message_size": 70_000}))
        opened.starttls[0].close()
        wire = await Wire.to(served.starttls)
        await wire.reply()
        assert "SIZE 26214400" in await wire.ask(b"EHLO client\r\n")
        await wire.close()


def _trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.root)
