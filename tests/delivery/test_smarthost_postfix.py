"""Through a real Postfix with a login: what it takes, what it refuses in its own words, and what when it is gone."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.mail.event import Kind
from tests.delivery.outfit import Outfit, config, outfit
from tests.peers.certificates import Authority
from tests.peers.mx import Mx, ScriptedMx
from tests.peers.ports import Reserved
from tests.peers.postfix import POSTFIX, Login, Postfix, postfix

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a Postfix of one's own needs root"),
    pytest.mark.skipif(shutil.which(POSTFIX) is None, reason="Postfix is not installed (tests/install-peers)"),
]

HOST = "127.0.0.1"
LOGIN = Login("relay", "right", "app@sender.example")
NOT_NOW: dict[str, Any] = {"retry": {"ladder": ["1h"], "jitter": 0}}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def smarthost(authority: Authority, port: int) -> Iterator[Postfix]:
    issued = authority.issue(HOST)
    with postfix(
        HOST,
        port,
        domains=["postfix.test"],
        mailboxes=["ann"],
        certificate=issued.certificate,
        key=issued.key,
        login=LOGIN,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Postfix]:
    with Reserved(HOST) as reserved, smarthost(authority, reserved.port) as running:
        yield running


@pytest.fixture
def table(server: Postfix, authority: Authority, tmp_path: Path) -> dict[str, Any]:
    return table_of(server.port, authority, tmp_path)


def table_of(port: int, authority: Authority, tmp_path: Path, *, secret: str = "right") -> dict[str, Any]:
    (tmp_path / "secret").write_text(secret)
    secret_file = str(tmp_path / "secret")
    return {"host": HOST, "port": port, "ca": str(authority.root), "login": "relay", "secret_file": secret_file}


def through(
    tmp_path: Path, *, steady: Callable[[], float] = time.time, **smarthosts: dict[str, Any]
) -> AbstractAsyncContextManager[Outfit]:
    settings = config(tmp_path / "spool", smarthost=smarthosts, route=[{"via": list(smarthosts)}], delivery=NOT_NOW)
    return outfit(settings, steady=steady)


async def test_mail_goes_out_with_our_login(server: Postfix, table: dict[str, Any], tmp_path: Path) -> None:
    async with through(tmp_path, first=table) as relay:
        await relay.submit("ann@postfix.test", body=b"with a login\r\n")
        event = await relay.until("ann@postfix.test", Kind.DELIVERED)
        assert event.tls == "TLSv1.3 verified"
        server.received("ann@postfix.test", with_octets=b"with a login")
        server.logged("sasl_method=PLAIN", "sasl_username=relay")


async def test_who_does_not_exist_there_bounces_and_is_suppressed(table: dict[str, Any], tmp_path: Path) -> None:
    async with through(tmp_path, first=table) as relay:
        await relay.submit("nobody@postfix.test")
        event = await relay.until("nobody@postfix.test", Kind.BOUNCED)
        assert event.verdict == "recipient"
        assert len(await relay.suppressions()) == 1


async def test_a_wrong_secret_defers_and_another_smarthost_helps(
    server: Postfix, authority: Authority, tmp_path: Path
) -> None:
    wrong = table_of(server.port, authority, tmp_path, secret="wrong")
    async with through(tmp_path / "alone", first=wrong) as relay:
        await relay.submit("ann@postfix.test")
        event = await relay.until("ann@postfix.test", Kind.DEFERRED)
        assert event.reply.startswith("535 5.7.8 ")
    mx = Mx()
    async with ScriptedMx(mx) as other:
        second = {"host": HOST, "port": other.port, "security": "none"}
        async with through(tmp_path / "helped", first=wrong, second=second) as relay:
            await relay.submit("ann@postfix.test")
            event = await relay.until("ann@postfix.test", Kind.DELIVERED)
            assert "535 5.7.8 " in event.detail


async def test_a_sender_that_the_login_does_not_own_is_nobodys_bounce(table: dict[str, Any], tmp_path: Path) -> None:
    async with through(tmp_path, first=table) as relay:
        await relay.submit("ann@postfix.test", sender="other@sender.example")
        event = await relay.until("ann@postfix.test", Kind.DEFERRED)
        assert "not owned by user relay" in event.reply
        assert (event.verdict, await relay.suppressions()) == ("sender", [])
        await relay.submit("ann@postfix.test", sender=LOGIN.address)
        await relay.until("ann@postfix.test", Kind.DELIVERED)


async def test_a_login_that_is_missing_is_nobodys_bounce(table: dict[str, Any], tmp_path: Path) -> None:
    async with through(tmp_path, first={**table, "login": "", "secret_file": None}) as relay:
        await relay.submit("x@elsewhere.test", sender="x@y.example")
        event = await relay.until("x@elsewhere.test", Kind.DEFERRED)
        assert "Relay access denied" in event.reply
        assert (event.verdict, await relay.suppressions()) == ("sender", [])


async def test_when_it_is_stopped_mail_goes_to_the_next_and_comes_back(authority: Authority, tmp_path: Path) -> None:
    mx, seconds = Mx(), [1000.0]
    with Reserved(HOST) as reserved:
        async with ScriptedMx(mx) as other:
            first = table_of(reserved.port, authority, tmp_path)
            second = {"host": HOST, "port": other.port, "security": "none"}
            async with through(tmp_path, steady=lambda: seconds[0], first=first, second=second) as relay:
                with smarthost(authority, reserved.port):
                    await relay.submit("ann@postfix.test", body=b"before\r\n")
                    await relay.until("ann@postfix.test", Kind.DELIVERED)
                    relay.shard.couriers.release_idle("first")  # or Postfix waits for it
                await relay.submit("ann@postfix.test", body=b"while it is away\r\n")
                event = await relay.until("ann@postfix.test", Kind.DELIVERED, count=2)
                assert "Connection refused" in event.detail
                assert len(mx.messages) == 1
                with smarthost(authority, reserved.port) as running:
                    seconds[0] += 31
                    await relay.submit("ann@postfix.test", body=b"when it is back\r\n")
                    await relay.until("ann@postfix.test", Kind.DELIVERED, count=3)
                    running.received("ann@postfix.test", with_octets=b"when it is back")
                assert len(mx.messages) == 1
