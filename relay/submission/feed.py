"""submission.feed: how octets from inside TLS come to a connection without an allocation of 256 KiB for each read.

To hand octets to an ordinary protocol, a loop's TLS asks OpenSSL to read into a fresh object of 256 KiB and shrinks
it to what there was; to a buffered protocol it reads into a buffer of the protocol's own. All connections of a worker
share one, because what is in it is taken out before the loop goes on. A connection itself cannot be a buffered
protocol, being aiosmtpd's class, so this stands between TLS and it.
"""

import asyncio

SIZE = 64 * 1024  # octets; four of TLS's records


class SharedBuffer:
    """One worker's. What was read is valid until the next read, of whichever connection."""

    __slots__ = ("view",)

    def __init__(self) -> None:
        self.view = memoryview(bytearray(SIZE))


class TlsFeed(asyncio.BufferedProtocol):
    """Stands for `protocol` towards a TLS transport."""

    __slots__ = ("_protocol", "_shared")

    def __init__(self, protocol: asyncio.Protocol, shared: SharedBuffer) -> None:
        self._protocol = protocol
        self._shared = shared

    def get_buffer(self, _hint: int) -> memoryview:
        return self._shared.view

    def buffer_updated(self, count: int) -> None:
        self._protocol.data_received(bytes(self._shared.view[:count]))

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
