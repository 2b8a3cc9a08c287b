"""server.notify: the service manager's protocol (sd_notify(3), sd_listen_fds(3)), a datagram and two variables.

Without NOTIFY_SOCKET every call does nothing, so the same code runs in a terminal and in a container.
"""

import os
import socket
from collections.abc import Mapping

FIRST_FD = 3  # SD_LISTEN_FDS_START


class Notifier:
    """READY=1, RELOADING=1, STOPPING=1, WATCHDOG=1 and STATUS=. Abstract socket names begin with "@"."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog = _watchdog_seconds(environment)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def reloading(self, *, monotonic_usec: int) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_usec}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect(self._address)
            channel.sendall(text.encode())


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) advises; 0 when there is none or it is another process's."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(environment.get("WATCHDOG_USEC", "0")) / 2_000_000


def inherited_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets a service manager passed, [] when none. They become close-on-exec."""
    if environment.get("LISTEN_PID", "") != str(os.getpid()):
        return []
    sockets = []
    for number in range(int(environment.get("LISTEN_FDS", "0"))):
        inherited = socket.socket(fileno=FIRST_FD + number)
        inherited.set_inheritable(False)
        inherited.setblocking(False)
        sockets.append(inherited)
    return sockets
