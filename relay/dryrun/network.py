"""dryrun.network: connections within the process, from Relay's client to the sessions of simulated receivers.

What is written at one end arrives at the other in the next turn of the event loop, whole and in order; how long it
would be on its way is the receiver's to say. Closing is told likewise, after what was written.
"""

import asyncio
from typing import Any

from relay.simulator.session import Receiver, Session

_PORT = 25


class Network:
    """receivers: by address."""

    def __init__(self) -> None:
        self.receivers: dict[str, Receiver] = {}


def connected(
    loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, network: Network, *, client: str, server: str
) -> asyncio.Transport:
    """The client's end of a new connection; the other end is a session of who receives there."""
    session = Session(network.receivers[server], loop)
    ours = End(loop, protocol, local=client, remote=server)
    theirs = End(loop, session, local=server, remote=client)
    ours.other, theirs.other = theirs, ours
    protocol.connection_made(ours)
    loop.call_soon(session.connection_made, theirs)
    return ours


class End(asyncio.Transport):
    """One end of a connection."""

    other: "End"

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, *, local: str, remote: str) -> None:
        super().__init__(extra={"sockname": (local, _PORT), "peername": (remote, _PORT)})
        self._loop = loop
        self._protocol = protocol
        self._is_closing = False
        self._is_lost = False

    def write(self, data: Any) -> None:
        if not self._is_closing:
            self._loop.call_soon(self.other.arrived, bytes(data))

    def arrived(self, data: bytes) -> None:
        """From the other end."""
        if not self._is_lost:
            self._protocol.data_received(data)

    def ended(self) -> None:
        """The other end was closed, after all that it wrote."""
        if not self._is_lost and not self._protocol.eof_received():
            self.close()

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self.other.ended)
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self.close()

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError(protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.Protocol:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """Nothing is ever held back."""
        return 0
