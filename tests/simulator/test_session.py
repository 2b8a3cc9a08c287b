"""The simulated servers' side of SMTP, octet by octet."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from relay.mail.esmtp import MailCommand
from relay.mail.reply import Reply
from relay.server.certificates import CHAIN, KEY, make_local_tls
from relay.simulator.listening import Listening
from relay.simulator.session import Visit
from relay.smtpclient import (
    Connection,
    Endpoint,
    OutgoingContent,
    SessionOptions,
    TlsContexts,
    TlsMode,
    Transaction,
    connect,
)

Answers = Mapping[str, Reply | None]


class Taking:
    """Takes everything, but for what is said in `answers`, by what is answered. ended: sessions."""

    name = "mx.test"

    def __init__(self, *, latency: float = 0.0, seconds: float = 0.0, answers: Answers = MappingProxyType({})) -> None:
        self.latency = latency
        self.octets = 0
        self.ended = 0
        self._seconds = seconds
        self._answers = {"begin": Reply(220, "", "mx.test"), **answers}

    def begin(self, visit: Visit) -> Reply:
        return self._answers["begin"] or Reply(220, "", "")

    def end(self, visit: Visit) -> None:
        self.ended += 1

    def sender(self, visit: Visit, mail: MailCommand) -> Reply:
        return self._answers.get("sender") or Reply(250, "2.1.0", "Ok")

    def recipient(self, visit: Visit, address: str) -> Reply:
        return self._answers.get("recipient") or Reply(250, "2.1.5", "Ok")

    def seconds(self, visit: Visit) -> float:
        return self._seconds

    def content(self, visit: Visit) -> Reply | None:
        return self._answers.get("content", Reply(250, "2.0.0", "Taken"))


class Talk:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def heard(self, lines: int = 1) -> list[bytes]:
        return [(await self._reader.readline()).rstrip(b"\r\n") for _ in range(lines)]

    def say(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def is_closed(self) -> bool:
        return await self._reader.read(1) == b""


@asynccontextmanager
async def talking(receiver: Taking) -> AsyncIterator[Talk]:
    """After the greeting was sent."""
    listening = await Listening.start(receiver, asyncio.get_running_loop(), host="127.0.0.1", port=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
    try:
        async with asyncio.timeout(10):
            yield Talk(reader, writer)
    finally:
        writer.close()
        await listening.close()
    assert receiver.ended == 1


MAIL = b"MAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
ENVELOPE = [b"250 2.1.0 Ok", b"250 2.1.5 Ok", b"354 Go on, to the end: <CRLF>.<CRLF>"]


@asynccontextmanager
async def greeted(receiver: Taking) -> AsyncIterator[Talk]:
    async with talking(receiver) as talk:
        assert await talk.heard() == [b"220 mx.test"]
        talk.say(b"EHLO me.example\r\n")
        heard = await talk.heard(6)
        assert heard[0] == b"250-mx.test"
        assert heard[-1] == b"250 ENHANCEDSTATUSCODES"
        yield talk


@pytest.mark.parametrize("latency", [pytest.param(0.0, id="at once"), pytest.param(0.001, id="after a while")])
async def test_pipelined_messages_are_taken_one_after_the_other(latency: float) -> None:
    async with greeted(Taking(latency=latency, seconds=latency)) as talk:
        talk.say(MAIL + b"Subject: x\r\n\r\n..\r\n.\r\n" + MAIL + b".\r\nQUIT\r\n")
        taken = [*ENVELOPE, b"250 2.0.0 Taken"]
        assert await talk.heard(9) == [*taken, *taken, b"221 2.0.0 Bye"]
        assert await talk.is_closed()


async def test_octets_may_come_one_by_one() -> None:
    async with greeted(Taking(latency=0.0001)) as talk:
        for octet in MAIL + b"x\r\n.\r\n":
            talk.say(bytes([octet]))
            await asyncio.sleep(0)
        assert await talk.heard(4) == [*ENVELOPE, b"250 2.0.0 Taken"]


@pytest.mark.parametrize(
    ("answered", "octets"),
    [
        pytest.param("sender", b"MAIL FROM:<a@b.example>\r\n", id="to MAIL"),
        pytest.param("recipient", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n", id="to RCPT"),
        pytest.param("content", MAIL + b".\r\n", id="to the content"),
    ],
)
async def test_421_ends_the_session(answered: str, octets: bytes) -> None:
    async with greeted(Taking(answers={answered: Reply(421, "4.7.0", "Too much")})) as talk:
        talk.say(octets)
        while (line := (await talk.heard())[0]) != b"421 4.7.0 Too much":
            assert line[:1] in b"23"
        assert await talk.is_closed()


async def test_a_refused_session_is_closed() -> None:
    async with talking(Taking(answers={"begin": Reply(554, "5.7.1", "No")})) as talk:
        assert await talk.heard() == [b"554 5.7.1 No"]
        assert await talk.is_closed()


async def test_a_session_may_end_without_a_word() -> None:
    async with greeted(Taking(answers={"content": None})) as talk:
        talk.say(MAIL + b".\r\n")
        assert await talk.heard(3) == ENVELOPE
        assert await talk.is_closed()


WRONG = [
    pytest.param(b"RCPT TO:<a@b.example>", b"503 5.5.1 MAIL comes first", id="RCPT before MAIL"),
    pytest.param(b"MAIL <a@b.example>", b"501 5.5.4 Write FROM:<address>", id="no FROM"),
    pytest.param(b"MAIL FROM:<a b@c>", b"501 5.1.7 Sender: ", id="no address"),
    pytest.param(b"x" * 5000, b"500 5.5.2 The line is too long", id="a long line"),
]


@pytest.mark.parametrize(("command", "reply"), WRONG)
async def test_what_is_wrong_is_refused_and_the_session_goes_on(command: bytes, reply: bytes) -> None:
    async with greeted(Taking()) as talk:
        talk.say(command + b"\r\n")
        (heard,) = await talk.heard()
        assert heard.startswith(reply)
        talk.say(MAIL)
        assert await talk.heard(3) == ENVELOPE


@pytest.mark.parametrize("latency", [pytest.param(0.0, id="at once"), pytest.param(0.01, id="after a while")])
async def test_a_session_may_be_encrypted_once(latency: float, tmp_path: Path) -> None:
    make_local_tls(tmp_path, hostname="mx.test", now=dt.datetime.now(tz=dt.UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / CHAIN, tmp_path / KEY)
    loop = asyncio.get_running_loop()
    receiver = Taking(latency=latency)
    listening = await Listening.start(receiver, loop, host="127.0.0.1", port=0, context=context)
    options = SessionOptions(TlsContexts(monotonic=loop.time), "me.example", tls=TlsMode.REQUIRED)
    connection = await connect(Endpoint("127.0.0.1", listening.port, "mx.test"), options)
    assert isinstance(connection, Connection), connection
    assert connection.tls.startswith("TLS")
    assert "STARTTLS" not in connection.extensions
    content = OutgoingContent(head=b"Subject: x\r\n\r\n")
    result = await connection.transact(Transaction("a@b.example", (("c@d.example", ""),), content))
    assert result.final == Reply(250, "2.0.0", "Taken")
    await connection.quit()
    await listening.close()


async def test_starttls_where_there_is_none() -> None:
    async with greeted(Taking()) as talk:
        talk.say(b"STARTTLS\r\n")
        assert await talk.heard() == [b"503 5.5.1 There is no TLS here, or it has begun already"]


async def test_a_transaction_without_a_recipient_takes_no_content() -> None:
    async with greeted(Taking(answers={"recipient": Reply(550, "5.1.1", "Who?")})) as talk:
        talk.say(MAIL)
        assert await talk.heard(3) == [b"250 2.1.0 Ok", b"550 5.1.1 Who?", b"554 5.5.1 No recipient was taken"]
        talk.say(b"RSET\r\nMAIL FROM:<>\r\n")
        assert await talk.heard(2) == [b"250 2.0.0 Ok", b"250 2.1.0 Ok"]


async def test_nothing_is_taken_before_a_greeting_of_the_client() -> None:
    async with talking(Taking()) as talk:
        talk.say(b"MAIL FROM:<a@b.example>\r\n")
        assert await talk.heard(2) == [b"220 mx.test", b"503 5.5.1 EHLO comes first"]
