"""server.passing: listening sockets handed from the supervisor to a worker that runs already.

One message over a socket pair of their own (SOCK_SEQPACKET keeps a message whole): the kinds and addresses, and their
descriptors attached (SCM_RIGHTS, unix(7)). All of them each time, not only the new ones, so that it does not matter
what the worker had before. They cannot go over the channel, whose event loop would read the octets and lose the
descriptors; and a worker cannot open the address for itself, since all workers accept from one socket.
"""

import socket

import msgspec

from relay.errors import Unavailable
from relay.server.listeners import Listening, Opened

_MOST_SOCKETS = 253  # SCM_MAX_FD, of the kernel
_MOST_OCTETS = 65536


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the worker's; neither blocks. Raises OSError."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    return ends[0], ends[1]


def send(channel: socket.socket, listening: Listening) -> None:
    """Raises OSError when the worker is gone or takes nothing more."""
    names = msgspec.msgpack.encode([(each.kind, each.listen) for each in listening.all])
    socket.send_fds(channel, [names], [each.socket.fileno() for each in listening.all])


def receive(channel: socket.socket) -> Listening:
    """The newest that was sent. Raises Unavailable when nothing was, or not all of it came."""
    newest: Listening | None = None
    while True:
        try:
            octets, descriptors, flags, _ = socket.recv_fds(channel, _MOST_OCTETS, _MOST_SOCKETS)
        except BlockingIOError:
            break
        if not octets:
            break
        if newest is not None:
            newest.close_but()
        newest = _listening(octets, descriptors, whole=not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC))
    if newest is None:
        raise Unavailable("the supervisor handed over no listening sockets")
    return newest


def _listening(octets: bytes, descriptors: list[int], *, whole: bool) -> Listening:
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if not whole:
        for each in sockets:
            each.close()
        raise Unavailable(
            "listening sockets were lost on their way to a worker", remedy="raise LimitNOFILE= in the service's unit"
        )
    for each in sockets:
        each.set_inheritable(False)  # recv_fds() takes MSG_CMSG_CLOEXEC and does not pass it on
        each.settimeout(0)
    names = msgspec.msgpack.decode(octets, type=list[tuple[str, str]])
    return Listening(tuple(Opened(kind, listen, each) for (kind, listen), each in zip(names, sockets, strict=True)))
