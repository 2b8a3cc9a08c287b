"""submission.server: all listeners of one worker, and what happens to their sessions from outside.

Promises: a message whose last octet came is handed over once, whatever becomes of the connection; a revoked
credential's sessions end when `credentials_changed` is called; `drain` ends idle sessions at once, lets messages
under way come to their end, and returns when the last reply is given or the time is over; `reload` and `listen` drop
no session. A listening socket it is given is the listener's, and is closed with it. One sweep a second sees to all
timeouts, and looks after certificates.

Every task is a child of the worker's TaskGroup; none of them raises.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Protocol

from relay.config.models import Config
from relay.reception import Submitted
from relay.registry.credentials import Credential
from relay.submission.acceptor import Acceptor
from relay.submission.arrival import ClearArrival, TlsArrival
from relay.submission.connection import Connection
from relay.submission.door import Door
from relay.submission.feed import SharedBuffer, TlsFeed
from relay.submission.handover import hand_over
from relay.submission.limits import Excess
from relay.submission.listener import Kind, Listener, listeners
from relay.submission.services import Services
from relay.submission.tls import Certificates

SWEEP_EVERY = 1.0
RELOAD_EVERY = 10  # sweeps between two looks at the certificates' files


class Sockets(Protocol):
    """Listening sockets, in the order of the configuration."""

    @property
    def starttls(self) -> Sequence[socket]: ...
    @property
    def tls(self) -> Sequence[socket]: ...
    @property
    def trusted(self) -> Sequence[socket]: ...


@dataclass(frozen=True, slots=True)
class Entrance:
    """A door and what accepts connections for it."""

    door: Door
    acceptor: Acceptor

    def is_for(self, listener: Listener) -> bool:
        return (self.door.listener.kind, self.door.listener.listen) == (listener.kind, listener.listen)

    def close(self) -> None:
        self.door.is_open = False
        self.acceptor.close()


class SubmissionServer:
    """clock: monotonic seconds, the loop's by default. certificates: None where only trusted listeners are
    configured.
    """

    def __init__(
        self,
        config: Config,
        services: Services,
        *,
        tasks: asyncio.TaskGroup,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Raises ConfigError, PermissionRefused for what no session could be served with."""
        self._config = config
        self._services = services
        self._tasks = tasks
        self._over = Excess()
        self._buffer = SharedBuffer()
        self._listeners = listeners(config.submission)
        self._entrances: list[Entrance] = []
        self._missing: set[tuple[str, str]] = set()  # trusted listeners without their credential
        self.certificates = Certificates(config.tls, log=services.log) if _needs_tls(config) else None
        self.time = clock or asyncio.get_running_loop().time
        self._connections: set[Connection] = set()
        self._commits = 0
        self._empty = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None

    # -- what the worker does -------------------------------------------------------------------------------------

    async def start(self, sockets: Sockets) -> None:
        """Take connections."""
        await self.listen(sockets)
        self._sweeper = self._tasks.create_task(self._sweep_for_ever())

    async def listen(self, sockets: Sockets) -> None:
        """Where the configuration says now, and nowhere else. The socket of a listener that stays is left alone."""
        for entrance in self._entrances:
            if not any(entrance.is_for(listener) for listener in self._listeners):
                entrance.close()
        self._tell_of_missing_credentials()
        before, self._entrances = self._entrances, []
        for listener, listening in self._with_sockets(sockets):
            known = next((entrance for entrance in before if entrance.is_for(listener)), None)
            if known is not None:
                before.remove(known)
            self._entrances.append(known or self._open(self._door(listener), listening))

    def _with_sockets(self, sockets: Sockets) -> list[tuple[Listener, socket]]:
        by_kind = {Kind.STARTTLS: sockets.starttls, Kind.TLS: sockets.tls, Kind.TRUSTED: sockets.trusted}
        return [
            pair
            for kind, opened in by_kind.items()
            for pair in zip([each for each in self._listeners if each.kind is kind], opened, strict=True)
        ]

    def _door(self, listener: Listener) -> Door:
        return Door.of(
            listener,
            hostname=self._config.server.hostname,
            submission=self._config.submission,
            services=self._services,
            over=self._over,
        )

    def _open(self, door: Door, listening: socket) -> Entrance:
        acceptor = Acceptor(listening, door, self._arrival(door))
        acceptor.start()
        return Entrance(door, acceptor)

    def _arrival(self, door: Door) -> ClearArrival | TlsArrival:
        if door.listener.kind is Kind.TLS:
            return TlsArrival(self, door, context=self.tls_context, tasks=self._tasks)
        return ClearArrival(self, door, tasks=self._tasks)

    def reload(self, config: Config) -> None:
        """New terms for the sessions that begin from now on; `listen` follows. Raises ConfigError, PermissionRefused.

        What it raises leaves everything as it was.
        """
        fresh = listeners(config.submission)
        self.certificates = self._reloaded(config)
        self._config, self._listeners = config, fresh
        for entrance in self._entrances:
            listener = next((each for each in fresh if entrance.is_for(each)), entrance.door.listener)
            entrance.door.reload(listener, hostname=config.server.hostname, submission=config.submission)

    def _reloaded(self, config: Config) -> Certificates | None:
        if not _needs_tls(config):
            return self.certificates  # sessions that began TLS with it go on
        if self.certificates is None or config.tls != self._config.tls:
            return Certificates(config.tls, log=self._services.log)
        self.certificates.reload()
        return self.certificates

    def credentials_changed(self) -> None:
        """The registry's snapshot is another one: end the sessions whose credential is no longer good."""
        for connection in tuple(self._connections):
            connection.check_credential()

    async def drain(self, *, seconds: float) -> None:
        """Stop accepting, let messages under way come to their end, at most for so long, and end every session."""
        for entrance in self._entrances:
            entrance.close()
        for connection in tuple(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(seconds):
                await self._until_empty()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
            await self._until_empty()  # what is being committed has been promised nothing yet, and soon will be
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _until_empty(self) -> None:
        while self._connections or self._commits:
            self._empty.clear()
            await self._empty.wait()

    @property
    def sessions(self) -> int:
        """Connections now, whatever their state."""
        return len(self._connections)

    @property
    def unauthenticated(self) -> int:
        """Connections now that have no credential."""
        return sum(not each.is_authenticated for each in self._connections)

    # -- time -----------------------------------------------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            self.sweep()
            sweeps += 1
            if sweeps % RELOAD_EVERY == 0 and self.certificates is not None:
                self.certificates.reload()

    def sweep(self) -> None:
        """End what has taken too long; look whether trusted listeners have their credentials."""
        self._services.load.sign()
        self._tell_of_missing_credentials()
        now, limits = self.time(), self._config.submission.limits
        for connection in tuple(self._connections):
            connection.sweep(now, limits)

    def _tell_of_missing_credentials(self) -> None:
        """Tell, once, of each trusted listener whose credential is not there: all it can do is refuse."""
        known, now = self._services.snapshot().credentials, self._services.now()
        missing = {
            (listener.listen, listener.trusted.credential)
            for listener in self._listeners
            if listener.trusted is not None and not _is_usable(known.get(listener.trusted.credential), now)
        }
        for listen, credential in sorted(missing - self._missing):
            self._services.log.error("trusted listener has no valid credential", listen=listen, credential=credential)
        self._missing = missing

    # -- what a connection does: `connection.House` ---------------------------------------------------------------

    def enter(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._services.load.enter()

    def leave(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._services.load.leave()
        self._look_whether_empty()

    def commit(self, submitted: Submitted, connection: Connection) -> None:
        self._commits += 1
        self._tasks.create_task(self._commit(submitted, connection))

    async def _commit(self, submitted: Submitted, connection: Connection) -> None:
        try:
            connection.committed(await hand_over(submitted, self._services, self._over))
        finally:
            self._commits -= 1
            self._look_whether_empty()

    def feed(self, connection: Connection) -> TlsFeed:
        return TlsFeed(connection, self._buffer)

    def start_tls(self, connection: Connection) -> None:
        self._tasks.create_task(connection.upgrade(self.tls_context(), within=self._config.submission.limits.handshake))

    def tls_context(self) -> ssl.SSLContext:
        if self.certificates is None:
            raise RuntimeError("no certificate is configured")  # a listener that needs one loads it
        return self.certificates.context

    def _look_whether_empty(self) -> None:
        if not self._connections and not self._commits:
            self._empty.set()


def _is_usable(credential: Credential | None, now: float) -> bool:
    return credential is not None and credential.is_usable(now=now)


def _needs_tls(config: Config) -> bool:
    return bool(config.submission.starttls or config.submission.tls)
