"""server.listeners: the listening sockets, opened once, before anything is forked.

Sockets that the service manager passes (LISTEN_FDS) stand for the configured addresses they are bound to; what it did
not pass is opened here. An address that cannot be bound ends the start with a sentence that says whose it is and what
to do.
"""

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from relay.config.models import Config
from relay.errors import PermissionRefused, RelayError, Unavailable

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Listening:
    """The sockets, in the order of the configuration."""

    starttls: tuple[socket.socket, ...]
    tls: tuple[socket.socket, ...]
    trusted: tuple[socket.socket, ...]
    http: socket.socket

    def all(self) -> tuple[socket.socket, ...]:
        return (*self.starttls, *self.tls, *self.trusted, self.http)


def open_all(config: Config, inherited: Sequence[socket.socket]) -> Listening:
    """Raises Unavailable for a port in use, PermissionRefused for one that this user may not bind."""
    by_address = {_name(each): each for each in inherited}

    def listener(address: str) -> socket.socket:
        return by_address.pop(_canonical(address), None) or _open(address)

    listening = Listening(
        starttls=tuple(listener(address) for address in config.submission.starttls),
        tls=tuple(listener(address) for address in config.submission.tls),
        trusted=tuple(listener(each.listen) for each in config.submission.trusted),
        http=listener(config.http.listen),
    )
    if by_address:
        raise Unavailable(
            f"the service manager passed sockets that relay.toml does not name: {', '.join(sorted(by_address))}",
            remedy="make the socket unit and relay.toml agree",
        )
    return listening


def split(listen: str) -> tuple[str, int]:
    """ "[::]:587" → ("::", 587)."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _open(listen: str) -> socket.socket:
    host, port = split(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explained(listen, port, error) from error
    return listener


def _explained(listen: str, port: int, error: OSError) -> RelayError:
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"{listen} is in use by another program",
            remedy=f"find it with `ss -ltnp 'sport = :{port}'` and stop it, or change the address in relay.toml",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionRefused(
            f"{listen} may not be bound by this user (uid {os.geteuid()})",
            remedy="give the service CAP_NET_BIND_SERVICE (config/relay.service does), or use a port from 1024 on, such as 2587",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(
            f"{listen} is no address of this machine", remedy="correct it in relay.toml; `ip address` lists them"
        )
    if error.errno == errno.EAFNOSUPPORT:
        return Unavailable(f"{listen}: this machine has no IPv6", remedy="take the [::] addresses out of relay.toml")
    return Unavailable(f"{listen} cannot be opened: {error.strerror}")


def _name(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return _canonical(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _canonical(listen: str) -> str:
    host, port = split(listen)
    return f"{host}|{port}"
