"""TLS to MX hosts and smarthosts: what is tried, what follows when it fails, what the journal says of it."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Config
from relay.mail.event import Kind
from tests.delivery.outfit import config, outfit
from tests.peers.certificates import Authority
from tests.peers.mx import HesitantMx, Mx, Peer, ScriptedMx, until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def self_signed(authority: Authority) -> ssl.SSLContext:
    return authority.self_signed("mx.dest.example").server_context()


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


ONE_CONNECTION = {"mx_suffix": "mx.dest.example", "connections": 1}
NO_TLS_AFTER_ALL: dict[str, Any] = {
    "not offered": lambda _: Mx(),
    "refused": lambda context: Mx({"STARTTLS": b"454 4.7.0 TLS not available\r\n"}, context=context),
    "refused for good": lambda context: Mx({"STARTTLS": b"554 5.7.0 No TLS for you\r\n"}, context=context),
    "a handshake that fails": lambda _: Mx(context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
    "a server that knows no EHLO": lambda _: Mx({"EHLO": b"502 5.5.1 What?\r\n", "HELO": b"250 mx\r\n"}),
}


@pytest.mark.parametrize("need", ["required", "verified"])
@pytest.mark.parametrize("server_of", [pytest.param(make, id=name) for name, make in NO_TLS_AFTER_ALL.items()])
async def test_mail_that_needs_tls_waits_and_nothing_of_it_is_sent_in_clear(
    server_of: Callable[[ssl.SSLContext], Mx],
    need: str,
    self_signed: ssl.SSLContext,
    nameserver: str,
    tmp_path: Path,
) -> None:
    mx = server_of(self_signed)
    async with ScriptedMx(mx) as server, outfit(_needing(need, server, nameserver, tmp_path)) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DEFERRED)
        said = f'mail waits, for tls = "{need}" there ([[site]] 1 in relay.toml: mx_suffix = "mx.dest.example")'
        assert said in event.detail
        assert "4.7.4 " in event.detail
        assert not any({"MAIL", "DATA"} & set(session.verbs) for session in mx.sessions)
        (site,) = relay.shard.couriers.sites.values()
        assert said in site.last_error


async def test_mail_that_needs_tls_takes_any_certificate(
    self_signed: ssl.SSLContext, nameserver: str, tmp_path: Path
) -> None:
    mx = Mx(context=self_signed)
    async with ScriptedMx(mx) as server, outfit(_needing("required", server, nameserver, tmp_path)) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert event.tls.startswith("TLSv1.3 unverified: ")


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        pytest.param("mx.dest.example", Kind.DELIVERED, "", id="and is sent to the host that has it"),
        pytest.param("dest.example", Kind.DEFERRED, "4.7.5 the certificate does not verify: Hostname", id="else waits"),
    ],
)
async def test_a_certificate_must_have_the_name_of_the_mx_host_where_it_is_verified(
    *, name: str, kind: Kind, said: str, authority: Authority, nameserver: str, tmp_path: Path
) -> None:
    mx = Mx(context=authority.issue(name).server_context())
    async with ScriptedMx(mx) as server:
        settings = _needing("verified", server, nameserver, tmp_path)
        async with outfit(settings, ca=authority.root) as relay:
            await relay.submit("x@dest.example")
            event = await relay.until("x@dest.example", kind)
            assert said in event.detail
            assert event.tls == ("" if said else "TLSv1.3 verified")
            assert len(mx.messages) == (not said)


async def test_one_host_without_tls_does_not_keep_mail_from_the_next(
    self_signed: ssl.SSLContext, nameserver: str, tmp_path: Path
) -> None:
    first, second = Mx(), Mx(context=self_signed)
    async with ScriptedMx(first, host="127.0.0.4") as one, ScriptedMx(second, host="127.0.0.5", port=one.port):
        table = {"mx_suffix": "pair.example", "tls": "required"}
        settings = config(tmp_path, port=one.port, nameserver=nameserver, site=[table])
        async with outfit(settings) as relay:
            await relay.submit("x@pair.example")
            event = await relay.until("x@pair.example", Kind.DELIVERED)
            assert event.mx.startswith("b.pair.example")
            assert first.messages == []


async def test_a_reload_that_needs_tls_sends_no_more_over_a_connection_without(
    nameserver: str, tmp_path: Path
) -> None:
    mx = HesitantMx()
    async with ScriptedMx(mx) as server:
        before = config(tmp_path, port=server.port, nameserver=nameserver, site=[ONE_CONNECTION])
        async with outfit(before) as relay:
            await relay.submit("x@dest.example")
            await mx.asked.wait()
            await relay.submit("y@dest.example")
            relay.reload(_needing("required", server, nameserver, tmp_path))
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: site.waiting == 1, what="it is looked up again and waits for the connection")
            mx.may_answer.set()
            await relay.until("x@dest.example", Kind.DELIVERED)
            await relay.until("y@dest.example", Kind.DEFERRED)
            assert len(mx.messages) == 1


async def test_a_message_that_waits_for_its_turn_with_a_connection_goes_in_clear_no_more_after_a_reload(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        paced = {**ONE_CONNECTION, "messages_per_second": 0.7}
        before = config(tmp_path, port=server.port, nameserver=nameserver, site=[paced])
        async with outfit(before) as relay:
            for name in "xy":
                await relay.submit(f"{name}@dest.example")
            await relay.until("x@dest.example", Kind.DELIVERED)
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: site.couriers == 1 and not site.waiting, what="the next waits for its turn")
            relay.reload(_needing("required", server, nameserver, tmp_path))
            await relay.until("y@dest.example", Kind.DEFERRED)
            assert len(mx.messages) == 1


async def test_a_session_that_is_being_opened_in_clear_is_not_used_after_a_reload(
    nameserver: str, tmp_path: Path
) -> None:
    mx = SlowToGreet()
    async with ScriptedMx(mx) as server:
        before = config(tmp_path, port=server.port, nameserver=nameserver, site=[ONE_CONNECTION])
        async with outfit(before) as relay:
            await relay.submit("x@dest.example")
            await mx.asked.wait()
            relay.reload(_needing("required", server, nameserver, tmp_path))
            mx.may_answer.set()
            await relay.until("x@dest.example", Kind.DEFERRED)
            assert mx.messages == []


class SlowToGreet(Mx):
    """Greets only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        self.asked.set()
        await self.may_answer.wait()
        await super().__call__(peer)


def _needing(need: str, server: ScriptedMx, nameserver: str, tmp_path: Path) -> Config:
    table = {**ONE_CONNECTION, "tls": need}
    return config(tmp_path, port=server.port, nameserver=nameserver, site=[table])


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


async def test_what_mx_hosts_need_is_not_said_of_a_smarthost(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx()) as server:
        table = {"mx_suffix": "127.0.0.1", "tls": "required"}
        settings = config(tmp_path, nameserver=nameserver, route=[_route(server, security="starttls")], site=[table])
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example")
            event = await relay.until("x@dest.example", Kind.DEFERRED)
            assert event.detail.endswith("the server does not offer STARTTLS")


async def test_a_smarthost_in_clear_text_is_used_again_whatever_mx_hosts_need(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx()) as server:
        table = {"mx_suffix": "127.0.0.1", "tls": "required"}
        settings = config(tmp_path, nameserver=nameserver, route=[_route(server, security="none")], site=[table])
        async with outfit(settings) as relay:
            for name in "xyz":
                await relay.submit(f"{name}@dest.example")
                await relay.until(f"{name}@dest.example", Kind.DELIVERED)
            assert server.connections == 1


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
