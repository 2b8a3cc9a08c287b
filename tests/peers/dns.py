"""peers.dns: nameservers on loopback.

`authoritative(directory, zones)` runs nsd, a real server, with the zones given as text, on a free port for UDP and
TCP. `FakeDns` answers as a function says: for what a real server cannot be made to do (SERVFAIL, silence, truncation,
garbage).
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset

NSD = shutil.which("nsd") or "/usr/sbin/nsd"
_STARTING = 10.0  # seconds


@contextlib.contextmanager
def authoritative(directory: Path, zones: Mapping[str, str]) -> Iterator[str]:
    """The server's "ADDRESS:PORT". zones: name → records as in a zone file; a SOA and an NS are added."""
    port = _free_port()
    process = subprocess.Popen([NSD, "-d", "-c", _configured(directory, port, zones)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(process, port, next(iter(zones)))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    """Free for UDP and TCP alike."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


def _configured(directory: Path, port: int, zones: Mapping[str, str]) -> Path:
    server = f"""
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: ""
  logfile: "{directory}/nsd.log"
  xfrdfile: ""
  zonelistfile: "{directory}/zone.list"
  xfrdir: "{directory}"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""
    for name, records in zones.items():
        (directory / f"{name}.zone").write_text(_zone(name, records))
        server += f'zone:\n  name: "{name}"\n  zonefile: "{name}.zone"\n'
    path = directory / "nsd.conf"
    path.write_text(server)
    return path


def _zone(name: str, records: str) -> str:
    """With a negative TTL of 60 s (RFC 2308 4: the SOA's minimum)."""
    soa = "@ SOA ns.nsd.test. hostmaster.nsd.test. 1 3600 600 86400 60"
    return f"$ORIGIN {name}.\n$TTL 300\n{soa}\n@ NS ns.nsd.test.\n{records}\n"


def _wait_for(process: "subprocess.Popen[bytes]", port: int, zone: str) -> None:
    ends = time.monotonic() + _STARTING
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"nsd ended with {process.returncode}")
        with contextlib.suppress(dns.exception.Timeout, OSError):
            if dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", port=port, timeout=0.2).answer:
                return
    raise RuntimeError("nsd does not answer")


Respond = Callable[[dns.message.Message, bool], bytes | dns.message.Message | None]


class FakeDns:
    """respond: (query, over TCP?) → octets, a message, or None for silence. `questions` are those that came."""

    def __init__(self, respond: Respond) -> None:
        self.questions: list[str] = []
        self.address = ""
        self._respond = respond
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), ("127.0.0.1", port))
        self._server = await asyncio.start_server(self._tcp, "127.0.0.1", port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._transport is not None
        assert self._server is not None
        self._transport.close()
        self._server.close()
        await asyncio.sleep(0)

    def answer(self, query: bytes, *, tcp: bool) -> bytes | None:
        message = dns.message.from_wire(query)
        question = message.question[0]
        self.questions.append(f"{question.name.to_text(omit_final_dot=True)} {question.to_text().split()[-1]}")
        answer = self._respond(message, tcp)
        return answer.to_wire(max_size=65535) if isinstance(answer, dns.message.Message) else answer

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = self.answer(await reader.readexactly(length), tcp=True)
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: FakeDns) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, tcp=False)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


def response(query: dns.message.Message, *records: str, rcode: str = "NOERROR", flags: str = "") -> dns.message.Message:
    """records: as in a zone file, for the name asked: "300 A 192.0.2.1"."""
    message = dns.message.make_response(query, recursion_available=True)
    message.set_rcode(dns.rcode.from_text(rcode))
    message.flags |= dns.flags.from_text(flags)
    for record in records:
        ttl, kind, data = record.split(" ", 2)
        message.answer.append(dns.rrset.from_text(query.question[0].name, int(ttl), "IN", kind, data))
    return message
