"""smtpclient.exchange: one transaction on the wire (RFC 5321 3.3, RFC 2920).

Where PIPELINING is offered, MAIL, every RCPT and DATA go in one write, then content and dot in another: two round
trips. Otherwise step by step. Refused recipients do not stop the others; if all are refused nothing is sent. A
pipelined DATA may then have been answered 354 all the same, and a lone dot ends it, to be refused or to send nothing
to nobody (RFC 2920 3.1).

Where CHUNKING is offered, content goes with BDAT instead, as one chunk, and never before a recipient was accepted,
although RFC 3030 4.2 allows it: servers are known that refuse the command without reading its chunk, and then take the
content for commands. A message that a client wrote would command another's server in our name.

A transaction that ended before its content leaves the server with an envelope, or with less (Postfix keeps a refused
SIZE for the next MAIL): the next one begins with RSET, so that nobody waits for its reply now. So does the one after a
refused chunk, of which servers differ in what they keep.

A filter on the way may let the offer of CHUNKING through and not the command. A refusal of the command is none of the
message, and it is told apart: the message may go by DATA. This session is over then, for a server that knows no BDAT
did not read its chunk and has it for commands, of which its answers may already be on their way.

The server must not answer content before its end; one that refuses early has refused, one that accepts early has lost
its place. Anything that does not answer the command it should breaks the session and is nobody's bounce: no refusal of
the transaction is believed then, for it may have answered another command. A message that was taken was taken.
"""

import asyncio
from pathlib import Path

from relay.config.models import DeliveryTimeouts
from relay.errors import SpoolError
from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient.chunking import Chunk, chunk, is_no_command
from relay.smtpclient.stuffing import Stuffer, stuff
from relay.smtpclient.transaction import OutgoingContent, Transaction, TransactionResult
from relay.smtpclient.wire import Broken, Wire

_BLOCK = 256 * 1024
_AT_ONCE = 64 * 1024  # content up to here goes in one write
_RSET = b"RSET\r\n"
_DATA = b"DATA\r\n"
_NOTHING = b".\r\n"


class Exchange:
    """One transaction; `run` it once. Raises ValueError at once for an address or parameter that would break a
    command.
    """

    __slots__ = (
        "_chunking",
        "_closing",
        "_commands",
        "_content",
        "_pipelining",
        "_reset",
        "_stage",
        "_timeouts",
        "_wire",
        "dot_sent",
        "final",
        "knows_no_chunks",
        "mail",
        "must_reset",
        "recipients",
    )

    def __init__(
        self,
        wire: Wire,
        transaction: Transaction,
        timeouts: DeliveryTimeouts,
        *,
        pipelining: bool,
        chunking: bool,
        reset: bool,
    ) -> None:
        self._wire = wire
        self._timeouts = timeouts
        self._content = transaction.content
        self._commands = _commands(transaction)
        self._pipelining = pipelining
        self._chunking = chunking
        self._reset = reset
        self._stage = Stage.MAIL
        self._closing = False
        self.mail: Reply | None = None
        self.recipients: list[Reply | None] = [None] * len(transaction.recipients)
        self.final: Reply | None = None
        self.dot_sent = False
        self.knows_no_chunks = False
        self.must_reset = False

    async def run(self) -> TransactionResult:
        failure = ""
        try:
            await self._run()
        except Broken as broken:
            failure = str(broken)
        if self._wire.desynced and not self.knows_no_chunks:
            failure = self._wire.failure
            self._disbelieve_refusals()
        return self.result(failure)

    def result(self, failure: str) -> TransactionResult:
        """What is known by now."""
        recipients = tuple(self.recipients)
        return TransactionResult(
            self.mail, recipients, self.final, self._ended_at(), failure, self.dot_sent, self.knows_no_chunks
        )

    def _disbelieve_refusals(self) -> None:
        self.mail, self.final = _if_positive(self.mail), _if_positive(self.final)
        self.recipients = [_if_positive(reply) for reply in self.recipients]

    async def _run(self) -> None:
        self.must_reset = True
        go_ahead = await (self._envelope_at_once() if self._pipelining else self._envelope_by_steps())
        if go_ahead and self._accepted():
            await self._send_content()
        elif go_ahead:
            await self._send_nothing()

    # The envelope. Both ways return whether the server waits for content.

    async def _envelope_at_once(self) -> bool:
        commands = [*((_RSET,) if self._reset else ()), *self._commands, *(() if self._chunking else (_DATA,))]
        self._wire.send(b"".join(commands), replies=len(commands))
        if self._reset:
            await self._expect_reset()
        self.mail = await self._answer(Stage.MAIL, self._timeouts.mail)
        refused = self.mail.code >= 300
        for position in range(len(self.recipients)):
            reply = await self._answer(Stage.RCPT, self._timeouts.rcpt)
            self.recipients[position] = None if refused else reply
        return self._takes_chunk() if self._chunking else await self._data_answer()

    async def _envelope_by_steps(self) -> bool:
        if self._reset:
            self._wire.send(_RSET, replies=1)
            await self._expect_reset()
        mail, *recipients = self._commands
        self._wire.send(mail, replies=1)
        self.mail = await self._answer(Stage.MAIL, self._timeouts.mail)
        if self.mail.code >= 300:
            return False
        for position, command in enumerate(recipients):
            self._wire.send(command, replies=1)
            self.recipients[position] = await self._answer(Stage.RCPT, self._timeouts.rcpt)
        if self._chunking:
            return self._takes_chunk()
        if not self._accepted():
            return False
        self._wire.send(_DATA, replies=1)
        return await self._data_answer()

    async def _expect_reset(self) -> None:
        reply = await self._wire.reply(within=self._timeouts.mail)
        if reply.code >= 300:
            self._break(f'the server answered RSET with "{reply}"')

    def _takes_chunk(self) -> bool:
        if self._closing:
            raise Broken(self._wire.failure)
        return self._accepted()

    async def _data_answer(self) -> bool:
        reply = await self._answer(Stage.DATA, self._timeouts.data)
        if reply.code >= 400:
            self.final = reply if self._accepted() else None
        return reply.code < 400

    async def _answer(self, stage: Stage, within: float) -> Reply:
        """Only DATA may be answered 3xx, and may not be answered 2xx."""
        if self._closing:  # RFC 5321 3.8: nothing more comes after 421
            raise Broken(self._wire.failure)
        self._stage = stage
        reply = self._wire.take() or await self._wire.reply(within=within)
        code = reply.code
        self._closing = code == 421
        if code < 300 if stage is Stage.DATA else 300 <= code < 400:
            self._break(f'the server answered {stage.upper()} with "{reply}"')
        return reply

    # The content.

    async def _send_content(self) -> None:
        self._stage = Stage.FINAL
        try:
            await self._send_octets(self._content)
        except Broken:
            if not self._wire.has_reply:  # what was said before the session broke stays said
                raise
        await self._finish()

    async def _send_octets(self, content: OutgoingContent) -> None:
        if content.path is None and content.octets <= _AT_ONCE:
            whole = content.head + content.body
            self._send_last(chunk(whole) if self._chunking else stuff(whole), replies=1)
        else:
            await self._send_blocks(content)

    async def _send_blocks(self, content: OutgoingContent) -> None:
        stuffer = await self._chunk(content) if self._chunking else Stuffer()
        self._wire.send(stuffer.begin(), replies=1)
        whole = content.head + content.body
        for start in range(0, len(whole), _BLOCK):
            await self._send_block(stuffer, whole[start : start + _BLOCK])
        if content.path is not None:
            await self._send_file(stuffer, content.path, content.size)
        if not (self._wire.has_reply or self.dot_sent):
            self._send_last(stuffer.end())

    async def _chunk(self, content: OutgoingContent) -> Chunk:
        try:
            return await asyncio.to_thread(Chunk, content)
        except OSError as error:
            raise _unreadable(content.path, error) from error

    async def _send_file(self, stuffer: Stuffer | Chunk, path: Path, size: int) -> None:
        """The file is read in a thread, since a cold disk takes its time. Raises SpoolError; the dot is then not
        sent.
        """
        left = size
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                while left > 0 and not self._wire.has_reply:
                    block = await asyncio.to_thread(file.read, min(left, _BLOCK))
                    if not block:
                        raise _unreadable(path, f"{left} octets are missing")
                    left -= len(block)
                    await self._send_block(stuffer, block)
        except OSError as error:
            raise _unreadable(path, error) from error

    async def _send_block(self, stuffer: Stuffer | Chunk, block: bytes) -> None:
        self._wire.send(stuffer.stuff(block))
        self.dot_sent = stuffer.is_over
        await self._wire.drain(within=self._timeouts.block)

    def _send_last(self, octets: bytes, *, replies: int = 0) -> None:
        self._wire.send(octets, replies=replies)
        self.dot_sent = True

    async def _finish(self) -> None:
        reply = await self._wire.reply(within=self._timeouts.final)
        if self._chunking and is_no_command(reply):
            self.knows_no_chunks, self.dot_sent = True, False
            text = f'the server offers CHUNKING and answers BDAT with "{reply}"'
            self._wire.fail(text)
            raise Broken(text)
        if 300 <= reply.code < 400 or (reply.code < 400 and not self.dot_sent):
            self._break(f'the server answered the content with "{reply}"')
        self.final = reply
        self.must_reset = self._chunking and not reply.is_positive
        if not self.dot_sent:
            self._wire.fail("the server answered before the end of the content")

    async def _send_nothing(self) -> None:
        # RFC 2920 3.1: the client must be prepared to send an empty message when all recipients were refused.
        self._wire.send(_NOTHING, replies=1)
        await self._wire.reply(within=self._timeouts.final)
        self.must_reset = False

    # What is known.

    def _accepted(self) -> bool:
        return any(reply is not None and reply.code < 300 for reply in self.recipients)

    def _ended_at(self) -> Stage:
        if self.mail is not None and self.mail.code >= 400:
            return Stage.MAIL
        if self._stage in (Stage.DATA, Stage.FINAL) and not self._accepted():
            return Stage.RCPT
        return self._stage

    def _break(self, text: str) -> None:
        self._wire.fail_desynced(text)
        raise Broken(text)


def _commands(transaction: Transaction) -> list[bytes]:
    commands = [f"MAIL FROM:<{transaction.sender}>{transaction.mail_parameters}\r\n".encode()]
    commands += [f"RCPT TO:<{address}>{parameters}\r\n".encode() for address, parameters in transaction.recipients]
    octets = b"".join(commands)
    if octets.count(b"\r") != len(commands) or octets.count(b"\n") != len(commands) or b"\0" in octets:
        raise ValueError("an address or parameter with CR, LF or NUL would be another command")
    return commands


def _if_positive(reply: Reply | None) -> Reply | None:
    return reply if reply is not None and reply.is_positive else None


def _unreadable(path: Path | None, what: object) -> SpoolError:
    text = f"the content of a queued message cannot be read ({path}): {what}"
    return SpoolError(text, remedy="see that the disk and the file are readable; the message stays queued")
