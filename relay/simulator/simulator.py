"""simulator.simulator: the receiving server that each worker has built in, for mail that a route sends to it.

For machines without port 25, for demonstrations and for an application's own tests: reached through an ordinary route,
it lets the true outbound code run to any end.
"""

import asyncio

from relay.simulator.listening import Listening
from relay.simulator.mailboxes import Mailboxes


class Simulator:
    """defer: the seconds that a deferred client is told to wait. slow: seconds that slow@ takes.

    received: messages taken so far. port: 0 until started.
    """

    def __init__(self, *, defer: float = 10.0, slow: float = 5.0) -> None:
        self.port = 0
        self._mailboxes = Mailboxes(defer=defer, slow=slow)
        self._listening: Listening | None = None

    @property
    def received(self) -> int:
        return self._mailboxes.received

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; 0 takes a free port. Raises OSError when the port is in use."""
        self._listening = await Listening.start(self._mailboxes, asyncio.get_running_loop(), host=host, port=port)
        self.port = self._listening.port

    async def close(self) -> None:
        """Stop listening and end every session at once. Nothing is lost: a message not answered is still the
        client's.
        """
        if self._listening is not None:
            await self._listening.close()
            self._listening = None
