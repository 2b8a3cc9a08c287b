"""submission.proxy: the PROXY protocol's header, versions 1 and 2, by which a proxy says whose connection it passes on.

It is believed from configured networks only, and there it is required: who may speak it may claim any address, and a
proxy that does not speak it would make all its clients one. It comes before anything else, before TLS too, and may
share a segment with what follows; so `ProxyReader` says how many octets are its own, and never takes one more.

A header without addresses (version 1 UNKNOWN, version 2 LOCAL, a health check) leaves the proxy's own address. What is
malformed raises `ProxyError`, and the connection is closed without a word (the specification's section 2).
"""

import ipaddress
import re
from dataclasses import dataclass

V1_LIMIT = 107  # octets, with CRLF
V2_LIMIT = 4096  # octets of addresses and of type-length-values, of which we use none
_V1 = b"PROXY "
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED = 16
_NUMBER = rb"(?:0|[1-9]\d{0,4})"
_V1_LINE = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (%b) (%b)\r\n" % (_NUMBER, _NUMBER))
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_TCP4, _TCP6, _UNSPECIFIED = 0x11, 0x21, 0x00


class ProxyError(ValueError):
    """What came is no PROXY header; the text says why."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """source: the client's IP address, "" where the header names none."""

    source: str


class ProxyReader:
    """One header, in whatever pieces it comes."""

    __slots__ = ("_octets",)

    def __init__(self) -> None:
        self._octets = b""

    def feed(self, data: bytes) -> tuple[ProxyHeader | None, int]:
        """(the header once it is complete, how many octets of `data` are the header's). Raises ProxyError."""
        whole = self._octets + data
        length = _length(whole)
        if length is None or len(whole) < length:
            self._octets = whole
            return None, len(data)
        return _parse(whole[:length]), length - len(self._octets)


def _length(octets: bytes) -> int | None:
    """Octets of the header, None when too little has come to say. Raises ProxyError."""
    if octets[:1] == _V1[:1]:
        return _v1_length(octets)
    if octets[: len(_V2)] != _V2[: len(octets)]:
        raise ProxyError("no PROXY header")
    if len(octets) < _V2_FIXED:
        return None
    rest = int.from_bytes(octets[14:16], "big")
    if rest > V2_LIMIT:
        raise ProxyError(f"a PROXY header of {rest} octets")
    return _V2_FIXED + rest


def _v1_length(octets: bytes) -> int | None:
    if octets[: len(_V1)] != _V1[: len(octets)]:
        raise ProxyError("no PROXY header")
    end = octets.find(b"\n", 0, V1_LIMIT)
    if end < 0 and len(octets) >= V1_LIMIT:
        raise ProxyError("a PROXY line without an end")
    return end + 1 if end >= 0 else None


def _parse(octets: bytes) -> ProxyHeader:
    return _parse_v2(octets) if octets.startswith(_V2) else _parse_v1(octets)


def _parse_v1(line: bytes) -> ProxyHeader:
    if _V1_UNKNOWN.fullmatch(line):
        return ProxyHeader("")
    match = _V1_LINE.fullmatch(line)
    if match is None or max(int(match[4]), int(match[5])) > 65535:
        raise ProxyError("a malformed PROXY line")
    family = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = family(match[2].decode()), family(match[3].decode())
    except ValueError:
        raise ProxyError("a PROXY line with an address that is none") from None
    return ProxyHeader(str(source))


def _parse_v2(octets: bytes) -> ProxyHeader:
    version, command = divmod(octets[12], 16)
    if version != 2 or command > 1:
        raise ProxyError("an unknown version or command of a PROXY header")
    family = octets[13]
    if command == 0 or family == _UNSPECIFIED:
        return ProxyHeader("")
    if family == _TCP4 and len(octets) >= _V2_FIXED + 12:
        return ProxyHeader(str(ipaddress.IPv4Address(octets[16:20])))
    if family == _TCP6 and len(octets) >= _V2_FIXED + 36:
        return ProxyHeader(str(ipaddress.IPv6Address(octets[16:32])))
    raise ProxyError("a PROXY header that is neither TCP over IPv4 nor over IPv6, or too short for it")
