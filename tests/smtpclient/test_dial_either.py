"""A socket to one of two addresses of a host (RFC 8305), on both loops."""

import asyncio
import socket

import pytest

from relay.mail.verdict import Stage
from relay.smtpclient import ConnectFailure, Endpoint, SessionOptions, TlsContexts, dial_either
from relay.smtpclient.dial import Dialled, Way
from tests.peers.mx import Mx, ScriptedMx, until
from tests.peers.silent import dialling, silent
from tests.smtpclient.sessions import impatient

IPV6, IPV4 = "::1", "127.0.0.1"
SILENT = ConnectFailure(Stage.CONNECT, None, "no connection within 0.4 s")


def ways(port: int, contexts: TlsContexts) -> tuple[Way, Way]:
    options = SessionOptions(contexts, "relay.test", timeouts=impatient(connect=0.4))
    return (Endpoint(IPV6, port, "mx.test"), options), (Endpoint(IPV4, port, "mx.test"), options)


def peer_of(dialled: Dialled | None) -> str:
    assert isinstance(dialled, socket.socket), dialled
    with dialled:
        return str(dialled.getpeername()[0])


async def test_the_rival_of_one_that_does_not_answer_is_given_and_the_other_closed(contexts: TlsContexts) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        with silent(IPV6, server.port):
            before = dialling(server.port)
            first, rival = await dial_either(*ways(server.port, contexts))
            assert dialling(server.port) == before
    assert (first, peer_of(rival)) == (None, IPV4)


async def test_the_rival_of_one_that_connects_is_not_begun(contexts: TlsContexts) -> None:
    async with ScriptedMx(Mx(), host=IPV6) as server, ScriptedMx(Mx(), host=IPV4, port=server.port) as other:
        first, rival = await dial_either(*ways(server.port, contexts))
        assert (peer_of(first), rival, other.connections) == (IPV6, None, 0)


async def test_the_rival_of_one_that_refuses_is_left_to_the_caller(contexts: TlsContexts) -> None:
    async with ScriptedMx(Mx(), host=IPV4) as server:
        first, rival = await dial_either(*ways(server.port, contexts))
    assert (first, rival) == (ConnectFailure(Stage.CONNECT, None, "Connection refused"), None)


async def test_where_none_connects_both_failures_are_given(contexts: TlsContexts) -> None:
    with silent(IPV6) as port, silent(IPV4, port):
        assert await dial_either(*ways(port, contexts)) == (SILENT, SILENT)


async def test_a_rival_that_fails_does_not_end_the_first(contexts: TlsContexts) -> None:
    with silent(IPV6) as port:
        assert await dial_either(*ways(port, contexts)) == (
            SILENT,
            ConnectFailure(Stage.CONNECT, None, "Connection refused"),
        )


async def test_giving_up_closes_both(contexts: TlsContexts) -> None:
    with silent(IPV6) as port, silent(IPV4, port):
        before = dialling(port)
        options = SessionOptions(contexts, "relay.test", timeouts=impatient(connect=20.0))
        first, rival = ((endpoint, options) for endpoint, _ in ways(port, contexts))
        task = asyncio.create_task(dial_either(first, rival))
        await until(lambda: dialling(port) == before + 2, what="both are tried")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert dialling(port) == before
