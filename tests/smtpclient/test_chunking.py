"""Content in a chunk, where the server takes it so: exact octets, and never before somebody will have them."""

import asyncio
from pathlib import Path

import pytest

from relay.errors import SpoolError
from relay.mail.verdict import Stage
from relay.smtpclient import OutgoingContent
from tests.peers.mx import Mx, Peer, ScriptedMx, UnawareMx
from tests.smtpclient.sessions import HEAD, Sessions, impatient, transaction

CHUNKING = ("PIPELINING", "SIZE 52428800", "8BITMIME", "CHUNKING")
LINES = b"".join(b"." * (number % 4) + b"x" * (number % 997) + b"\r\n" for number in range(2000))


def in_file(path: Path, octets: bytes) -> OutgoingContent:
    path.write_bytes(octets)
    return OutgoingContent(head=HEAD, path=path, size=len(octets))


ENDINGS = [
    pytest.param(b"first\r\n.second\r\n", b"", id="that ends in CRLF, as it is"),
    pytest.param(b"first\r\n.\r\nno end", b"\r\n", id="that does not end in CRLF, with one"),
    pytest.param(b"ends in CR\r", b"\r\n", id="that ends in CR alone, with a whole CRLF"),
    pytest.param(LINES, b"", id="of more than one block"),
    pytest.param(LINES + b".", b"\r\n", id="of more than one block, without CRLF at its end"),
    pytest.param(b"", b"", id="that has no body"),
]


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize(("body", "added"), ENDINGS)
async def test_content_arrives_octet_for_octet_and_nothing_is_stuffed(
    body: bytes, added: bytes, where: str, sessions: Sessions, body_file: Path
) -> None:
    content = in_file(body_file, body) if where == "file" else OutgoingContent(head=HEAD, body=body)
    mx = Mx(extensions=CHUNKING)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        for _ in range(2):
            assert (await connection.transact(transaction("b@mx.test", "c@mx.test", content=content))).decided
    expected = HEAD + body + added
    assert [message.wire for message in mx.messages] == [expected, expected]
    assert mx.sessions[0].commands[4] == b"BDAT %d LAST" % len(expected)


async def test_a_chunk_waits_until_a_recipient_was_accepted(sessions: Sessions) -> None:
    heard = bytearray()

    async def reads_before_it_answers(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250-mx.test\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
        heard.extend(await peer.reader.readuntil(b"RCPT TO:<c@mx.test>\r\n"))
        assert not peer.reader._buffer  # type: ignore[attr-defined]
        await peer.say(b"250 ok\r\n550 5.1.1 nobody\r\n250 ok\r\n")
        assert (await peer.line()).startswith(b"BDAT ")
        await peer.say(b"250 ok\r\n")
        await peer.stall()

    async with ScriptedMx(reads_before_it_answers) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction("b@mx.test", "c@mx.test"))
    assert (result.decided, result.stage) == (True, Stage.FINAL)
    assert b"BDAT" not in heard


async def test_where_all_recipients_are_refused_no_octet_of_the_content_is_sent(sessions: Sessions) -> None:
    mx = Mx({"RCPT": [b"550 5.1.1 Nobody\r\n"]}, extensions=CHUNKING)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        first = await connection.transact(transaction())
        assert (first.decided, first.stage, first.dot_sent) == (True, Stage.RCPT, False)
        assert (await connection.transact(transaction())).decided
    assert mx.sessions[0].verbs == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "BDAT"]


async def test_after_a_refused_chunk_the_next_message_begins_with_rset(sessions: Sessions) -> None:
    mx = Mx({"END": [b"554 5.7.1 Spam\r\n"]}, extensions=CHUNKING)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        assert str((await connection.transact(transaction())).final) == "554 5.7.1 Spam"
        assert (await connection.transact(transaction())).decided
        assert (await connection.transact(transaction())).decided
    envelope = ["MAIL", "RCPT", "BDAT"]
    assert mx.sessions[0].verbs == ["EHLO", *envelope, "RSET", *envelope, *envelope]


async def test_a_connection_lost_in_the_middle_of_a_chunk_has_taken_nothing(
    sessions: Sessions, body_file: Path
) -> None:
    async def leaves(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250-mx.test\r\n250 CHUNKING\r\n")
        for _ in range(2):
            await peer.line()
            await peer.say(b"250 ok\r\n")
        await peer.reader.readexactly(100_000)
        peer.drop()

    async with ScriptedMx(leaves) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction(content=in_file(body_file, b"x\r\n" * 2**23)))
    assert (result.dot_sent, result.outcome_unknown, result.final) == (False, False, None)
    assert result.failure.startswith("connection lost")


async def test_a_chunk_that_is_not_answered_leaves_the_outcome_unknown(sessions: Sessions) -> None:
    class Silent(Mx):
        async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
            return await super()._answer(peer, verb, default) if verb != "END" else await asyncio.sleep(3600, 0)

    async with ScriptedMx(Silent(extensions=CHUNKING)) as server:
        connection = await sessions.to(server, timeouts=impatient(final=0.1))
        result = await connection.transact(transaction())
    assert (result.outcome_unknown, result.failure) == (True, "no reply within 0.1 s")


async def test_a_chunk_of_a_file_that_is_gone_is_not_begun(sessions: Sessions, body_file: Path) -> None:
    mx = Mx(extensions=CHUNKING)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        with pytest.raises(SpoolError, match="No such file"):
            await connection.transact(transaction(content=OutgoingContent(head=HEAD, path=body_file, size=10)))
        assert not connection.usable
    assert "BDAT" not in mx.sessions[0].verbs


@pytest.mark.parametrize("octets", [100, 2**23], ids=["a small one", "one of many blocks"])
@pytest.mark.parametrize("swallowed", [True, False], ids=["whose chunk is read", "whose chunk is taken for commands"])
@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(b"500 Command unrecognized\r\n", id="500"),
        pytest.param(b"500 5.5.1 Command unrecognized\r\n", id="500 5.5.1"),
        pytest.param(b"502 5.5.2 Error: command not recognized\r\n", id="502 5.5.2"),
        pytest.param(b"503 5.5.1 Bad sequence of commands\r\n", id="503 5.5.1"),
    ],
)
async def test_where_bdat_is_no_command_nothing_was_refused_and_nothing_taken(
    refusal: bytes, swallowed: bool, octets: int, sessions: Sessions, body_file: Path
) -> None:
    mx = UnawareMx(refusal, swallowed=swallowed)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction(content=in_file(body_file, b"x\r\n" * (octets // 3))))
        assert (result.knows_no_chunks, result.decided, result.final, result.dot_sent) == (True, False, None, False)
        assert not connection.usable  # what it makes of the content nobody can know
        assert result.failure.startswith('the server offers CHUNKING and answers BDAT with "50')
    assert mx.messages == []


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(b"500 5.7.1 Message rejected\r\n", id="500 with a word about the message"),
        pytest.param(b"552 5.3.4 Too large\r\n", id="552"),
        pytest.param(b"554 5.5.1 No valid recipients\r\n", id="554 5.5.1"),
        pytest.param(b"451 4.3.0 Later\r\n", id="a 4xx"),
    ],
)
async def test_what_else_is_said_to_a_chunk_is_its_answer(refusal: bytes, sessions: Sessions) -> None:
    async with ScriptedMx(Mx({"END": refusal}, extensions=CHUNKING)) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction())
    assert (result.knows_no_chunks, result.decided, str(result.final)) == (False, True, refusal.decode().strip())
