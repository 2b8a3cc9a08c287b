"""smtpclient.wire: an open session's two directions: commands out, replies in, in order, each awaited for a limited
time.

The wire knows how many replies the server owes. A reply that nobody asked for, octets that are no reply, a line or
reply without end: after any of these it is unknown which reply answers which command, also of those that came before.
The wire is `desynced` and breaks: `failure` says why, the transport is cut, and every later call raises `Broken`.
Replies that came before are still handed out. 421 and a lost connection break it too, whether something was awaited or
the session was idle (RFC 5321 3.8: a server may close at any time), but what was said before them stays said.

One timer serves all waits: a wait only moves the deadline, and the timer, when it goes off too early, sets itself
again. `asyncio.timeout` per reply would take longer than the rest of a transaction's waiting.
"""

import asyncio
import contextlib
from collections import deque

from relay.mail.reply import Reply, ReplyError, ReplyParser

_NEVER = float("inf")
_SERVICE_CLOSING = 421


class Broken(Exception):
    """The session is over; the text says what ended it. Never leaves this package."""


class Wire(asyncio.Protocol):
    """Put on a connected transport by `take_over`."""

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_deadline",
        "_is_gone",
        "_limit",
        "_loop",
        "_owed",
        "_parser",
        "_paused",
        "_replies",
        "_transport",
        "_waiter",
        "desynced",
        "failure",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self.failure = ""
        self.desynced = False
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()  # come, not yet asked for
        self._owed = 0  # asked for, not yet come
        self._paused = False
        self._is_gone = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = _NEVER
        self._limit = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = _NEVER

    @classmethod
    def take_over(cls, transport: asyncio.Transport) -> "Wire":
        """From now on the transport's octets come here."""
        wire = cls(transport)
        transport.set_protocol(wire)  # does not call connection_made, which has nothing left to do
        return wire

    def send(self, octets: bytes, *, replies: int = 0) -> None:
        """Write, and expect so many replies. Never blocks; see `drain`."""
        if self.failure:
            raise Broken(self.failure)
        self._owed += replies
        self._transport.write(octets)

    async def reply(self, *, within: float) -> Reply:
        """The next reply. within: seconds from now until the whole of it has come."""
        if not self._replies:
            deadline = self._loop.time() + within
            while not self._replies:
                await self._wait(deadline, within)
        return self._replies.popleft()

    def take(self) -> Reply | None:
        """The next reply, if it has come."""
        return self._replies.popleft() if self._replies else None

    async def drain(self, *, within: float) -> None:
        """Until the transport takes more, or a reply has come."""
        deadline = self._loop.time() + within
        while self._paused and not self._replies:
            await self._wait(deadline, within)

    @property
    def has_reply(self) -> bool:
        return bool(self._replies)

    def fail(self, text: str) -> None:
        """Break the session: the first reason given stays."""
        if self.failure:
            return
        self.failure = text
        self._transport.abort()
        self._wake()

    def fail_desynced(self, text: str) -> None:
        """Break the session since it is unknown which reply answers which command."""
        if not self.failure:
            self.desynced = True
            self.fail(text)

    def close(self) -> None:
        """End in peace: what was written is still sent."""
        if not self.failure:
            self.failure = "closed by us"
            self._transport.close()

    async def gone(self, *, within: float) -> None:
        """Until the transport is closed: inside TLS the other end has a word in it. Not longer than `within`."""
        if self._is_gone:
            return
        self._waiter = self._loop.create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._waiter
        self._waiter = None

    async def _wait(self, deadline: float, within: float) -> None:
        if self.failure:
            raise Broken(self.failure)
        self._limit = within
        self._deadline = deadline
        if self._deadline < self._alarm_at:
            self._set_alarm()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._deadline = _NEVER

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = self._deadline
        self._alarm = self._loop.call_at(self._deadline, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm, self._alarm_at = None, _NEVER
        if self._loop.time() >= self._deadline:
            what = "the server took nothing" if self._paused else "no reply"
            self.fail(f"{what} within {self._limit:g} s")
        elif self._deadline < _NEVER:
            self._set_alarm()

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        if self.failure:
            return
        try:
            replies = self._parser.feed(data)
        except ReplyError as error:
            self.fail_desynced(str(error))
            return
        for reply in replies:
            self._take(reply)
        if self._parser.failure:
            self.fail_desynced(self._parser.failure)  # garbage behind the replies: nobody knows what comes next
        if self._parser.pending and not self._owed:
            self.fail_desynced("the server sent what was not asked for")
        self._wake()

    def _take(self, reply: Reply) -> None:
        if self._owed:
            self._owed -= 1
            self._replies.append(reply)
        elif reply.code != _SERVICE_CLOSING:
            self.fail_desynced(f"the server sent a reply to nothing: {reply}")
        if reply.code == _SERVICE_CLOSING:
            self.fail(f"the server ended the session: {reply}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def eof_received(self) -> None:
        self.fail("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"connection lost: {exc}" if exc else "connection lost")
        if self._alarm is not None:
            self._alarm.cancel()
        self._is_gone = True
        self._wake()
