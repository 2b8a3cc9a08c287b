"""smtpclient.client: aiosmtplib, and a watch that hears what it hears while a session is opened.

aiosmtplib drops octets that answer nothing, and keeps a reply without its exact text. The watch stands between the
transport and aiosmtplib's protocol: it keeps each reply as it was written, and cuts the connection when octets come
that nothing asked for. Above all after STARTTLS: what is already there then was sent in clear by who knows whom, and
a client that went on would take it for the server's word inside TLS (RFC 3207 4.2, CVE-2011-0411).
"""

import asyncio
import socket
import ssl
from typing import Any, cast

import aiosmtplib

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


class WatchedClient(aiosmtplib.SMTP):
    """Tells the watch of each command before it is sent."""

    watch: Watch | None = None

    async def execute_command(self, *args: bytes, timeout: Any = None) -> aiosmtplib.SMTPResponse:
        if self.watch is not None:
            self.watch.expect()
        return await super().execute_command(*args, timeout=timeout)

    async def greet(
        self, connection: socket.socket, *, name: str, context: ssl.SSLContext | None, within: float
    ) -> Reply:
        """The greeting, after the TLS handshake where there is a context."""
        greeting = await self.connect(
            sock=connection, hostname=name, use_tls=context is not None, tls_context=context, timeout=within
        )
        self._set_watch()
        return reply_of(greeting.code, greeting.message) or Reply(greeting.code, "", "")

    async def secure(self, *, name: str | None, context: ssl.SSLContext, within: float) -> None:
        if self.watch is not None:
            self.watch.expect()
        await self.starttls(server_hostname=name, tls_context=context, timeout=within)
        self._set_watch()

    def _set_watch(self) -> None:
        """On the transport as it is now; TLS makes a new one."""
        if self.transport is None or self.protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("the server closed the connection")
        self.watch = Watch(cast(asyncio.Transport, self.transport), cast(asyncio.Protocol, self.protocol))

    @property
    def heard(self) -> Reply | None:
        """The last reply, exactly."""
        return self.watch.reply if self.watch else None


def reply_of(code: int, text: str) -> Reply | None:
    """What aiosmtplib gives, read as ours; None when it is no reply."""
    *lines, last = text.encode("utf-8", "surrogateescape").split(b"\n")
    wire = b"".join([*(b"%d-%s\r\n" % (code, line) for line in lines), b"%d %s\r\n" % (code, last)])
    try:
        return ReplyParser().feed(wire)[0]
    except ReplyError:
        return None
