"""submission.acceptor: a listener for TLS from the first octet (port 465; RFC 8314 3.3).

Connections are accepted by ourselves, because three things come before TLS that a loop's own server leaves no room
for: a client that has too many sessions is turned away before a handshake costs anything; a proxy's header comes in
clear text, in the same segment as the client's first TLS octets as often as not, and is taken from the socket to the
octet; and the TLS context is the current one. Then `loop.connect_accepted_socket` does the handshake, uvloop's own
where uvloop runs.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable

from relay.submission.admission import Admission, Reason
from relay.submission.client import Client, client_at
from relay.submission.connection import PROXY_WITHIN, Connection, House
from relay.submission.door import Door
from relay.submission.proxy import ProxyError, ProxyReader

AT_ONCE = 100  # connections accepted before others get a turn
PAUSE = 1.0  # seconds without accepting when there is no file descriptor left
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PEEK = 4096


class TlsAcceptor:
    """`start` and `close`, which closes the listening socket; a handshake under way is given up."""

    def __init__(
        self,
        listening: socket.socket,
        house: House,
        door: Door,
        *,
        context: Callable[[], ssl.SSLContext],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._listening = listening
        self._house = house
        self._door = door
        self._context = context
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._handshakes: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()
            for handshake in tuple(self._handshakes):
                handshake.cancel()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, peer = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            accepted.settimeout(0)
            handshake = self._tasks.create_task(self._receive(accepted, client_at(peer[0])))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    def _pause(self, error: OSError) -> None:
        self._door.services.log.error("cannot accept connections", error=str(error), listen=self._door.listener.listen)
        if error.errno in _EXHAUSTED:
            self._loop.remove_reader(self._listening.fileno())
            self._loop.call_later(PAUSE, self.start)

    async def _receive(self, accepted: socket.socket, client: Client) -> None:
        try:
            admission = self._door.admit(await self._behind(accepted, client))
        except (ProxyError, OSError) as error:  # TimeoutError is an OSError
            self._door.services.log.warning("PROXY header refused", error=str(error), client=client.address)
            admission = Reason.NETWORK
        except asyncio.CancelledError:
            accepted.close()
            raise
        if isinstance(admission, Reason):
            accepted.close()
        else:
            await self._shake_hands(accepted, client, admission)

    async def _shake_hands(self, accepted: socket.socket, client: Client, admission: Admission) -> None:
        """From here on the socket is the loop's, and the admission the connection's once that is made."""
        connection = Connection(self._house, self._door, client=client, admission=admission)
        within = self._door.submission.limits.handshake
        try:
            with contextlib.suppress(OSError, RuntimeError):  # ssl.SSLError and TimeoutError are OSErrors
                await self._loop.connect_accepted_socket(
                    lambda: self._house.feed(connection), accepted, ssl=self._context(), ssl_handshake_timeout=within
                )
        finally:
            if not connection.is_made:  # some loops raise for a client that is gone, some do not
                self._door.services.facts.tls_failed()
                admission.leave()

    async def _behind(self, accepted: socket.socket, peer: Client) -> Client:
        """Whom a proxy's header names; the peer itself where it is no proxy. Raises ProxyError, OSError."""
        if not self._door.is_proxy(peer):
            return peer
        reader = ProxyReader()
        async with asyncio.timeout(PROXY_WITHIN):
            while True:
                await self._readable(accepted)
                octets = accepted.recv(_PEEK, socket.MSG_PEEK)
                if not octets:
                    raise ProxyError("closed before a PROXY header")
                header, length = reader.feed(octets)
                accepted.recv(length)
                if header is not None:
                    return client_at(header.source) if header.source else peer

    async def _readable(self, accepted: socket.socket) -> None:
        readable = self._loop.create_future()
        self._loop.add_reader(accepted.fileno(), _wake, readable)
        try:
            await readable
        finally:
            self._loop.remove_reader(accepted.fileno())


def _wake(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
