"""Opening a session: what each stage's failure is called, and that nothing stays open."""

import asyncio
import base64
import socket
from dataclasses import dataclass
from typing import Any

import pytest

from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient import ConnectFailure, Endpoint, Fault, SessionOptions, TlsContexts, TlsMode, connect
from relay.smtpclient.ehlo import extensions_of
from tests.peers.certificates import Authority
from tests.peers.mx import Act, Answer, Mx, Peer, ScriptedMx, until
from tests.peers.silent import silent
from tests.smtpclient.sessions import PATIENT, Sessions, impatient, transaction


async def test_an_open_session_knows_what_was_said(sessions: Sessions) -> None:
    mx = Mx(
        {"GREETING": b"220-mx.test\r\n220 welcome\r\n"},
        extensions=("PIPELINING", "SIZE 1000", "limits RCPTMAX=5 MAILMAX=2"),
    )
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
    assert connection.greeting == Reply(220, "", "mx.test\nwelcome")
    assert connection.extensions == {"PIPELINING": "", "SIZE": "1000", "LIMITS": "RCPTMAX=5 MAILMAX=2"}
    assert (connection.tls, connection.local_address, connection.messages) == ("", "127.0.0.1", 0)
    assert str(connection.endpoint) == f"mx.test[127.0.0.1]:{server.port}"
    assert mx.sessions[0].commands == [b"EHLO relay.test"]


@dataclass
class Case:
    answers: dict[str, Answer]
    failure: ConnectFailure


def refused(stage: Stage, code: int, status: str, text: str) -> ConnectFailure:
    reply = Reply(code, status, text)
    return ConnectFailure(stage, reply, str(reply))


FAILURES = [
    pytest.param(
        Case({"GREETING": b"421 4.3.2 Too busy\r\n"}, refused(Stage.GREETING, 421, "4.3.2", "Too busy")),
        id="a busy greeting",
    ),
    pytest.param(
        Case(
            {"GREETING": b"554-5.7.1 No mail\r\n554 5.7.1 from you\r\n"},
            refused(Stage.GREETING, 554, "5.7.1", "No mail\nfrom you"),
        ),
        id="a refusing greeting of two lines",
    ),
    pytest.param(
        Case({"GREETING": b"250 hello\r\n"}, ConnectFailure(Stage.GREETING, None, 'the server answered "250 hello"')),
        id="a greeting that is none",
    ),
    pytest.param(
        Case(
            {"GREETING": b"SSH-2.0-OpenSSH_9.2\r\n"},
            ConnectFailure(Stage.GREETING, None, '"SSH-2.0-OpenSSH_9.2" is no SMTP reply'),
        ),
        id="another protocol",
    ),
    pytest.param(
        Case({"GREETING": Act.CLOSE}, ConnectFailure(Stage.GREETING, None, "the server closed the connection")),
        id="closed without a greeting",
    ),
    pytest.param(
        Case({"GREETING": Act.STALL}, ConnectFailure(Stage.GREETING, None, "no reply within 0.2 s")),
        id="no greeting",
    ),
    pytest.param(
        Case({"EHLO": b"451 4.7.1 Greylisted\r\n"}, refused(Stage.EHLO, 451, "4.7.1", "Greylisted")),
        id="EHLO put off: HELO would be too",
    ),
    pytest.param(
        Case(
            {"EHLO": b"550 5.7.1 No\r\n", "HELO": b"550 5.7.1 No, no\r\n"}, refused(Stage.EHLO, 550, "5.7.1", "No, no")
        ),
        id="EHLO and HELO refused",
    ),
    pytest.param(
        Case(
            {"EHLO": b"421 4.7.0 Your name has no PTR\r\n"}, refused(Stage.EHLO, 421, "4.7.0", "Your name has no PTR")
        ),
        id="421 to EHLO",
    ),
    pytest.param(
        Case(
            {"EHLO": b"250-mx.test\r\n251 SIZE\r\n"},
            ConnectFailure(Stage.EHLO, None, 'the code changes from 250 within a reply: "251 SIZE"'),
        ),
        id="a code that changes within the EHLO reply",
    ),
    pytest.param(
        Case(
            {"EHLO": b"250 mx.test\r\n250 PIPELINING\r\n"},
            ConnectFailure(Stage.EHLO, None, "the server sent what was not asked for"),
        ),
        id="two replies to EHLO",
    ),
    pytest.param(
        Case({"EHLO": Act.CLOSE}, ConnectFailure(Stage.EHLO, None, "the server closed the connection")),
        id="closed at EHLO",
    ),
    pytest.param(
        Case({"EHLO": Act.STALL}, ConnectFailure(Stage.EHLO, None, "no reply within 0.3 s")),
        id="no reply to EHLO",
    ),
]


@pytest.mark.parametrize("case", FAILURES)
async def test_a_failure_is_a_value_with_its_stage_and_the_exact_reply(case: Case, sessions: Sessions) -> None:
    async with ScriptedMx(Mx(case.answers)) as server:
        outcome = await sessions.try_to(server, timeouts=impatient(greeting=0.2, ehlo=0.3))
    assert outcome == case.failure


async def test_a_server_that_knows_only_helo_is_served_without_extensions(sessions: Sessions) -> None:
    mx = Mx({"EHLO": b"502 5.5.1 What?\r\n", "HELO": b"250 mx.test\r\n"})
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        assert connection.extensions == {}
        assert (await connection.transact(transaction())).decided
    assert mx.sessions[0].verbs == ["EHLO", "HELO", "MAIL", "RCPT", "DATA"]


async def test_a_port_where_nobody_listens(contexts: TlsContexts) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = await connect(
        Endpoint("127.0.0.1", port, "mx.test"), SessionOptions(contexts, "relay.test", timeouts=PATIENT)
    )
    assert outcome == ConnectFailure(Stage.CONNECT, None, "Connection refused")


async def test_an_address_that_does_not_answer(contexts: TlsContexts) -> None:
    with silent("127.0.0.1") as port:
        endpoint = Endpoint("127.0.0.1", port, "mx.test")
        outcome = await connect(endpoint, SessionOptions(contexts, "relay.test", timeouts=impatient(connect=0.2)))
    assert outcome == ConnectFailure(Stage.CONNECT, None, "no connection within 0.2 s")


async def test_the_source_address_is_the_one_given(sessions: Sessions) -> None:
    seen = []

    async def script(peer: Peer) -> None:
        seen.append(peer.writer.get_extra_info("peername")[0])
        await Mx()(peer)

    async with ScriptedMx(script) as server:
        connection = await sessions.to(server, source="127.0.0.2")
    assert seen == ["127.0.0.2"]
    assert connection.local_address == "127.0.0.2"


async def test_a_source_address_this_machine_does_not_have_is_named(sessions: Sessions) -> None:
    async with ScriptedMx(Mx()) as server:
        outcome = await sessions.try_to(server, source="192.0.2.1")
    text = "192.0.2.1 is not an address of this machine"
    assert outcome == ConnectFailure(Stage.CONNECT, None, text, fault=Fault.SOURCE)


async def test_ipv6(sessions: Sessions) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with ScriptedMx(Mx(), host="::1") as server:
        connection = await sessions.to(server)
    assert connection.local_address == "::1"


AUTH = [
    pytest.param("PLAIN LOGIN", [b"AUTH PLAIN " + base64.b64encode(b"\0user\0s\xc3\xa9cret")], id="PLAIN is preferred"),
    pytest.param(
        "LOGIN CRAM-MD5", [b"AUTH LOGIN " + base64.b64encode(b"user"), base64.b64encode(b"s\xc3\xa9cret")], id="LOGIN"
    ),
]


@pytest.mark.parametrize(("mechanisms", "commands"), AUTH)
async def test_a_smarthost_is_given_the_login_inside_tls(
    mechanisms: str, commands: list[bytes], authority: Authority, sessions: Sessions
) -> None:
    said: dict[str, Any] = {"AUTH": b"235 2.7.0 In\r\n"}
    if len(commands) > 1:
        said = {"AUTH": b"334 UGFzc3dvcmQ6\r\n", commands[1].decode().upper(): b"235 2.7.0 In\r\n"}
    mx = Mx(
        said, extensions=("PIPELINING", f"AUTH {mechanisms}"), context=authority.issue("smart.test").server_context()
    )
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(
            server, tls=TlsMode.VERIFIED, name="smart.test", login="user", secret="sécret"
        )
        assert (await connection.transact(transaction())).decided
    assert mx.sessions[0].commands[3 : 3 + len(commands)] == commands


@pytest.mark.parametrize(
    ("offer", "answer", "failure"),
    [
        pytest.param(
            "AUTH PLAIN", b"535 5.7.8 Wrong\r\n", refused(Stage.AUTH, 535, "5.7.8", "Wrong"), id="a wrong secret"
        ),
        pytest.param(
            "AUTH LOGIN", b"454 4.7.0 Later\r\n", refused(Stage.AUTH, 454, "4.7.0", "Later"), id="trouble over there"
        ),
        pytest.param(
            "AUTH GSSAPI",
            b"",
            ConnectFailure(Stage.AUTH, None, "the server offers neither AUTH PLAIN nor AUTH LOGIN"),
            id="no mechanism of ours",
        ),
        pytest.param(
            "SIZE",
            b"",
            ConnectFailure(Stage.AUTH, None, "the server offers neither AUTH PLAIN nor AUTH LOGIN"),
            id="no AUTH",
        ),
    ],
)
async def test_a_refused_login_is_told(
    offer: str, answer: bytes, failure: ConnectFailure, authority: Authority, sessions: Sessions
) -> None:
    mx = Mx({"AUTH": answer}, extensions=(offer,))
    async with ScriptedMx(mx, context=authority.issue("smart.test").server_context()) as server:
        outcome = await sessions.try_to(server, tls=TlsMode.IMPLICIT, name="smart.test", login="user", secret="secret")
    assert outcome == failure


@pytest.mark.parametrize("tls", [TlsMode.NONE, TlsMode.OPPORTUNISTIC])
def test_a_login_is_never_sent_over_what_is_not_verified(tls: TlsMode, contexts: TlsContexts) -> None:
    with pytest.raises(ValueError, match="verified TLS"):
        SessionOptions(contexts, "relay.test", tls=tls, login="user", secret="secret")


async def test_a_name_of_ours_with_a_control_character_is_our_mistake(sessions: Sessions) -> None:
    async with ScriptedMx(Mx()) as server:
        with pytest.raises(ValueError, match="prohibited"):
            await sessions.try_to(server, ehlo="relay.test\r\nMAIL")


@pytest.mark.parametrize(
    ("text", "extensions"),
    [
        pytest.param("mx", {}, id="nothing offered"),
        pytest.param("mx greets you\nSize 1000\nstarttls", {"SIZE": "1000", "STARTTLS": ""}, id="any case"),
        pytest.param("mx\nAUTH=LOGIN PLAIN", {"AUTH": "LOGIN PLAIN"}, id="the old spelling of AUTH"),
        pytest.param("mx\nAUTH PLAIN\nAUTH=LOGIN", {"AUTH": "PLAIN LOGIN"}, id="both spellings"),
        pytest.param("mx\n\n  DSN  ", {"DSN": ""}, id="empty lines and spaces"),
    ],
)
def test_extensions_are_read_from_the_reply_to_ehlo(text: str, extensions: dict[str, str]) -> None:
    assert extensions_of(Reply(250, "", text)) == extensions


async def test_leaving_while_connecting_leaves_nothing_open(sessions: Sessions) -> None:
    mx = Mx({"EHLO": Act.STALL})
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            await mx(peer)
        finally:
            left.set()

    async with ScriptedMx(script) as server:
        attempt = asyncio.create_task(sessions.try_to(server))
        await until(lambda: bool(mx.sessions and mx.sessions[0].commands), what="EHLO was sent")
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await asyncio.wait_for(left.wait(), 5)
