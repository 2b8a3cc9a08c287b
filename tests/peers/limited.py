"""peers.limited: a receiving server that takes only so much: so many sessions at once, or so many messages per second.

It speaks octets and takes its time for each message, so that what it could take in a second is known: sessions divided
by `seconds`, or the rate. Its limits may be changed while it runs; sessions that are open then stay.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum

from tests.peers.mx import Ended, Peer

EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"


class Refuses(Enum):
    """Where it says so when there is too much, and how."""

    GREETING = b"421 4.7.0 mx.test Error: too many connections from 127.0.0.1\r\n"
    MAIL = b"421 4.7.0 mx.test Try again later\r\n"
    RCPT = b"451 4.7.1 Rate limit exceeded, try again later\r\n"


class LimitedMx:
    """The script of a `ScriptedMx`. sessions: at once. rate: messages per second, 0 for any.

    taken: messages. refused: sessions and recipients. opened: connections that came. open: now.
    """

    def __init__(
        self,
        refuses: Refuses,
        *,
        seconds: float,
        sessions: int = 1000,
        rate: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refuses = refuses
        self.seconds = seconds
        self.sessions = sessions
        self.rate = rate
        self.taken = self.refused = self.opened = self.open = self.admitted = 0
        self._clock = clock
        self._tokens = rate
        self._counted_at = clock()

    async def __call__(self, peer: Peer) -> None:
        self.opened += 1
        self.open += 1
        try:
            if self.refuses is Refuses.GREETING and self.admitted >= self.sessions:
                await self._refuse(peer)
            await peer.say(b"220 mx.test ESMTP\r\n")
            await self._session(peer)
        finally:
            self.open -= 1

    async def _session(self, peer: Peer) -> None:
        is_admitted = self.admitted < self.sessions
        self.admitted += is_admitted
        try:
            while True:
                match (await peer.line()).split(b" ")[0].upper():
                    case b"EHLO":
                        await peer.say(EHLO)
                    case b"MAIL" if not is_admitted:
                        await self._refuse(peer)
                    case b"RCPT" if not self._has_token():
                        self.refused += 1
                        await peer.say(Refuses.RCPT.value)
                        await self._after_refusal(peer)
                    case b"DATA":
                        await self._take(peer)
                    case b"QUIT":
                        await peer.say(b"221 2.0.0 Bye\r\n")
                        return
                    case _:
                        await peer.say(b"250 2.0.0 Ok\r\n")
        finally:
            self.admitted -= is_admitted

    async def _refuse(self, peer: Peer) -> None:
        self.refused += 1
        await peer.say(self.refuses.value)
        raise Ended

    async def _after_refusal(self, peer: Peer) -> None:
        """The pipelined DATA has no recipient."""
        if (await peer.line()).upper() == b"DATA":
            await peer.say(b"554 5.5.1 No recipients\r\n")

    async def _take(self, peer: Peer) -> None:
        await peer.say(b"354 Go on\r\n")
        await peer.content()
        await asyncio.sleep(self.seconds)
        self.taken += 1
        await peer.say(b"250 2.0.0 Queued\r\n")

    def _has_token(self) -> bool:
        """A bucket of a second's messages."""
        if not self.rate:
            return True
        now = self._clock()
        self._tokens = min(self.rate, self._tokens + (now - self._counted_at) * self.rate)
        self._counted_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
