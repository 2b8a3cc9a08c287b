"""simulator.nameserver: says where simulated providers are: a nameserver for their domains and hosts, and no others.

A relay that asks it alone finds gmail.com at the simulated Google, and nothing else at all: other names are REFUSED,
which is nobody's word, so mail to them waits and bounces for nothing. Answers are small; there is no TCP.
"""

import asyncio
import contextlib
from collections.abc import Iterable

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from relay.simulator.providers import SimulatedSite

TTL = 60  # seconds


class Nameserver(asyncio.DatagramProtocol):
    """Made by `start`. port: the one it listens on."""

    def __init__(self, simulated: Iterable[SimulatedSite]) -> None:
        self.port = 0
        self._mx: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        for site in simulated:
            self._addresses[site.mx] = site.address
            self._mx |= dict.fromkeys(site.domains, site.mx)
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def start(cls, simulated: Iterable[SimulatedSite], *, host: str, port: int) -> "Nameserver":
        """0 takes a free port. Raises OSError when it is in use."""
        nameserver = cls(simulated)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: nameserver, (host, port))
        nameserver.port = transport.get_extra_info("sockname")[1]
        return nameserver

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # uvloop's
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(dns.exception.DNSException, IndexError):  # what is no question has no answer
            query = dns.message.from_wire(data)
            if self._transport is not None:
                self._transport.sendto(self._answer(query).to_wire(), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        asked = query.question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
        answer = dns.message.make_response(query, recursion_available=True)
        if name not in self._mx and name not in self._addresses:
            answer.set_rcode(dns.rcode.REFUSED)
            return answer
        answer.flags |= dns.flags.AA
        for kind, record in self._records(name).items():
            if asked.rdtype == kind:
                answer.answer.append(dns.rrset.from_text(asked.name, TTL, "IN", kind, record))
        return answer

    def _records(self, name: str) -> dict[dns.rdatatype.RdataType, str]:
        records = {}
        if name in self._mx:
            records[dns.rdatatype.MX] = f"10 {self._mx[name]}."
        if name in self._addresses:
            records[dns.rdatatype.A] = self._addresses[name]
        return records
