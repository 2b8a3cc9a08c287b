"""Which worker has a client's session; and as a program, how sessions that are opened spread over the workers.

`python -m tests.system.spread [--rounds 20]` opens 12 and 20 sessions at once, 2 ms and 50 ms one after the other, at a
relay with two and with four workers, and prints how many the fullest worker had, and the time from the connect to the
greeting.
"""

import argparse
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import mean, quantiles

from tests.peers.certificates import Authority
from tests.peers.waiting import eventually
from tests.system.relay_process import RelayProcess

GAPS = {"at once": None, "2 ms": 0.002, "50 ms": 0.05}


def open_at_once(opened: ExitStack, port: int, count: int) -> tuple[list[socket.socket], list[float]]:
    """So many greeted sessions, and the seconds that the greeting of each took; all are opened before one is read."""
    pairs = [(_connected(opened, port), time.monotonic()) for _ in range(count)]
    return [client for client, _ in pairs], [_greeted(client) - begun for client, begun in pairs]


def open_in_turn(
    opened: ExitStack, port: int, count: int, *, gap: float = 0.0
) -> tuple[list[socket.socket], list[float]]:
    """The same, each opened `gap` seconds after the last was greeted."""
    clients, took = [], []
    for _ in range(count):
        begun = time.monotonic()
        clients.append(_connected(opened, port))
        took.append(_greeted(clients[-1]) - begun)
        time.sleep(gap)
    return clients, took


def _connected(opened: ExitStack, port: int) -> socket.socket:
    return opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))


def _greeted(client: socket.socket) -> float:
    assert client.recv(200).startswith(b"220"), "no greeting"
    return time.monotonic()


def spread(server: RelayProcess, clients: Sequence[socket.socket]) -> list[int]:
    """How many of these each worker has, by number."""
    inodes = _inodes({client.getsockname()[1] for client in clients})
    return [sum(each in inodes for each in _sockets(pid)) for _, pid in sorted(server.workers().items())]


def _inodes(ports: set[int]) -> set[str]:
    """Of the server's ends of the connections from these ports."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if int(row[2].rpartition(":")[2], 16) in ports}


def _sockets(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    return found


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    for workers in (2, 4):
        with tempfile.TemporaryDirectory() as directory:
            server = RelayProcess(
                Path(directory), Authority(Path(directory)), nameserver="127.0.0.1:1", server={"workers": workers}
            )
            try:
                server.start()
                for count in (12, 20):
                    for name, gap in GAPS.items():
                        print(f"{workers} workers, {count} sessions, {name}: {_measured(server, count, gap, rounds)}")
            finally:
                server.close()


def _measured(server: RelayProcess, count: int, gap: float | None, rounds: int) -> str:
    fullest: Counter[int] = Counter()
    seconds = []
    for _ in range(rounds):
        with ExitStack() as opened:
            if gap is None:
                clients, took = open_at_once(opened, server.starttls_port, count)
            else:
                clients, took = open_in_turn(opened, server.starttls_port, count, gap=gap)
            fullest[max(spread(server, clients))] += 1
            seconds += took
        eventually(lambda: server.metric("relay_sessions") == 0, what="they are over")
    return (
        f"fullest {dict(sorted(fullest.items()))}, mean {mean(fullest.elements()):.1f}; "
        f"greeting mean {mean(seconds) * 1000:.1f} ms, p99 {quantiles(seconds, n=100)[-1] * 1000:.1f} ms"
    )


if __name__ == "__main__":
    main()
