"""peers.ports: ports that nobody else takes between choosing them and listening on them.

A socket that is bound and does not listen keeps a port from being given to others, while a server that sets
SO_REUSEADDR, as all of ours and theirs do, may still listen on it. So tests may run beside each other, and a server
may be started again on its port.
"""

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

_TRIES = 100


class Reserved:
    """One port, on every address given. Free again when closed."""

    def __init__(self, *addresses: str) -> None:
        self._sockets: Sequence[socket.socket] = ()
        self.port = 0
        for _ in range(_TRIES):
            try:
                self._bind(addresses or ("127.0.0.1",))
            except OSError:
                continue
            return
        raise RuntimeError(f"no port is free on {addresses}")

    def _bind(self, addresses: Sequence[str]) -> None:
        sockets: list[socket.socket] = []
        port = 0
        try:
            for address in addresses:
                held = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                sockets.append(held)
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((address, port))
                port = held.getsockname()[1]
        except OSError:
            for held in sockets:
                held.close()
            raise
        self._sockets, self.port = sockets, port

    def close(self) -> None:
        for held in self._sockets:
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
