"""server.listeners: the listening sockets, opened once, before anything is forked, and changed by a reload.

Sockets that the service manager passes (LISTEN_FDS) stand for the configured addresses they are bound to; what it did
not pass is opened here. An address that cannot be bound ends the start with a sentence that says whose it is and what
to do; on a reload everything then stays as it was. At the start a port in use is tried for a moment longer: the
workers of a supervisor that was just killed have not let go of it yet.

No SO_REUSEPORT: with it a second server of this user would share the port instead of being told that it is in use.
"""

import errno
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from relay.config.consistency import listen_address
from relay.config.models import Config
from relay.errors import PermissionRefused, RelayError, Unavailable
from relay.submission.listener import Kind

BACKLOG = 1024
HTTP = "http"
POLL = 0.05


@dataclass(frozen=True, slots=True)
class Opened:
    """One listening socket. kind: a `submission.listener.Kind`, or HTTP. listen: as in relay.toml, "[::]:587"."""

    kind: str
    listen: str
    socket: socket.socket


@dataclass(frozen=True, slots=True)
class Listening:
    """All of them, in the order of the configuration."""

    all: tuple[Opened, ...]

    @property
    def starttls(self) -> tuple[socket.socket, ...]:
        return self._of(Kind.STARTTLS)

    @property
    def tls(self) -> tuple[socket.socket, ...]:
        return self._of(Kind.TLS)

    @property
    def trusted(self) -> tuple[socket.socket, ...]:
        return self._of(Kind.TRUSTED)

    @property
    def http(self) -> socket.socket:
        return self._of(HTTP)[0]

    def _of(self, kind: str) -> tuple[socket.socket, ...]:
        return tuple(each.socket for each in self.all if each.kind == kind)

    def fits(self, config: Config) -> bool:
        return [(each.kind, each.listen) for each in self.all] == list(wanted(config))

    def changed(self, config: Config) -> "Listening":
        """What `config` asks for: sockets that stay are the same objects, those that are new are opened.

        Raises as `open_all`; then nothing was opened. What is no longer asked for is left to `close_but`.
        """
        left = list(self.all)
        kept = [_taken(left, kind, listen) for kind, listen in wanted(config)]
        fresh: list[Opened] = []
        try:
            for (kind, listen), known in zip(wanted(config), kept, strict=True):
                if known is None:
                    fresh.append(Opened(kind, listen, self._bound_to(listen) or self._open(listen)))
        except RelayError:
            _close(fresh)
            raise
        news = iter(fresh)
        return Listening(tuple(known or next(news) for known in kept))

    def _bound_to(self, listen: str) -> socket.socket | None:
        """The address has another use from now on: a socket of its own for that, since the old one will be closed."""
        address = listen_address(listen)
        same = (each.socket for each in self.all if address[1] and listen_address(each.listen) == address)
        return next((each.dup() for each in same), None)

    def _open(self, listen: str) -> socket.socket:
        try:
            return _open(listen)
        except Unavailable:
            ours = next((each.listen for each in self.all if _overlap(each.listen, listen)), None)
            if ours is None:
                raise
            raise Unavailable(
                f"{listen} overlaps {ours}, on which this server listens now",
                remedy=f"take {ours} away with one reload and add {listen} with the next, or restart",
            ) from None

    def taking_over(self, received: "Listening") -> "Listening":
        """`received` from another process, but with this one's own sockets where it has them."""
        left = list(self.all)
        result = []
        for each in received.all:
            own = _taken(left, each.kind, each.listen)
            if own is not None and own.socket is not each.socket:
                each.socket.close()
            result.append(own or each)
        return Listening(tuple(result))

    def close_but(self, kept: "Listening | None" = None) -> None:
        """In this process: those that are not in `kept` any more."""
        staying = {id(each.socket) for each in kept.all} if kept is not None else set()
        _close(each for each in self.all if id(each.socket) not in staying)


def wanted(config: Config) -> Iterator[tuple[str, str]]:
    """(kind, listen) of everything the configuration asks for."""
    submission = config.submission
    yield from ((Kind.STARTTLS, listen) for listen in submission.starttls)
    yield from ((Kind.TLS, listen) for listen in submission.tls)
    yield from ((Kind.TRUSTED, each.listen) for each in submission.trusted)
    yield HTTP, config.http.listen


def open_all(config: Config, inherited: Sequence[socket.socket] = (), *, patience: float = 0.0) -> Listening:
    """Raises Unavailable for a port in use, PermissionRefused for one that this user may not bind.

    patience: seconds for which a port may be in use.
    """
    by_address = {listen_address(_name(each)): each for each in inherited}
    until = time.monotonic() + patience
    opened: list[Opened] = []
    try:
        for kind, listen in wanted(config):
            passed = by_address.pop(listen_address(listen), None)
            opened.append(Opened(kind, listen, passed or _open(listen, until=until)))
        _refuse_unnamed(by_address.values())
    except RelayError:
        _close(opened)
        raise
    return Listening(tuple(opened))


def _refuse_unnamed(left: Iterable[socket.socket]) -> None:
    names = ", ".join(sorted(_name(each) for each in left))
    if names:
        raise Unavailable(
            f"the service manager passed sockets that relay.toml does not name: {names}",
            remedy="make the socket unit and relay.toml agree",
        )


def _taken(left: list[Opened], kind: str, listen: str) -> Opened | None:
    found = next((each for each in left if (each.kind, each.listen) == (kind, listen)), None)
    if found is not None:
        left.remove(found)
    return found


def _close(opened: Iterable[Opened]) -> None:
    for each in opened:
        each.socket.close()


def _overlap(first: str, second: str) -> bool:
    (host, port), (other, other_port) = listen_address(first), listen_address(second)
    return port == other_port and host.version == other.version and (host.is_unspecified or other.is_unspecified)


def _open(listen: str, *, until: float = 0.0) -> socket.socket:
    while True:
        try:
            return _bound(listen)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise _explained(listen, error) from error
        time.sleep(POLL)


def _bound(listen: str) -> socket.socket:
    address, port = listen_address(listen)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((str(address), port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _explained(listen: str, error: OSError) -> RelayError:
    port = listen_address(listen)[1]
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"{listen} is in use by another program",
            remedy=f"find it with `ss -ltnp 'sport = :{port}'` and stop it, or change the address in relay.toml",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionRefused(
            f"{listen} may not be bound by this user (uid {os.geteuid()})",
            remedy="give the service CAP_NET_BIND_SERVICE (config/relay.service does),"
            " or use a port from 1024 on, such as 2587",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(
            f"{listen} is no address of this machine", remedy="correct it in relay.toml; `ip address` lists them"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return Unavailable(f"{listen}: this machine has no IPv6", remedy="take the [::] addresses out of relay.toml")
    return Unavailable(
        f"{listen} cannot be opened: {error.strerror}", remedy="change it in relay.toml; `relay check` looks again"
    )


def _name(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
