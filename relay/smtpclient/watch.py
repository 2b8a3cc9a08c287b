"""smtpclient.watch: hears what aiosmtplib hears while a session is opened, and cuts it when the server loses its place.

aiosmtplib drops octets that answer nothing, and keeps a reply without its exact text. The watch stands between the
transport and aiosmtplib's protocol: it keeps each reply as it was written, and cuts the connection when octets come
that nothing asked for. Above all after STARTTLS: what is already there then was sent in clear by who knows whom, and
a client that went on would take it for the server's word inside TLS (RFC 3207 4.2, CVE-2011-0411).
"""

import asyncio

from relay.mail.reply import Reply, ReplyError, ReplyParser


class Watch(asyncio.Protocol):
    """reply: to the last command, None until it has come. failure: why the connection was cut, "" while it was not."""

    def __init__(self, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        self.reply: Reply | None = None
        self.failure = ""
        self.transport = transport
        self._inner = inner
        self._parser = ReplyParser()
        self._awaiting = False
        transport.set_protocol(self)

    def expect(self) -> None:
        """A command is about to be sent: one reply may come."""
        self.reply = None
        self._awaiting = True

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._parser.feed(data)
        except ReplyError as error:
            self._cut(str(error))
            return
        pending = self._parser.pending
        if len(replies) > self._awaiting or (pending and (replies or not self._awaiting)):
            self._cut("the server sent what was not asked for")
            return
        if replies:
            self.reply, self._awaiting = replies[0], False
        self._inner.data_received(data)

    def _cut(self, text: str) -> None:
        self.failure = self.failure or text
        self.transport.abort()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
