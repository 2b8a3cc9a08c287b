"""dryrun.loop: an asyncio event loop in virtual time, whose network is within the process.

Its clock all but stands still while anything can be done, and jumps to the next timer when nothing can. Nothing is done
in a thread: what is given to an executor is done at once, so that there is never anything on its way. Equal moments,
and with them all that follows, come in the same order each time.

A socket that is connected reaches `network`, by its address, and from the one that it is bound to; the operating system
never hears of it.
"""

import asyncio
import errno
import os
import selectors
import socket
from collections.abc import Callable
from typing import Any

from relay.dryrun.network import Network, connected

_TURN = 2e-9  # seconds


class _Jumping(selectors.DefaultSelector):
    """Never waits: `passed` seconds pass where others wait."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        super().__init__()
        self._passed = passed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(0)  # a signal, for one
        if not found:
            if timeout is None:
                raise RuntimeError("a dry run waits for what never happens")
            self._passed(timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """network: what can be connected to."""

    def __init__(self, network: Network) -> None:
        self._virtual_now = 0.0
        super().__init__(_Jumping(self._pass))
        self._network = network
        self._dialled: dict[int, str] = {}  # the address that a socket is connected to, by its file descriptor

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_now

    def _pass(self, seconds: float) -> None:
        """And a little for each turn of the loop: asyncio wakes up to its clock's resolution too early, a nanosecond,
        and who then looks whether its time has come would look forever.
        """
        self._virtual_now += max(0.0, seconds) + _TURN

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  whoever asked for it gets it
            future.set_exception(error)
        return future

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        if address[0] not in self._network.receivers:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self._dialled[sock.fileno()] = address[0]

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *_: Any, sock: socket.socket, **__: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Of a socket that `sock_connect` has connected."""
        server, client = self._dialled.pop(sock.fileno()), sock.getsockname()[0]
        sock.close()
        protocol = protocol_factory()
        return connected(self, protocol, self._network, client=client, server=server), protocol
