"""submission.acceptor: accepts connections from one listening socket, which other workers accept from as well.

A loop's own server takes whatever it can get, and on an idle machine that is mostly everything: of a pool of sessions
that an application opens, one worker had most while the others had nothing to do. So connections are accepted by
ourselves: a worker that has clearly more sessions than another leaves the socket out of its loop for a moment, and the
other one, which was woken too, takes the connection. It comes back as soon as the other has shown a sign of life, which
it does with each connection that it takes; then each new one is decided on anew. If nobody has, it takes the connection
after all: a worker that hangs holds one up for ASIDE, once.
"""

import asyncio
import errno
import socket
from typing import Protocol

from relay.submission.door import Door

AT_ONCE = 100  # connections accepted before others get a turn
ASIDE = 0.01  # seconds for which a connection is left to workers with fewer sessions, at most
LOOK = 0.001  # seconds between two looks whether they are at work
PAUSE = 1.0  # seconds without accepting when there is no file descriptor left
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Arrival(Protocol):
    """What becomes of accepted sockets: `arrival`."""

    def begin(self, accepted: socket.socket, host: str, /) -> asyncio.Task[None]:
        """The task ends when there is a connection, or none will be made; it raises nothing. host: of the peer."""

    def close(self) -> None: ...


class Acceptor:
    """`start` and `close`, which closes the listening socket and the arrival."""

    def __init__(self, listening: socket.socket, door: Door, arrival: Arrival) -> None:
        self._listening = listening
        self._door = door
        self._load = door.services.load
        self._arrival = arrival
        self._loop = asyncio.get_running_loop()
        self._return: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._load.opened()
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def close(self) -> None:
        """Safe to call again."""
        if self._listening.fileno() < 0:
            return
        if self._return is not None:
            self._return.cancel()
        self._load.closed()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        self._arrival.close()

    def _accept(self) -> None:
        """Something waits, or did until another worker took it."""
        if self._load.gives_way():
            self._load.wait()
            self._step_aside()
            self._return = self._loop.call_later(LOOK, self._look, self._loop.time() + ASIDE)
            return
        for _ in range(AT_ONCE):
            if not self._accept_one() or self._load.gives_way():
                return

    def _accept_one(self) -> bool:
        try:
            accepted, peer = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._pause(error)
            return False
        accepted.settimeout(0)
        self._load.enter()
        self._arrival.begin(accepted, peer[0]).add_done_callback(self._arrived)
        return True

    def _arrived(self, _: asyncio.Task[None]) -> None:
        """From here on the session is counted by itself."""
        self._load.leave()

    def _pause(self, error: OSError) -> None:
        self._door.services.log.error("cannot accept connections", error=str(error), listen=self._door.listener.listen)
        if error.errno in _EXHAUSTED:
            self._step_aside()
            self._return = self._loop.call_later(PAUSE, self._come_back)

    def _look(self, until: float) -> None:
        """Whether those to whom a connection was left are at work; each new one is decided on anew."""
        if self._load.has_come() or not self._load.gives_way():
            self._come_back()
        elif self._loop.time() < until:
            self._return = self._loop.call_later(LOOK, self._look, until)
        else:
            self._come_back()
            if self._accept_one():
                self._load.nobody_came()

    def _step_aside(self) -> None:
        self._loop.remove_reader(self._listening.fileno())

    def _come_back(self) -> None:
        self._return = None
        self._loop.add_reader(self._listening.fileno(), self._accept)
