"""TLS to MX hosts and smarthosts: what is tried, what follows when it fails, what the journal says of it."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Config
from relay.mail.event import Kind
from tests.delivery.outfit import config, outfit
from tests.peers.certificates import Authority
from tests.peers.mx import HesitantMx, Mx, ScriptedMx, until


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return Authority(tmp_path_factory.mktemp("authority")).self_signed("mx.dest.example").server_context()


async def test_an_mx_hosts_certificate_is_not_verified_but_judged(
    self_signed: ssl.SSLContext, nameserver: str, tmp_path: Path
) -> None:
    mx = Mx(context=self_signed)
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert mx.sessions[0].secure
        assert event.tls.startswith("TLSv1.3 unverified: ")


async def test_where_starttls_is_refused_mail_to_an_mx_host_goes_in_clear(
    self_signed: ssl.SSLContext, nameserver: str, tmp_path: Path
) -> None:
    mx = Mx({"STARTTLS": b"454 4.7.0 TLS not available\r\n"}, context=self_signed)
    await _arrives_in_clear(mx, nameserver, tmp_path)


async def test_where_the_handshake_fails_mail_to_an_mx_host_goes_in_clear(nameserver: str, tmp_path: Path) -> None:
    nothing_to_show = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mx = Mx(context=nothing_to_show)
    await _arrives_in_clear(mx, nameserver, tmp_path)


async def _arrives_in_clear(mx: Mx, nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert event.tls == ""
        assert server.connections == 2


async def test_a_smarthost_without_the_tls_it_is_to_have_gets_nothing(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        route = {"via": f"smtp://127.0.0.1:{server.port}", "security": "starttls"}
        settings = config(tmp_path, nameserver=nameserver, route=[route], delivery={"retry": {"ladder": ["1h"]}})
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example")
            event = await relay.until("x@dest.example", Kind.DEFERRED)
            assert "STARTTLS" in event.detail
            assert mx.messages == []


async def test_a_route_that_demands_tls_shares_no_connection_with_one_that_does_not(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        plain = {"recipient_domain": "other.example", **_route(server, security="none")}
        settings = _routed(tmp_path, nameserver, plain, _route(server, security="starttls"))
        async with outfit(settings) as relay:
            await relay.submit("x@other.example")
            await relay.until("x@other.example", Kind.DELIVERED)
            await relay.submit("x@dest.example")
            event = await relay.until("x@dest.example", Kind.DEFERRED)
            assert "STARTTLS" in event.detail
            assert len(mx.messages) == 1


async def test_a_reload_that_demands_tls_leaves_no_connection_without(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        before, after = (_routed(tmp_path, nameserver, _route(server, security=each)) for each in ("none", "starttls"))
        async with outfit(before) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DELIVERED)
            relay.reload(after)
            await until(lambda: mx.sessions[0].verbs[-1] == "QUIT", what="the idle connection is closed")
            await relay.submit("y@dest.example")
            event = await relay.until("y@dest.example", Kind.DEFERRED)
            assert "STARTTLS" in event.detail


async def test_a_reload_holds_for_what_waits_already(nameserver: str, tmp_path: Path) -> None:
    mx = HesitantMx()
    (tmp_path / "profiles.toml").write_text("[default]\nconnections = 1\nmessages_per_connection = 50\n")
    async with ScriptedMx(mx) as server:
        before, after = (_routed(tmp_path, nameserver, _route(server, security=each)) for each in ("none", "starttls"))
        async with outfit(before) as relay:
            await relay.submit("x@dest.example")
            await mx.asked.wait()
            await relay.submit("y@dest.example")
            relay.reload(after)
            mx.may_answer.set()
            await relay.until("x@dest.example", Kind.DELIVERED)
            event = await relay.until("y@dest.example", Kind.DEFERRED)
            assert "STARTTLS" in event.detail


def _route(server: ScriptedMx, *, security: str) -> dict[str, Any]:
    return {"via": f"smtp://{server.host}:{server.port}", "security": security}


def _routed(tmp_path: Path, nameserver: str, *routes: dict[str, Any]) -> Config:
    delivery: dict[str, Any] = {"retry": {"ladder": ["1h"]}}
    if (tmp_path / "profiles.toml").exists():
        delivery["profiles"] = str(tmp_path / "profiles.toml")
    return config(tmp_path / "spool", nameserver=nameserver, route=list(routes), delivery=delivery)


async def test_tls_can_be_switched_off(self_signed: ssl.SSLContext, nameserver: str, tmp_path: Path) -> None:
    mx = Mx(context=self_signed)
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery={"tls": "none"})
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DELIVERED)
            assert "STARTTLS" not in mx.sessions[0].verbs
