"""Large and odd content: exact octets, bounded memory, a server that does not read or answers too early."""

import asyncio
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import SpoolError
from relay.mail.verdict import Stage
from relay.smtpclient import OutgoingContent, TlsMode
from tests.peers.certificates import Authority
from tests.peers.mx import Mx, Peer, ScriptedMx
from tests.smtpclient.sessions import HEAD, Sessions, impatient, transaction

MIB = 1024 * 1024
# Lines of many lengths, many that begin with dots, so that every block boundary falls somewhere else.
BODY = b"".join(b"." * (number % 4) + b"x" * (number % 997) + b"\r\n" for number in range(2000))


def in_file(path: Path, octets: bytes, *, head: bytes = HEAD) -> OutgoingContent:
    path.write_bytes(octets)
    return OutgoingContent(head=head, path=path, size=len(octets))


TLS = [
    pytest.param(None, id="in clear"),
    pytest.param(TlsMode.OPPORTUNISTIC, id="after STARTTLS"),
    pytest.param(TlsMode.IMPLICIT, id="in implicit TLS"),
]


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("where", ["memory", "file"])
async def test_large_content_arrives_octet_for_octet(
    where: str, tls: TlsMode | None, authority: Authority, sessions: Sessions, body_file: Path
) -> None:
    context = authority.issue("mx.test").server_context() if tls else None
    mx = Mx(context=context if tls is TlsMode.OPPORTUNISTIC else None)
    content = in_file(body_file, BODY) if where == "file" else OutgoingContent(head=HEAD, body=BODY)
    async with ScriptedMx(mx, context=context if tls is TlsMode.IMPLICIT else None) as server:
        connection = await sessions.to(server, tls=tls or TlsMode.NONE)
        for _ in range(2):
            result = await connection.transact(transaction("b@mx.test", "c@mx.test", content=content))
            assert result.decided, result
    assert connection.tls == ("TLSv1.3 verified" if tls else "")
    assert [message.content == HEAD + BODY for message in mx.messages] == [True, True]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    head=st.binary(max_size=20),
    lines=st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a"]) | st.binary(max_size=20), max_size=20),
    filler=st.integers(0, 300_000),
)
async def test_any_clean_content_arrives_octet_for_octet(
    head: bytes, lines: list[bytes], filler: int, sessions: Sessions, body_file: Path
) -> None:
    clean = [line.replace(b"\r", b"").replace(b"\n", b"") for line in (head, b"y" * filler, *lines)]
    octets = b"".join(line + b"\r\n" for line in clean)
    content = in_file(body_file, octets, head=b"")
    mx = Mx()
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.transact(transaction(content=content))
        await connection.transact(transaction(content=OutgoingContent(head=octets[:7], body=octets[7:])))
        await connection.quit()
    assert [message.content for message in mx.messages] == [octets, octets]


def test_the_size_of_content_is_that_of_its_parts(body_file: Path) -> None:
    content = OutgoingContent(head=b"12", body=b"345", path=body_file, size=10)
    assert content.octets == 15


async def test_a_server_that_does_not_read_is_left_after_the_time_for_a_block(
    sessions: Sessions, body_file: Path
) -> None:
    async def reads_nothing(peer: Peer) -> None:
        connection: socket.socket = peer.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250 mx.test\r\n")
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            await peer.line()
            await peer.say(reply)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(3600)

    async with ScriptedMx(reads_nothing) as server:
        connection = await sessions.to(server, timeouts=impatient(block=0.2))
        result = await connection.transact(transaction(content=in_file(body_file, b"x\r\n" * 4 * MIB)))
    assert (result.failure, result.stage) == ("the server took nothing within 0.2 s", Stage.FINAL)
    assert not result.dot_sent


def answering_early(answer: bytes) -> Mx:
    """A server that answers while content still comes, and then reads no more."""

    class Early(Mx):
        async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
            await peer.reader.readexactly(100_000)
            await peer.say(answer)
            await peer.stall()

    return Early()


async def test_a_refusal_before_the_end_of_content_is_a_refusal(sessions: Sessions, body_file: Path) -> None:
    async with ScriptedMx(answering_early(b"552 5.3.4 Too big\r\n")) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction(content=in_file(body_file, b"x\r\n" * 8 * MIB)))
    assert str(result.final) == "552 5.3.4 Too big"
    assert (result.stage, result.dot_sent, result.decided) == (Stage.FINAL, False, True)
    assert connection.failure == "the server answered before the end of the content"


async def test_an_acceptance_before_the_end_of_content_is_none(sessions: Sessions, body_file: Path) -> None:
    async with ScriptedMx(answering_early(b"250 2.0.0 Queued\r\n")) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction(content=in_file(body_file, b"x\r\n" * 8 * MIB)))
    assert result.failure == 'the server answered the content with "250 2.0.0 Queued"'
    assert (result.final, result.dot_sent, result.decided, connection.usable) == (None, False, False, False)


async def test_a_server_that_leaves_in_the_middle_has_not_taken_the_message(
    sessions: Sessions, body_file: Path
) -> None:
    class Leaving(Mx):
        async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
            await peer.reader.readexactly(100_000)
            peer.drop()

    async with ScriptedMx(Leaving()) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction(content=in_file(body_file, b"x\r\n" * 8 * MIB)))
    assert (result.dot_sent, result.outcome_unknown, result.final) == (False, False, None)
    assert result.failure.startswith("connection lost")


@pytest.mark.parametrize(
    ("size", "what"),
    [
        pytest.param(0, "No such file", id="the file is gone"),
        pytest.param(1000, "500 octets are missing", id="the file is shorter than it was"),
    ],
)
async def test_content_that_cannot_be_read_is_never_ended(
    size: int, what: str, sessions: Sessions, body_file: Path
) -> None:
    if size:
        in_file(body_file, b"x" * (size - 500))
    mx = Mx()
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        with pytest.raises(SpoolError, match=what):
            await connection.transact(
                transaction(content=OutgoingContent(head=HEAD, path=body_file, size=size or 1000))
            )
        assert not connection.usable
    assert mx.messages == []
