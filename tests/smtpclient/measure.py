"""What a message costs the client after DATA and in a chunk: `python -m tests.smtpclient.measure`, as root.

One connection to a real Postfix, which offers CHUNKING or does not by our address; in turns, so that both meet the same
machine. CPU is this process's alone.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from relay.smtpclient import Connection, Endpoint, OutgoingContent, SessionOptions, TlsContexts, TlsMode, connect
from tests.peers.certificates import Authority
from tests.peers.ports import Reserved
from tests.peers.postfix import NO_CHUNKING, Postfix, postfix
from tests.smtpclient.sessions import HEAD, PATIENT, transaction

MESSAGES = 300
TURNS = 7
SOURCES = {"after DATA": NO_CHUNKING, "in a chunk": ""}
LINE = b"The quick brown fox jumps over the lazy dog, again and again.\r\n"
SIZES = {"4 KB": 4_000, "60 KB": 60_000, "1 MB": 1_000_000}


async def opened(server: Postfix, contexts: TlsContexts, source: str) -> Connection:
    options = SessionOptions(contexts, "relay.test", source=source, tls=TlsMode.NONE, timeouts=PATIENT)
    outcome = await connect(Endpoint(server.host, server.port, "mx.postfix.test"), options)
    assert isinstance(outcome, Connection), outcome
    return outcome


async def cost(server: Postfix, contexts: TlsContexts, source: str, octets: int) -> tuple[float, float]:
    """Microseconds of CPU and of time for a message."""
    content = OutgoingContent(head=HEAD, body=LINE * (octets // len(LINE)))
    count = max(10, MESSAGES * 4_000 // max(octets, 4_000))
    connection = await opened(server, contexts, source)
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(count):
        result = await connection.transact(transaction("b@postfix.test", content=content))
        assert result.final is not None
        assert result.final.is_positive
    cpu, lasted = time.process_time() - cpu, time.perf_counter() - began
    await connection.quit()
    return cpu / count * 1e6, lasted / count * 1e6


async def measured(server: Postfix) -> None:
    contexts = TlsContexts(monotonic=time.monotonic)
    for size, octets in SIZES.items():
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in SOURCES}
        for _ in range(TURNS):
            for way, source in SOURCES.items():
                found[way].append(await cost(server, contexts, source, octets))
        for way, costs in found.items():
            cpu, lasted = (statistics.median(each) for each in zip(*costs, strict=True))
            sys.stdout.write(f"{size} {way}: {cpu:.0f} µs of CPU, {lasted:.0f} µs in all\n")


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, Reserved() as port:
        issued = Authority(Path(directory)).issue("mx.postfix.test")
        with postfix(
            "127.0.0.1",
            port.port,
            domains=["postfix.test"],
            mailboxes=["b"],
            certificate=issued.certificate,
            key=issued.key,
        ) as server:
            uvloop.run(measured(server))
    return 0


if __name__ == "__main__":
    sys.exit(main())
