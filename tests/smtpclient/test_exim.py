"""The client against a real Exim, which offers CHUNKING: exact octets, and what follows a refusal."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from relay.mail.verdict import Stage
from relay.smtpclient import Connection, Endpoint, OutgoingContent, SessionOptions, TlsContexts, TlsMode, connect
from tests.peers.exim import EXIM, FORBIDDEN_REPLY, UNKNOWN_REPLY, Exim, exim
from tests.peers.ports import Reserved
from tests.smtpclient.sessions import PATIENT, transaction

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="an Exim of one's own needs root"),
    pytest.mark.skipif(not EXIM.exists(), reason="Exim is not installed (tests/install-peers)"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Exim]:
    with Reserved() as port, exim("127.0.0.1", port.port, domain="exim.test", mailboxes=["b", "c"]) as server:
        yield server


@pytest_asyncio.fixture
async def connection(server: Exim, contexts: TlsContexts) -> AsyncIterator[Connection]:
    endpoint = Endpoint(server.host, server.port, "mx.exim.test")
    outcome = await connect(endpoint, SessionOptions(contexts, "relay.test", tls=TlsMode.NONE, timeouts=PATIENT))
    assert isinstance(outcome, Connection), outcome
    assert "CHUNKING" in outcome.extensions
    yield outcome
    await outcome.quit()


def message(subject: str) -> bytes:
    fields = ("From: a@relay.test", f"Subject: {subject}", "Date: Fri, 20 Nov 2026 10:00:00 +0000", "Message-ID: <1@r>")
    return "\r\n".join([*fields, "", ""]).encode()


async def test_each_recipient_has_its_reply_and_content_arrives_as_it_is(
    connection: Connection, server: Exim, request: pytest.FixtureRequest
) -> None:
    for number in range(3):
        name = request.node.name.encode()
        body = b"%d %s\r\n.\r\n..\r\nTsch\xfc\xdf\r\n%s\r\n.\r\n" % (number, name, b"x" * 900)
        content = OutgoingContent(head=message("dots"), body=body)
        result = await connection.transact(
            transaction("b@exim.test", "unknown@exim.test", content=content, mail_parameters=" BODY=8BITMIME")
        )
        assert (str(result.recipients[1]), result.final is not None) == (UNKNOWN_REPLY, True)
        (mail,) = await asyncio.to_thread(server.received, "b@exim.test", with_octets=body.replace(b"\r\n", b"\n"))
        assert mail.endswith(b"\n\n" + body.replace(b"\r\n", b"\n"))


async def test_after_a_refused_chunk_the_next_message_is_taken(
    connection: Connection, server: Exim, request: pytest.FixtureRequest
) -> None:
    refused = OutgoingContent(head=message("forbidden"), body=b"no\r\n")
    result = await connection.transact(transaction("b@exim.test", content=refused))
    assert (str(result.final), result.stage) == (FORBIDDEN_REPLY, Stage.FINAL)
    body = request.node.name.encode() + b"\r\n"
    result = await connection.transact(
        transaction("c@exim.test", content=OutgoingContent(head=message("allowed"), body=body))
    )
    assert result.decided
    await asyncio.to_thread(server.received, "c@exim.test", with_octets=body.replace(b"\r\n", b"\n"))


async def test_after_all_recipients_were_refused_the_next_message_is_taken(connection: Connection) -> None:
    result = await connection.transact(transaction("unknown@exim.test"))
    assert (result.decided, result.stage, result.dot_sent) == (True, Stage.RCPT, False)
    content = OutgoingContent(head=message("taken"), body=b"yes\r\n")
    result = await connection.transact(transaction("b@exim.test", content=content))
    assert result.final is not None
    assert result.final.is_positive


async def test_large_content_from_a_file(
    connection: Connection, server: Exim, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    body = b"".join(b"%d. %s\r\n" % (number, b"." * (number % 70)) for number in range(50_000))
    body = request.node.name.encode() + b"\r\n" + body
    path = tmp_path / "body"
    path.write_bytes(body)
    content = OutgoingContent(head=message("large"), path=path, size=len(body))
    assert (await connection.transact(transaction("b@exim.test", content=content))).decided
    await asyncio.to_thread(server.received, "b@exim.test", with_octets=body.replace(b"\r\n", b"\n"))
