"""simulator.listening: a receiver at an address and port, with its sessions."""

import asyncio
import ssl

from relay.simulator.session import Receiver, Session


class Listening:
    """Made by `start`. port: the one it listens on."""

    def __init__(self, receiver: Receiver, loop: asyncio.AbstractEventLoop, *, context: ssl.SSLContext | None) -> None:
        self.port = 0
        self._context = context
        self._receiver = receiver
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._sessions: set[Session] = set()

    @classmethod
    async def start(
        cls,
        receiver: Receiver,
        loop: asyncio.AbstractEventLoop,
        *,
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
    ) -> "Listening":
        """port: 0 takes a free one. context: for STARTTLS. Raises OSError when the port is in use."""
        listening = cls(receiver, loop, context=context)
        listening._server = await loop.create_server(listening._session, host, port)
        listening.port = listening._server.sockets[0].getsockname()[1]
        return listening

    def _session(self) -> Session:
        session = Session(self._receiver, self._loop, context=self._context)
        self._sessions.add(session)
        session.ended.add_done_callback(lambda _: self._sessions.discard(session))
        return session

    async def close(self) -> None:
        """Listen no more, and end every session at once."""
        if self._server is not None:
            self._server.close()
            self._server = None
        sessions = list(self._sessions)
        for session in sessions:
            session.abort()
        await asyncio.gather(*(session.ended for session in sessions))
