import ipaddress

import pytest

from relay.delivery.dialling import refusal

OWN = frozenset({ipaddress.ip_address("203.0.113.7")})
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        pytest.param("8.8.8.8", "", id="a public address may be dialled"),
        pytest.param("2a00:1450:4001::1", "", id="a public IPv6 address may be dialled"),
        pytest.param("127.0.0.1", "loopback", id="loopback may not"),
        pytest.param("::1", "loopback", id="IPv6 loopback may not"),
        pytest.param("10.1.2.3", "private", id="RFC 1918 may not"),
        pytest.param("192.168.0.1", "private", id="nor may 192.168"),
        pytest.param("fd00::1", "private", id="nor unique local IPv6"),
        pytest.param("169.254.169.254", "link-local", id="nor a cloud's metadata address"),
        pytest.param("fe80::1", "link-local", id="nor IPv6 link-local"),
        pytest.param("100.64.1.1", "carrier-grade", id="nor CGNAT"),
        pytest.param("224.0.0.1", "multicast", id="nor multicast"),
        pytest.param("ff02::1", "multicast", id="nor IPv6 multicast"),
        pytest.param("0.0.0.0", "unspecified", id="nor the unspecified address, which Linux takes for itself"),
        pytest.param("::", "unspecified", id="nor the IPv6 one"),
        pytest.param("255.255.255.255", "reserved", id="nor broadcast"),
        pytest.param("203.0.113.7", "own", id="nor an address of this machine"),
        pytest.param("::ffff:127.0.0.1", "loopback", id="nor loopback mapped into IPv6"),
        pytest.param("::ffff:203.0.113.7", "own", id="nor our own address mapped into IPv6"),
        pytest.param("64:ff9b::7f00:1", "loopback", id="nor loopback behind NAT64"),
        pytest.param("64:ff9b::a00:1", "private", id="nor a private address behind NAT64"),
        pytest.param("64:ff9b::808:808", "", id="a public address behind NAT64 may be dialled"),
        pytest.param("2002:7f00:1::1", "loopback", id="nor loopback in 6to4"),
        pytest.param("fec0::1", "site-local", id="nor site-local IPv6"),
    ],
)
def test_what_may_be_dialled(address: str, reason: str) -> None:
    said = refusal(ipaddress.ip_address(address), allowed=(), own=OWN)
    assert reason in said if reason else said == ""


def test_an_operator_may_allow_a_network() -> None:
    assert refusal(ipaddress.ip_address("127.0.0.9"), allowed=LOOPBACK, own=frozenset()) == ""
    assert "allow_networks" in refusal(ipaddress.ip_address("10.0.0.9"), allowed=LOOPBACK, own=frozenset())
