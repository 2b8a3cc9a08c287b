"""cli.source_checks: what is wrong with a [[source]] is found before a receiver finds it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.cli.conftest import Relay
from tests.peers.dns import authoritative

ZONES = {
    "relay.example.com": "@ A 192.0.2.1\n",
    "example.com": "out1 A 8.8.8.1\nout2 A 8.8.8.2\nout3 A 8.8.8.99\nout4 A 8.8.8.4\nout6 AAAA 2001:4860::6\n",
    "8.8.8.in-addr.arpa": "1 PTR Out1.example.com.\n2 PTR other.example.net.\n3 PTR out3.example.com.\n",
}
NOWHERE = '[[route]]\nvia = "direct"\npool = "{pool}"\nstream = "bulk"\n'


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with authoritative(tmp_path_factory.mktemp("nsd"), ZONES) as address:
        yield address


def source(address: str, name: str, more: str = "") -> str:
    return f'[[source]]\naddress = "{address}"\nhostname = "{name}"\n{more}'


def told(relay: Relay, nameserver: str, tables: str) -> list[tuple[str, str]]:
    """The grade and text of what is found about sources."""
    relay.config.write_text(
        f'[server]\nhostname = "relay.example.com"\nspool = "spool"\n[submission]\nstarttls = []\ntls = []\n'
        f'[dns]\nnameservers = ["{nameserver}"]\ntimeout = "2s"\n[http]\nlisten = "127.0.0.1:0"\n{tables}'
    )
    findings = relay("check", "--json").json["findings"]
    return [(each["grade"], each["text"]) for each in findings if each["subject"] == "source"]


@pytest.mark.parametrize(
    ("address", "name", "grade", "text"),
    [
        pytest.param("8.8.8.1", "out1.example.com", "ok", "8.8.8.1 is out1.example.com, both ways", id="both agree"),
        pytest.param(
            "8.8.8.2", "out2.example.com", "warning",
            "the PTR of 8.8.8.2 names other.example.net, and not out2.example.com", id="a PTR of another name",
        ),
        pytest.param(
            "8.8.8.4", "out4.example.com", "warning", "the PTR of 8.8.8.4 names nothing, and not out4.example.com",
            id="no PTR",
        ),
        pytest.param(
            "8.8.8.3", "out3.example.com", "warning", "out3.example.com is 8.8.8.99, and not 8.8.8.3",
            id="a name at another address",
        ),
        pytest.param(
            "127.0.0.9", "out9.example.com", "ok",
            "127.0.0.9 is not of the Internet: what it is seen as is not checked",
            id="an address behind a translation",
        ),
    ],
)  # fmt: skip
def test_an_address_and_its_name_agree(
    relay: Relay, nameserver: str, *, address: str, name: str, grade: str, text: str
) -> None:
    assert (grade, text) in told(relay, nameserver, source(address, name))


def test_an_address_of_another_machine_is_an_error(relay: Relay, nameserver: str) -> None:
    found = told(relay, nameserver, source("8.8.8.1", "out1.example.com"))
    assert ("error", "8.8.8.1 is no address of this machine: Cannot assign requested address") in found


def test_an_address_that_no_interface_has_but_the_kernel_takes_is_no_error(relay: Relay, nameserver: str) -> None:
    found = told(relay, nameserver, source("127.77.0.1", "out1.example.com"))
    assert [text for grade, text in found if grade == "error" and "127.77.0.1" in text] == []
    assert ("ok", "127.77.0.1 is not of the Internet: what it is seen as is not checked") in found


def test_a_pool_that_no_route_leads_to(relay: Relay, nameserver: str) -> None:
    tables = source("127.0.0.2", "a.example.com") + source("127.0.0.3", "b.example.com", 'pool = "bulk"\n')
    unused = ("warning", 'no route leads to the pool "bulk"')
    assert unused in told(relay, nameserver, tables)
    assert unused not in told(relay, nameserver, tables + NOWHERE.format(pool="bulk"))


def test_a_pool_that_reaches_ipv6_alone(relay: Relay, nameserver: str) -> None:
    found = told(relay, nameserver, source("::1", "out6.example.com"))
    text = 'the pool "default" has IPv6 addresses only; most servers cannot be reached from them'
    assert ("warning", text) in found


def test_a_pool_of_addresses_that_are_all_in_their_warm_up(relay: Relay, nameserver: str) -> None:
    today = f'warm_up = "{datetime.now(UTC).date().isoformat()}"\n'
    new = source("127.0.0.2", "a.example.com", today) + source("127.0.0.3", "b.example.com", today)
    text = 'every address of the pool "default" is in its warm-up: a provider gets 100 messages today'
    assert ("warning", text) in told(relay, nameserver, new)
    assert ("warning", text) not in told(relay, nameserver, new + source("127.0.0.4", "c.example.com"))
