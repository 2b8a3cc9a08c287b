"""peers.silent: an address that does not answer: a listening socket whose backlog is full drops the next SYN."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_SYN_SENT = "02"  # of the kernel's net/tcp_states.h


@contextmanager
def silent(host: str, port: int = 0) -> Iterator[int]:
    """The port on which nobody answers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket(family))
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind((host, port))
        full.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(family))
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def dialling(port: int) -> int:
    """Sockets of this machine that try to connect to the port, the one that fills a backlog not counted."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    fields = [line.split() for line in lines]
    return sum(each[2].endswith(f":{port:04X}") and each[3] == _SYN_SENT for each in fields)
