"""The client against a real Postfix: a reply per recipient, TLS, exact octets, and the end of its patience."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from relay.mail.verdict import Stage
from relay.smtpclient import Connection, Endpoint, OutgoingContent, SessionOptions, TlsContexts, TlsMode, connect
from tests.peers.certificates import Authority
from tests.peers.ports import Reserved
from tests.peers.postfix import NO_CHUNKING, POSTFIX, Postfix, postfix
from tests.smtpclient.sessions import PATIENT, transaction

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="a Postfix of one's own needs root"),
    pytest.mark.skipif(shutil.which(POSTFIX) is None, reason="Postfix is not installed (tests/install-peers)"),
]


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[Postfix]:
    issued = authority.issue("mx.postfix.test")
    with (
        Reserved() as port,
        postfix(
            "127.0.0.1",
            port.port,
            domains=["postfix.test"],
            mailboxes=["b", "c", "bücher"],
            certificate=issued.certificate,
            key=issued.key,
        ) as server,
    ):
        yield server


class Opener:
    """Opens sessions and leaves none open: Postfix would wait for them when it is stopped."""

    def __init__(self, server: Postfix, contexts: TlsContexts) -> None:
        self._endpoint = Endpoint(server.host, server.port, "mx.postfix.test")
        self._contexts = contexts
        self._connections: list[Connection] = []

    async def __call__(self, tls: TlsMode, *, source: str = "") -> Connection:
        options = SessionOptions(self._contexts, "relay.test", source=source, tls=tls, timeouts=PATIENT)
        outcome = await connect(self._endpoint, options)
        assert isinstance(outcome, Connection), outcome
        self._connections.append(outcome)
        return outcome

    async def close(self) -> None:
        for connection in self._connections:
            await connection.quit()


@pytest_asyncio.fixture
async def session(server: Postfix, contexts: TlsContexts) -> AsyncIterator[Opener]:
    opener = Opener(server, contexts)
    yield opener
    await opener.close()


def message(subject: str, body: bytes = b"") -> OutgoingContent:
    """With all that Postfix would add to a message of a client on loopback."""
    fields = (
        "From: a@relay.test",
        f"Subject: {subject}",
        "Date: Fri, 20 Nov 2026 10:00:00 +0000",
        "Message-ID: <1@relay.test>",
    )
    return OutgoingContent(head="\r\n".join([*fields, "", ""]).encode(), body=body)


async def arrived(server: Postfix, *recipients: str, content: bytes) -> None:
    """Postfix delivers exactly these octets, after the fields it adds, with its own line ends."""
    expected = b"\n" + content.replace(b"\r\n", b"\n")
    mails = await asyncio.to_thread(server.received, *recipients, with_octets=expected)
    assert all(mail.endswith(expected) for mail in mails)


CONTENT = [
    pytest.param("", id="in a chunk"),
    pytest.param(NO_CHUNKING, id="after DATA"),
]
TLS = [
    pytest.param(TlsMode.NONE, "", id="in clear"),
    pytest.param(TlsMode.OPPORTUNISTIC, "TLSv1.3 verified", id="opportunistic TLS"),
    pytest.param(TlsMode.VERIFIED, "TLSv1.3 verified", id="required TLS"),
]


@pytest.mark.parametrize("source", CONTENT)
@pytest.mark.parametrize(("tls", "recorded"), TLS)
async def test_many_messages_on_a_connection_and_each_recipient_s_own_reply(
    *, tls: TlsMode, recorded: str, source: str, session: Opener, server: Postfix, request: pytest.FixtureRequest
) -> None:
    connection = await session(tls, source=source)
    assert connection.tls == recorded
    assert ("CHUNKING" in connection.extensions) is not bool(source)
    assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"} <= set(connection.extensions)
    recipients = ("b@postfix.test", "nobody@postfix.test", "c@postfix.test", "full@postfix.test")
    for number in range(3):
        body = b".\r\n..\r\nTsch\xfc\xdf\r\n" + b"x" * 900 + b"\r\n."
        content = message(f"{request.node.name} {number}", body)
        result = await connection.transact(transaction(*recipients, content=content, mail_parameters=" BODY=8BITMIME"))
        assert [(reply.code, reply.status) for reply in result.recipients if reply] == [
            (250, "2.1.5"),
            (550, "5.1.1"),
            (250, "2.1.5"),
            (452, "4.2.2"),
        ]
        assert result.final is not None
        assert (result.final.code, result.final.status) == (250, "2.0.0")
        whole = content.head + content.body + b"\r\n"
        await arrived(server, "b@postfix.test", "c@postfix.test", content=whole)
    assert connection.usable


@pytest.mark.parametrize("source", CONTENT)
async def test_after_all_recipients_were_refused_the_connection_is_good(
    source: str, session: Opener, server: Postfix, request: pytest.FixtureRequest
) -> None:
    connection = await session(TlsMode.OPPORTUNISTIC, source=source)
    result = await connection.transact(transaction("nobody@postfix.test", "blocked@postfix.test"))
    assert (result.decided, result.stage, result.final, result.dot_sent) == (True, Stage.RCPT, None, False)
    content = message(request.node.name)
    result = await connection.transact(transaction("b@postfix.test", content=content))
    assert result.decided
    await arrived(server, "b@postfix.test", content=content.head)


@pytest.mark.parametrize("source", CONTENT)
async def test_content_refused_at_its_end_and_the_next_message_taken(
    source: str, session: Opener, server: Postfix, request: pytest.FixtureRequest
) -> None:
    connection = await session(TlsMode.NONE, source=source)
    result = await connection.transact(transaction("b@postfix.test", content=message("forbidden")))
    assert result.final is not None
    assert (str(result.final), result.stage) == ("550 5.7.1 Forbidden words", Stage.FINAL)
    content = message(f"allowed {request.node.name}")
    assert (await connection.transact(transaction("b@postfix.test", content=content))).decided
    await arrived(server, "b@postfix.test", content=content.head)


async def test_421_after_too_many_errors_is_the_end(session: Opener, server: Postfix) -> None:
    connection = await session(TlsMode.NONE)
    recipients = ["b@postfix.test", *["nobody@postfix.test"] * 1005]
    result = await connection.transact(transaction(*recipients))
    codes = [reply.code if reply else None for reply in result.recipients]
    assert (codes[0], codes[1]) == (250, 550)
    assert not result.decided
    assert "421 4.7.0 mx.postfix.test Error: too many errors" in result.failure
    assert not connection.usable


@pytest.mark.parametrize("source", CONTENT)
async def test_large_content_from_a_file(source: str, session: Opener, server: Postfix, tmp_path: Path) -> None:
    body = b"".join(b"%d. %s\r\n" % (number, b"." * (number % 70)) for number in range(50_000))
    path = tmp_path / "body"
    path.write_bytes(body)
    content = OutgoingContent(head=message(f"large {source}").head, path=path, size=len(body))
    connection = await session(TlsMode.OPPORTUNISTIC, source=source)
    result = await connection.transact(
        transaction("b@postfix.test", content=content, mail_parameters=f" SIZE={content.octets}")
    )
    assert result.decided
    await arrived(server, "b@postfix.test", content=content.head + body)


async def test_a_message_too_large_is_refused_at_mail(session: Opener, server: Postfix) -> None:
    connection = await session(TlsMode.NONE)
    result = await connection.transact(transaction("b@postfix.test", mail_parameters=" SIZE=999999999"))
    assert result.mail is not None
    assert (result.mail.code, result.mail.status, result.stage) == (552, "5.3.4", Stage.MAIL)
    assert result.recipients == (None,)
    assert (await connection.transact(transaction("b@postfix.test"))).final is not None


async def test_addresses_outside_ascii(session: Opener, server: Postfix) -> None:
    connection = await session(TlsMode.NONE)
    content = message("smtputf8 grüße")
    parameters = " SMTPUTF8 BODY=8BITMIME"
    sent = transaction("bücher@postfix.test", sender="ünï@relay.test", content=content, mail_parameters=parameters)
    assert (await connection.transact(sent)).final is not None
    await arrived(server, "bücher@postfix.test", content=content.head)
