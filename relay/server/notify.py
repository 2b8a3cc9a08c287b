"""server.notify: the service manager's protocol (sd_notify(3), sd_listen_fds(3)), a datagram and two variables.

Without NOTIFY_SOCKET every call does nothing, so the same code runs in a terminal and in a container. What cannot be
told is logged and no reason to end: a service manager that misses a word decides for itself.
"""

import os
import socket
from collections.abc import Mapping

from relay.errors import Unavailable
from relay.log import Log

FIRST_FD = 3  # SD_LISTEN_FDS_START
TELL_WITHIN = 1.0  # seconds that a service manager with a full queue may hold us up


class Notifier:
    """READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1 and STATUS=. Abstract socket names begin with "@"."""

    def __init__(self, environment: Mapping[str, str], log: Log) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._log = log
        self.watchdog = _watchdog_seconds(environment)

    def ready(self, status: str) -> None:
        self._tell(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self, *, monotonic_usec: int) -> None:
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={monotonic_usec}")

    def stopping(self) -> None:
        self._tell("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(TELL_WITHIN)
                channel.connect(self._address)
                channel.sendall(text.encode())
        except OSError as error:
            self._log.warning("service manager not told", text=text.splitlines()[0], error=str(error))


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises; 0 when there is none or it is another process's."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return _number(environment, "WATCHDOG_USEC") / 2_000_000


def inherited_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets a service manager passed, [] when none. They become close-on-exec. Raises Unavailable."""
    if environment.get("LISTEN_PID", "") != str(os.getpid()):
        return []
    return [_inherited(FIRST_FD + number) for number in range(_number(environment, "LISTEN_FDS"))]


def _inherited(descriptor: int) -> socket.socket:
    try:
        inherited = socket.socket(fileno=descriptor)
    except OSError as error:
        raise Unavailable(
            f"descriptor {descriptor}, passed by the service manager, is no socket: {error.strerror}",
            remedy="name only listening TCP sockets in the socket unit, with ListenStream=",
        ) from error
    if not _listens(inherited):
        inherited.close()
        raise Unavailable(
            f"descriptor {descriptor}, passed by the service manager, does not listen for TCP connections",
            remedy="use ListenStream= and Accept=no in the socket unit",
        )
    inherited.set_inheritable(False)
    inherited.settimeout(0)
    return inherited


def _listens(inherited: socket.socket) -> bool:
    is_internet = inherited.family in (socket.AF_INET, socket.AF_INET6) and inherited.type == socket.SOCK_STREAM
    return is_internet and bool(inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "0")
    if not text.isdecimal():
        raise Unavailable(f'{name}="{text}" in the environment is no number', remedy=f"unset {name}")
    return int(text)
