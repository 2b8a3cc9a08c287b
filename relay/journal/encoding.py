"""journal.encoding: an event as a row of a day file and back.

The event itself is one msgpack array of its fields in the order they are declared: a field may be added at the end (an
older event then has its default), never moved or removed without a new version of the schema. Beside it stand, as text,
the few values a search asks for, spelled so that equal things are equal text.
"""

from collections.abc import Sequence

import msgspec

from relay.mail.address import AddressError, ascii_domain
from relay.mail.event import Event, Kind

SEGMENT_BITS = 13

Value = str | int | float | bytes

COLUMNS = "id, segment, sequence, at, kind, message, sender, recipient, credential, header_message_id, event"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Event).decode


def row(number: int, sequence: int, event: Event) -> tuple[Value, ...]:
    """The values of COLUMNS. number: the row's id."""
    return (
        *(number, number >> SEGMENT_BITS, sequence, event.at, event.kind.value, event.message),
        *(address_key(event.sender), address_key(event.recipient), event.credential),
        *(bare(event.header_message_id) if event.kind is Kind.ACCEPTED else "", _encode(event)),
    )


def decode(octets: bytes) -> Event:
    """Raises ValueError for what is no event."""
    try:
        return _decode(octets)
    except msgspec.DecodeError as error:
        raise ValueError(f"it is no event: {error}") from error


def address_key(address: str) -> str:
    """`Ann@example.com` → `example.com@Ann`, the domain in lower-case A-labels. An empty one stays empty."""
    if not address:
        return ""
    local, _, domain = address.rpartition("@")
    return f"{domain_key(domain)}@{local}"


def domain_key(domain: str) -> str:
    lowered = domain.lower()
    try:
        return lowered if lowered.isascii() else ascii_domain(lowered)
    except AddressError:
        return lowered


def key_range(pattern: str) -> tuple[str, str]:
    """The least key of an address, or of "@domain", and the least key beyond."""
    if pattern.startswith("@"):
        domain = domain_key(pattern[1:])
        return f"{domain}@", f"{domain}A"  # "A" follows "@"
    key = address_key(pattern)
    return key, f"{key}\0"


def bare(header_message_id: str) -> str:
    """A Message-ID without white space around it and without its angle brackets."""
    return header_message_id.strip().removeprefix("<").removesuffix(">")


def placeholders(rows: int) -> str:
    """For an INSERT of so many rows."""
    one = ",".join("?" for _ in COLUMNS.split(","))
    return ",".join([f"({one})"] * rows)


def flattened(rows: Sequence[tuple[Value, ...]]) -> list[Value]:
    return [value for each in rows for value in each]
