"""Which listeners there are, and which trusted ones are refused before anything starts."""

from ipaddress import ip_network

import pytest

from relay.config.models import Submission, Trusted
from relay.errors import ConfigError
from relay.submission.listener import Kind, check_trusted, listeners


def trusted(listen: str, *networks: str, behind_nat: str = "refused") -> Trusted:
    return Trusted.model_validate(
        {"listen": listen, "networks": networks, "credential": "local", "behind_nat": behind_nat}
    )


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(trusted("127.0.0.1:2525", "127.0.0.0/8"), id="loopback"),
        pytest.param(trusted("[::1]:2525", "::1/128"), id="IPv6 loopback"),
        pytest.param(trusted("127.0.0.1:2525", "10.1.0.0/16"), id="a private /16 behind a loopback listener"),
        pytest.param(trusted("0.0.0.0:2525", "10.1.0.0/16", behind_nat="accepted"), id="a private /16, accepted"),
        pytest.param(trusted("[::]:2525", "fd00:1:2::/48", behind_nat="accepted"), id="a private IPv6 /48, accepted"),
        pytest.param(trusted("0.0.0.0:2525", "100.64.3.0/24", behind_nat="accepted"), id="carrier-grade NAT, accepted"),
    ],
)
def test_what_may_be_trusted(table: Trusted) -> None:
    check_trusted(table)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        pytest.param(trusted("127.0.0.1:2525", "8.8.8.0/24"), "public network", id="a public network"),
        pytest.param(trusted("127.0.0.1:2525", "0.0.0.0/0"), "public network", id="everybody"),
        pytest.param(trusted("127.0.0.1:2525", "::/0"), "public network", id="everybody by IPv6"),
        pytest.param(trusted("127.0.0.1:2525", "2001:4860::/48"), "public network", id="a public IPv6 network"),
        pytest.param(trusted("127.0.0.1:2525", "10.0.0.0/8"), "wider than /16", id="a wide private network"),
        pytest.param(trusted("127.0.0.1:2525", "fd00::/8"), "wider than /48", id="a wide private IPv6 network"),
        pytest.param(trusted("127.0.0.1:2525", "127.0.0.0/8", "8.8.8.8/32"), "public", id="one public among good ones"),
        pytest.param(trusted("0.0.0.0:2525", "10.1.0.0/16"), "not on loopback", id="off loopback and not accepted"),
        pytest.param(trusted("192.168.1.2:2525", "127.0.0.0/8"), "not on loopback", id="... for loopback networks too"),
    ],
)
def test_what_is_refused_says_what_and_what_to_do(table: Trusted, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as refused:
        listeners(Submission(trusted=(table,)))
    assert refused.value.remedy


def test_all_listeners_in_the_order_of_the_configuration() -> None:
    table = trusted("127.0.0.1:2525", "127.0.0.0/8")
    found = listeners(Submission(starttls=("127.0.0.1:587", "[::1]:587"), tls=("127.0.0.1:465",), trusted=(table,)))
    assert [(each.kind, each.listen) for each in found] == [
        (Kind.STARTTLS, "127.0.0.1:587"),
        (Kind.STARTTLS, "[::1]:587"),
        (Kind.TLS, "127.0.0.1:465"),
        (Kind.TRUSTED, "127.0.0.1:2525"),
    ]
    assert found[3].trusted is not None and found[3].trusted.networks == (ip_network("127.0.0.0/8"),)
