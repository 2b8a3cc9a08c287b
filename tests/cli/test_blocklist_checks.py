"""cli.blocklist_checks: `relay check` tries each blocklist by the addresses that RFC 5782 gives for it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.cli.conftest import Relay
from tests.peers.dns import authoritative

TEST_SIX = "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20
ZONES = {
    "sound.test": f"2.0.0.127 A 127.0.0.2\n{TEST_SIX} A 127.0.0.2\n",
    "four.test": "2.0.0.127 A 127.0.0.2\n",
    "listing.test": "2.0.0.127 A 127.0.0.2\n10.2.0.192 A 127.0.0.4\n10.2.0.192 A 127.0.0.3\n",
    "empty.test": '@ TXT "nothing"\n',
    "given-up.test": "* A 127.0.0.2\n",
    "refusing.test": "* A 127.255.255.254\n",
}


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with authoritative(tmp_path_factory.mktemp("nsd"), ZONES) as address:
        yield address


Check = Callable[[str, Sequence[str]], dict[str, Any]]


@pytest.fixture
def check(relay: Relay, nameserver: str) -> Check:
    """What `relay check` says of a list, where we send from such addresses."""

    def found(zone: str, sources: Sequence[str]) -> dict[str, Any]:
        tables = "".join(f'[[source]]\naddress = "{each}"\nhostname = "mx.relay.example.com"\n' for each in sources)
        dns = f'[dns]\nnameservers = ["{nameserver}"]\ntimeout = "1s"\n'
        relay.configure(f'{dns}{tables}[[blocklist]]\nzone = "{zone}"\n')
        answer = relay("check", "--json")
        (finding,) = [each for each in answer.json["findings"] if each["subject"] == "blocklist"]
        return dict(finding)

    return found


@pytest.mark.parametrize(
    ("zone", "sources", "grade", "text"),
    [
        pytest.param("sound.test", ["192.0.2.10"], "ok", "lists none of our addresses", id="a list in service"),
        pytest.param("sound.test", ["2001:db8::10"], "ok", "lists none of our addresses", id="... for IPv6"),
        pytest.param(
            "listing.test",
            ["192.0.2.10", "192.0.2.11"],
            "warning",
            "lists 192.0.2.10 (127.0.0.3, 127.0.0.4)",
            id="one of our addresses",
        ),
        pytest.param("empty.test", ["192.0.2.10"], "warning", "does not list 127.0.0.2", id="a list of nothing"),
        pytest.param(
            "four.test",
            ["2001:db8::10"],
            "warning",
            "has no IPv6 addresses, and some of ours are",
            id="a list without IPv6",
        ),
        pytest.param(
            "given-up.test", ["192.0.2.10"], "warning", "lists 127.0.0.1, and so everything", id="a list of everything"
        ),
        pytest.param(
            "refusing.test", ["192.0.2.10"], "warning", "it refuses our resolver", id="a list that refuses us"
        ),
        pytest.param("gone.invalid", ["192.0.2.10"], "warning", "says nothing: A of", id="a list that is not there"),
    ],
)
def test_a_list_is_tried_before_it_is_relied_on(
    check: Check, zone: str, sources: list[str], grade: str, text: str
) -> None:
    found = check(zone, sources)
    assert found["grade"] == grade
    assert text in found["text"]
    assert bool(found["remedy"]) == (grade == "warning")
