"""Every test here runs on asyncio's loop and on uvloop's: their datagram endpoints differ."""

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.peers.dns import NSD, authoritative

ZONES = {
    "relay.test": """
@        MX 20 backup
@        MX 10 mx1
@        MX 10 MX2.Relay.Test.
@        TXT "v=spf1 " "ip4:192.0.2.0/24" " -all"
@        TXT "something else"
@        600 A 192.0.2.1
mx1      A 192.0.2.10
mx1      A 192.0.2.11
mx1      AAAA 2001:db8::10
mx2      A 192.0.2.20
six      AAAA 2001:db8::6
alias    CNAME relay.test.
loop     CNAME loop
bare     A 192.0.2.30
null     MX 0 .
null     A 192.0.2.31
both     MX 0 .
both     MX 10 mx1
text     TXT "only text"
odd      MX 10 a\\.b.relay.test.
child    NS ns.elsewhere.test.
*.wild   MX 5 mx1
""",
    "2.0.192.in-addr.arpa": "10 PTR MX1.relay.test.\n",
    "8.b.d.0.1.0.0.2.ip6.arpa": f"{ipaddress.ip_address('2001:db8::10').reverse_pointer}. PTR mx1.relay.test.\n",
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not Path(NSD).exists():
        pytest.skip("nsd is not installed (tests/install-peers)")
    with authoritative(tmp_path_factory.mktemp("nsd"), ZONES) as address:
        yield address
