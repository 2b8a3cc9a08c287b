"""Our addresses in DNS blocklists, as a real nameserver has them, and what lists answer that lists nothing."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from relay.config.models import Dns
from relay.config.sources import Blocklist
from relay.config.values import Address
from relay.delivery.blocklists import Blocklists, Listing, question
from relay.resolver import Resolver
from tests.peers.dns import FakeDns, authoritative, response
from tests.server.logbook import Logbook

ONE, TWO, SIX = "192.0.2.10", "192.0.2.11", "2001:db8::10"
REVERSED = question("", ipaddress.ip_address(SIX)).rstrip(".")
ZONES = {
    "listing.test": f"2.0.0.127 A 127.0.0.2\n10.2.0.192 A 127.0.0.4\n10.2.0.192 A 127.0.0.2\n{REVERSED} A 127.0.0.3\n",
    "clean.test": "2.0.0.127 A 127.0.0.2\n",
    "refusing.test": "* A 127.255.255.254\n",
    "given-up.test": "* A 127.0.0.2\n",
    "redirected.test": "* A 203.0.113.7\n",
    "empty.test": '@ TXT "nothing"\n',
    "text-only.test": '2.0.0.127 A 127.0.0.2\n10.2.0.192 TXT "no address"\n',
}


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with authoritative(tmp_path_factory.mktemp("nsd"), ZONES) as address:
        yield address


class Watch:
    """Blocklists with a clock of their own, and their log."""

    def __init__(self, nameserver: str, directory: Path, *zones: str, addresses: tuple[str, ...] = (ONE, TWO)) -> None:
        self.now = 1_000_000.0
        self.lists = [Blocklist(zone=zone) for zone in zones]
        self.addresses: list[Address] = [ipaddress.ip_address(each) for each in addresses]
        self.log = Logbook(directory)
        settings = Dns.model_validate({"nameservers": [nameserver], "timeout": "1s", "stale": "1h"})
        self.blocklists = Blocklists(
            lambda: self.lists,
            lambda: self.addresses,
            Resolver(settings, lambda: self.now),
            log=self.log.log,
            now=lambda: self.now,
            steady=lambda: self.now,
        )

    async def look(self, *, after: float = 0.0) -> None:
        self.now += after
        await self.blocklists.look()

    def listed(self, address: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(each.zone, each.codes) for each in self.blocklists.of(address)]


async def test_a_listed_address_is_found_with_its_codes_and_another_is_not(nameserver: str, tmp_path: Path) -> None:
    watch = Watch(nameserver, tmp_path, "listing.test", "Clean.Test.", addresses=(ONE, TWO, SIX))
    await watch.look()
    assert watch.blocklists.of(ONE) == [Listing("listing.test", ("127.0.0.2", "127.0.0.4"), since=1_000_000.0)]
    assert watch.listed(SIX) == [("listing.test", ("127.0.0.3",))]
    assert watch.listed(TWO) == []
    assert watch.blocklists.troubles == {}
    told = watch.log.lines("source listed")
    assert [(each["source"], each["blocklist"], each["codes"]) for each in told] == [
        (ONE, "listing.test", ["127.0.0.2", "127.0.0.4"]),
        (SIX, "listing.test", ["127.0.0.3"]),
    ]


@pytest.mark.parametrize(
    ("zone", "why"),
    [
        pytest.param("refusing.test", "it answers 127.255.255.254: it refuses our resolver", id="a refused resolver"),
        pytest.param("given-up.test", "it lists 127.0.0.1, and so everything", id="a list that lists everything"),
        pytest.param("empty.test", "it does not list 127.0.0.2", id="a list that lists nothing"),
        pytest.param("redirected.test", "it answers 203.0.113.7, which no list does", id="a resolver that redirects"),
        pytest.param("elsewhere.invalid", "answered REFUSED", id="a zone that our nameserver does not serve"),
    ],
)
async def test_what_is_no_answer_lists_nothing(nameserver: str, tmp_path: Path, zone: str, why: str) -> None:
    watch = Watch(nameserver, tmp_path, zone, "listing.test")
    await watch.look()
    assert [zone for zone, _ in watch.listed(ONE)] == ["listing.test"]
    assert watch.blocklists.troubles.keys() == {zone}
    assert why in watch.blocklists.troubles[zone]
    await watch.look(after=600)
    (told,) = watch.log.lines("blocklist does not answer")
    assert (told["blocklist"], why in told["error"]) == (zone, True)


async def test_a_name_without_an_address_is_not_listed(nameserver: str, tmp_path: Path) -> None:
    watch = Watch(nameserver, tmp_path, "text-only.test")
    await watch.look()
    assert (watch.listed(ONE), watch.blocklists.troubles) == ([], {})


class Changing:
    """A list whose answers a test changes. answers: records, an rcode, or None for silence."""

    def __init__(self) -> None:
        self.answers: list[str] | str | None = []
        self.asked: list[str] = []

    def __call__(self, query: dns.message.Message, tcp: bool) -> dns.message.Message | None:
        name = query.question[0].name.to_text(omit_final_dot=True)
        self.asked.append(name)
        if name.startswith("2.0.0.127.") and self.answers is not None and not isinstance(self.answers, str):
            return response(query, "60 A 127.0.0.2")
        if name.startswith("1.0.0.127."):
            return response(query, rcode="NXDOMAIN")
        if isinstance(self.answers, str):
            return response(query, rcode=self.answers)
        if self.answers is None:
            return None
        return response(query, *self.answers, rcode="NOERROR" if self.answers else "NXDOMAIN")


async def test_a_listing_goes_when_the_list_says_so_and_not_before(tmp_path: Path) -> None:
    changing = Changing()
    async with FakeDns(changing) as server:
        watch = Watch(server.address, tmp_path, "list.test", addresses=(ONE,))
        changing.answers = ["60 A 127.0.0.2"]
        await watch.look()
        for nothing in ("SERVFAIL", None, ["60 A 127.255.255.255"], ["60 A 192.0.2.1"]):
            changing.answers = nothing
            await watch.look(after=7200)
            assert watch.blocklists.of(ONE) == [Listing("list.test", ("127.0.0.2",), since=1_000_000.0)]
            assert watch.blocklists.troubles
        changing.answers = []
        await watch.look(after=7200)
        assert (watch.listed(ONE), watch.blocklists.troubles) == ([], {})
        assert len(watch.log.lines("source listed")) == len(watch.log.lines("source listed no longer")) == 1
        assert len(watch.log.lines("blocklist answers again")) == 1


async def test_what_a_failing_server_said_before_its_ttl_was_over_is_no_news(tmp_path: Path) -> None:
    changing = Changing()
    async with FakeDns(changing) as server:
        watch = Watch(server.address, tmp_path, "list.test", addresses=(ONE,))
        changing.answers = ["5 A 127.0.0.2"]
        await watch.look()
        changing.answers = "SERVFAIL"
        await watch.look(after=600)
        assert watch.blocklists.troubles == {"list.test": "its servers do not answer"}


async def test_other_codes_are_told_and_are_the_same_listing(tmp_path: Path) -> None:
    changing = Changing()
    async with FakeDns(changing) as server:
        watch = Watch(server.address, tmp_path, "list.test", addresses=(ONE,))
        changing.answers = ["60 A 127.0.0.2"]
        await watch.look()
        changing.answers = ["60 A 127.0.0.9"]
        await watch.look(after=600)
        assert watch.blocklists.of(ONE) == [Listing("list.test", ("127.0.0.9",), since=1_000_000.0)]
        assert [each["codes"] for each in watch.log.lines("source listed")] == [["127.0.0.2"], ["127.0.0.9"]]


async def test_a_list_is_asked_at_its_interval_and_at_once_for_what_is_new(tmp_path: Path) -> None:
    changing = Changing()
    async with FakeDns(changing) as server:
        watch = Watch(server.address, tmp_path, "list.test", addresses=(ONE,))
        await watch.look()
        changing.asked.clear()
        await watch.look(after=599)
        assert changing.asked == []
        await watch.look(after=1)
        assert "10.2.0.192.list.test" in changing.asked
        changing.asked.clear()
        watch.addresses.append(ipaddress.ip_address(TWO))
        watch.lists.append(Blocklist(zone="new.test"))
        await watch.look(after=1)
        assert {"11.2.0.192.list.test", "10.2.0.192.new.test", "11.2.0.192.new.test"} <= set(changing.asked)


async def test_what_relay_toml_names_no_longer_is_forgotten(nameserver: str, tmp_path: Path) -> None:
    watch = Watch(nameserver, tmp_path, "listing.test", "refusing.test")
    await watch.look()
    assert watch.listed(ONE)
    assert watch.blocklists.troubles
    watch.lists = [Blocklist(zone="clean.test")]
    await watch.look()
    assert (watch.listed(ONE), watch.blocklists.troubles) == ([], {})
    watch.lists = [Blocklist(zone="listing.test")]
    await watch.look()
    assert watch.listed(ONE)
    watch.addresses = [ipaddress.ip_address(TWO)]
    await watch.look()
    assert watch.listed(ONE) == []


def test_the_names_asked_for_are_those_of_the_rfc() -> None:
    """RFC 5782 2.1 and 2.4."""
    assert question("bad.example.com.", ipaddress.ip_address("192.0.2.99")) == "99.2.0.192.bad.example.com"
    nibbles = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"
    address = ipaddress.ip_address("2001:db8:1:2:3:4:567:89ab")
    assert question("ugly.example.com", address) == f"{nibbles}.ugly.example.com"
