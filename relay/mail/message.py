"""mail.message: a message's header, parsed once for policy, completion and signing.

`parse_header` takes the octets before the empty line and gives a `Header`, or raises `HeaderRefused` with the 550 to
send (RFC 6409 8 lets a submission server refuse): a control character, a line that is no field, two of a field that
may occur once, an author that two readers could read differently, too many Received. A field's octets are never
altered; a message leaves with the fields it came with, but for those that `complete` drops (Bcc, Resent-Bcc,
Return-Path, Relay-Expires) and adds (Received; Date and Message-ID when missing, RFC 6409 8.2, 8.3).

Octets over 127 are let through in values, as many clients write them without SMTPUTF8, never in a field's name.
All is linear in the header's length, and for a usual header done by a handful of calls into C.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from relay.mail import encoded_word
from relay.mail.address import AddressError
from relay.mail.date import format_date
from relay.mail.mailboxes import parse_mailboxes
from relay.mail.reply import Reply, escape

SIZE_LIMIT = 256 * 1024  # octets of header
RECEIVED_LIMIT = 100  # RFC 5321 6.3
_USUAL_LENGTH = 256  # octets of a From field; what a longer one says is not remembered

# RFC 5322 3.6 has more fields that may occur once; with these five, who takes the first and who takes the last see
# different authors, subjects or messages.
_ONCE = (b"from", b"sender", b"date", b"message-id", b"subject")
# RFC 5322 3.6.3: blind. RFC 5321 4.4: Return-Path is added at final delivery. Relay-Expires is for us.
_DROPPED = frozenset({b"bcc", b"resent-bcc", b"return-path", b"relay-expires"})

# One field with its folds. Anchored to line starts, so that what is no field costs one look per line.
_FIELD = re.compile(rb"^(([!-9;-~]++):[^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+\r\n)", re.MULTILINE)
_NOT_CONTROL = bytes(octet for octet in range(256) if octet in b"\t\r\n" or not (octet < 32 or octet == 127))
_NAME = re.compile(rb"[!-9;-~]++")

_DURATION = re.compile(r"([0-9]{1,9})\s?(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class HeaderRefused(ValueError):
    """The message cannot be taken; `reply` says which line or field, and why, and is sent as it is."""

    def __init__(self, text: str, *, status: str = "5.6.0") -> None:
        super().__init__(text)
        self.reply = Reply(550, status, text)


class Field(NamedTuple):
    """One field: the name in lower case; all its octets as they came, folds and final CRLF included.

    A named tuple, not a dataclass, because a pair is what the signer takes, and one is made for every field of a
    message.
    """

    name: bytes
    raw: bytes

    @property
    def body(self) -> bytes:
        """What follows the colon, unfolded (RFC 5322 2.2.3), without the white space round it."""
        return self.raw[len(self.name) + 1 :].replace(b"\r\n", b"").strip(b" \t")

    @property
    def value(self) -> str:
        """`body` as text; octets that are not UTF-8 become lone surrogates."""
        return self.body.decode("utf-8", "surrogateescape")


class Header(Struct, frozen=True):
    """A header that may be sent. The addresses are canonical; resent_addresses has those of every Resent-From and
    -Sender.

    There is at least one From address, and one Sender address if there is more than one From address.
    """

    fields: tuple[Field, ...]
    from_addresses: tuple[str, ...]
    sender_addresses: tuple[str, ...] = ()
    resent_addresses: tuple[str, ...] = ()

    def first(self, name: bytes) -> Field | None:
        """name: in lower case."""
        for field in self.fields:
            if field.name == name:
                return field
        return None

    def all(self, name: bytes) -> tuple[Field, ...]:
        """name: in lower case."""
        return tuple(field for field in self.fields if field.name == name)

    def encode(self) -> bytes:
        """The head of the message: all fields and the empty line."""
        return b"".join([field.raw for field in self.fields]) + b"\r\n"

    @property
    def subject(self) -> str:
        """For display: decoded (RFC 2047), cut to a bounded length, control characters escaped; "" when there is
        none.
        """
        return encoded_word.decode(_text_of(self.first(b"subject")))

    @property
    def message_id(self) -> str:
        """As it stands in the field, for display and search: cut and escaped; "" when there is none."""
        return escape(_text_of(self.first(b"message-id"))[:998])


def _text_of(field: Field | None) -> str:
    return "" if field is None else field.body.decode("utf-8", "backslashreplace")


def split_content(data: bytes) -> tuple[bytes, bytes]:
    """The header, every line of it ended by CRLF, and the body. The first empty line divides; without one, all is
    header.
    """
    if data.startswith(b"\r\n"):
        return b"", data[2:]
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return (data if data.endswith(b"\r\n") or not data else data + b"\r\n"), b""
    return data[: end + 2], data[end + 4 :]


def parse_header(header: bytes, *, size_limit: int = SIZE_LIMIT, received_limit: int = RECEIVED_LIMIT) -> Header:
    """header: all octets before the empty line, each line ended by CRLF. received_limit: at least 1. Raises
    HeaderRefused.
    """
    if len(header) > size_limit:
        raise HeaderRefused(f"The header is larger than {size_limit} octets")
    fields = read_fields(header)
    if fields is None:
        raise _no_field(header)
    names = [field.name for field in fields]
    if len(set(names)) < len(names):
        _check_repeated(names, received_limit)
    if b"from" not in names:
        raise HeaderRefused("There is no From field")
    authors = _addresses(fields[names.index(b"from")])
    sender = _addresses(fields[names.index(b"sender")]) if b"sender" in names else ()
    _check_authors(authors, sender, has_sender=b"sender" in names)
    return Header(fields, authors, sender, _resent_addresses(fields))


def read_fields(header: bytes) -> tuple[Field, ...] | None:
    """The fields, which together are all of `header`; None when a line is none or a control character stands in one."""
    found = _FIELD.findall(header)
    if header.translate(None, _NOT_CONTROL) or sum([len(raw) for raw, _ in found]) != len(header):
        return None
    return tuple([Field(name.lower(), raw) for raw, name in found])


def _check_repeated(names: list[bytes], received_limit: int) -> None:
    for name in _ONCE:
        if names.count(name) > 1:
            raise HeaderRefused(f"There is more than one {_title(name)} field")
    if names.count(b"received") > received_limit:
        raise HeaderRefused(
            f"There are more than {received_limit} Received fields: the message is in a loop", status="5.4.6"
        )


def _no_field(header: bytes) -> HeaderRefused:
    """What is wrong with the first line that is wrong."""
    *lines, rest = header.split(b"\r\n")
    for number, line in enumerate((*lines, rest) if rest else lines, 1):
        fault = _fault(line, is_first=number == 1)
        if fault:
            shown = line[:60].decode("utf-8", "backslashreplace")
            return HeaderRefused(f'Line {number} of the header {fault}: "{shown}"')
    return HeaderRefused("The last line of the header does not end in CRLF")


def _fault(line: bytes, *, is_first: bool) -> str:
    if b"\0" in line:
        return "has a NUL"
    if b"\r" in line or b"\n" in line:
        return "has a CR or LF alone"
    if line.translate(None, _NOT_CONTROL):
        return "has a control character"
    if line[:1] in (b" ", b"\t"):
        return "continues a field, but there is none before it" if is_first else ""
    name, colon, _ = line.partition(b":")
    if colon and name != name.rstrip(b" \t"):
        return "has white space before the colon"
    return "" if colon and _NAME.fullmatch(name) else "is no header field"


def _title(name: bytes) -> str:
    return name.decode().title().replace("-Id", "-ID")


def _addresses(field: Field) -> tuple[str, ...]:
    return _addresses_once(field) if len(field.raw) <= _USUAL_LENGTH else _read_addresses(field)


def _read_addresses(field: Field) -> tuple[str, ...]:
    try:
        return parse_mailboxes(field.value)
    except AddressError as error:
        raise HeaderRefused(f"The {_title(field.name)} field cannot be read: {error}") from None


# A memory of results only: an application writes few From fields. Bounded in both ways, 256 of 256 octets.
_addresses_once = lru_cache(maxsize=256)(_read_addresses)


def _check_authors(authors: tuple[str, ...], sender: tuple[str, ...], *, has_sender: bool) -> None:
    if not authors:
        raise HeaderRefused("The From field has no address")
    if has_sender and len(sender) != 1:
        raise HeaderRefused("The Sender field must have exactly one address")  # RFC 5322 3.6.2
    if len(authors) > 1 and not has_sender:
        raise HeaderRefused("The From field has several addresses and there is no Sender field")  # RFC 5322 3.6.2


def _resent_addresses(fields: tuple[Field, ...]) -> tuple[str, ...]:
    return tuple(
        [
            address
            for field in fields
            if field.name in (b"resent-from", b"resent-sender")
            for address in _addresses(field)
        ]
    )


def complete(header: Header, *, received: bytes, now: float, hostname: str, message_id_token: str) -> Header:
    """The header as it is signed and sent. received: our Received field, CRLF included. now: POSIX seconds."""
    names = {field.name for field in header.fields}
    fields = [Field(b"received", received), *header.fields]
    if not names.isdisjoint(_DROPPED):
        fields = [field for field in fields if field.name not in _DROPPED]
    if b"date" not in names:
        fields.append(Field(b"date", b"Date: " + format_date(now).encode() + b"\r\n"))
    if b"message-id" not in names:
        fields.append(Field(b"message-id", f"Message-ID: <{message_id_token}@{hostname}>\r\n".encode()))
    return Header(tuple(fields), header.from_addresses, header.sender_addresses, header.resent_addresses)


def relay_expires(header: Header) -> float | None:
    """Seconds after which the message is worthless, from `Relay-Expires: 10m`; None without one. Raises
    HeaderRefused.
    """
    fields = header.all(b"relay-expires")
    if not fields:
        return None
    match = _DURATION.fullmatch(fields[0].value)
    if len(fields) > 1 or match is None or not int(match[1]):
        raise HeaderRefused('Relay-Expires must be one duration, such as "90s", "10m", "4h" or "2d"')
    return int(match[1]) * _SECONDS[match[2]]
