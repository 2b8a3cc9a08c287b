"""The PROXY protocol's header, by table, by pieces and by any octets."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.proxy import ProxyError, ProxyHeader, ProxyReader

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
IPV4 = ipaddress.ip_address("192.0.2.1").packed + ipaddress.ip_address("198.51.100.2").packed + b"\x10\x00\x02\x4b"
IPV6 = ipaddress.ip_address("2001:db8::1").packed + ipaddress.ip_address("2001:db8::2").packed + b"\x10\x00\x02\x4b"


def v2(addresses: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(addresses)) + addresses


def read(pieces: list[bytes]) -> tuple[ProxyHeader | None, int]:
    """(header, octets taken of all)."""
    reader, taken = ProxyReader(), 0
    for piece in pieces:
        header, length = reader.feed(piece)
        taken += length
        if header is not None:
            return header, taken
        assert length == len(piece)
    return None, taken


@pytest.mark.parametrize(
    ("octets", "source"),
    [
        pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.2 1024 587\r\n", "192.0.2.1", id="v1, IPv4"),
        pytest.param(b"PROXY TCP6 2001:db8::1 2001:db8::2 1024 587\r\n", "2001:db8::1", id="v1, IPv6"),
        pytest.param(b"PROXY UNKNOWN\r\n", "", id="v1, unknown"),
        pytest.param(b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", "", id="v1, unknown with words"),
        pytest.param(v2(IPV4), "192.0.2.1", id="v2, IPv4"),
        pytest.param(v2(IPV6, family=0x21), "2001:db8::1", id="v2, IPv6"),
        pytest.param(v2(IPV4 + b"\x04\x00\x02ab"), "192.0.2.1", id="v2, with a type-length-value"),
        pytest.param(v2(b"", command=0x20, family=0), "", id="v2, LOCAL"),
        pytest.param(v2(IPV4, command=0x20), "", id="v2, LOCAL with addresses that do not count"),
        pytest.param(v2(b"", family=0), "", id="v2, unspecified"),
    ],
)
def test_headers(octets: bytes, source: str) -> None:
    assert read([octets + b"EHLO"]) == (ProxyHeader(source), len(octets))
    assert read([octets[at : at + 1] for at in range(len(octets))]) == (ProxyHeader(source), len(octets))


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"EHLO client\r\n", id="SMTP"),
        pytest.param(b"\x16\x03\x01", id="TLS"),
        pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.2 1024 70000\r\n", id="a port that is none"),
        pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.2 01024 587\r\n", id="a port with a zero before it"),
        pytest.param(b"PROXY TCP4 192.0.2.999 198.51.100.2 1 2\r\n", id="an address that is none"),
        pytest.param(b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", id="an address of the other family"),
        pytest.param(b"PROXY TCP4 192.0.2.1\r\n", id="too few words"),
        pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n", id="too many words"),
        pytest.param(b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n", id="a bare LF"),
        pytest.param(b"PROXY TCP4 192.0.2.1  198.51.100.2 1 2\r\n", id="two spaces"),
        pytest.param(b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n", id="UDP"),
        pytest.param(b"PROXY " + b"x" * 200, id="a line without end"),
        pytest.param(SIGNATURE[:-1] + b"X", id="nearly the signature"),
        pytest.param(v2(IPV4, command=0x11), id="v2 of another version"),
        pytest.param(v2(IPV4, command=0x22), id="v2 with another command"),
        pytest.param(v2(IPV4, family=0x12), id="v2 over UDP"),
        pytest.param(v2(b"/path", family=0x31), id="v2 over a Unix socket"),
        pytest.param(v2(IPV4[:8]), id="v2, too short for its family"),
        pytest.param(SIGNATURE + b"\x21\x11\xff\xff", id="v2, longer than anybody's"),
    ],
)
def test_what_is_no_header(octets: bytes) -> None:
    with pytest.raises(ProxyError):
        read([octets])
    with pytest.raises(ProxyError):
        read([octets[at : at + 1] for at in range(len(octets))])


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"PRO", id="a beginning of v1"),
        pytest.param(SIGNATURE, id="a beginning of v2"),
        pytest.param(v2(IPV4)[:-1], id="all but one octet"),
    ],
)
def test_what_may_become_one(octets: bytes) -> None:
    assert read([octets]) == (None, len(octets))


@given(octets=st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: SIGNATURE + rest))
def test_any_octets_are_a_header_or_refused_and_never_too_many_taken(octets: bytes) -> None:
    try:
        header, taken = read([octets])
    except ProxyError:
        return
    assert taken <= len(octets)
    if header is not None and header.source:
        ipaddress.ip_address(header.source)
