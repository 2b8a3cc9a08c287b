"""submission.arrival: from an accepted socket to a connection, in clear text or in TLS from the first octet.

In clear text the connection reads what comes first itself. On port 465 (RFC 8314 3.3) two things come before TLS: a
client that has too many sessions is turned away before a handshake costs anything; and a proxy's header comes in clear
text, in the same segment as the client's first TLS octets as often as not, and is taken from the socket to the octet.
Then `loop.connect_accepted_socket` does the handshake, uvloop's own where uvloop runs, in the current TLS context.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from relay.submission.admission import Admission, Reason
from relay.submission.client import Client, client_at
from relay.submission.connection import PROXY_WITHIN, Connection, House
from relay.submission.door import Door
from relay.submission.proxy import ProxyError, ProxyReader

_PEEK = 4096


class ClearArrival:
    """`acceptor.Arrival` for STARTTLS and trusted listeners."""

    def __init__(self, house: House, door: Door, *, tasks: asyncio.TaskGroup) -> None:
        self._house = house
        self._door = door
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()

    def begin(self, accepted: socket.socket, _host: str) -> asyncio.Task[None]:
        return self._tasks.create_task(self._connect(accepted))

    def close(self) -> None:
        """What has been accepted is connected at once, and is the house's to end."""

    async def _connect(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is gone
            await self._loop.connect_accepted_socket(self._connection, accepted)

    def _connection(self) -> Connection:
        return Connection(self._house, self._door)


class TlsArrival:
    """`acceptor.Arrival` for TLS listeners; when it is closed, handshakes under way are given up."""

    def __init__(
        self, house: House, door: Door, *, context: Callable[[], ssl.SSLContext], tasks: asyncio.TaskGroup
    ) -> None:
        self._house = house
        self._door = door
        self._context = context
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()

    def begin(self, accepted: socket.socket, host: str) -> asyncio.Task[None]:
        handshake = self._tasks.create_task(self._receive(accepted, client_at(host)))
        self._handshakes.add(handshake)
        handshake.add_done_callback(self._handshakes.discard)
        return handshake

    def close(self) -> None:
        for handshake in tuple(self._handshakes):
            handshake.cancel()

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
