"""mail.eightbit: a message with 8-bit content made 7-bit, part by part (RFC 6152 3, RFC 2045 6).

For credentials with `encode_8bit`, done before signing (RFC 6376 5.3): then no server on the way has to convert, which
would break the signature, and a server without 8BITMIME is no reason to bounce. Parts become quoted-printable or
base64, what is 7-bit already is not touched, to the octet. Linear, some 10 ms per MB: large bodies are a thread's work.

Left 8-bit, and so for the caller to see: what multipart/signed covers (RFC 1847 2.1 forbids to
alter it), parts whose MIME structure cannot be read or nests deeper than DEPTH_LIMIT, and parts that claim an encoding
which their octets contradict. Header fields are not converted: RFC 6152 speaks of bodies.
"""

import base64
import binascii
import re
from collections.abc import Iterator

from relay.mail.message import Field, Header, read_fields, split_content

DEPTH_LIMIT = 10

_TYPE = re.compile(rb"[ \t]*([!-.0-:<-~]+/[!-.0-:<-~]+)[ \t]*(?:;|$)")
_BOUNDARY = re.compile(rb';[ \t]*boundary[ \t]*=[ \t]*(?:"([^"\\]{1,70})"|([^\s;"()]{1,70}))', re.IGNORECASE)
_IDENTITY = frozenset({b"", b"7bit", b"8bit", b"binary"})
_ASCII = bytes(range(128))

_Entity = tuple[tuple[Field, ...], bytes]


def encode_8bit(header: Header, body: bytes) -> tuple[Header, bytes]:
    """The same message with as little 8-bit content as can be; unchanged when there is none. body: CRLF line ends."""
    if body.isascii():
        return header, body
    fields, encoded = _encode(_with_mime(header.fields, body), body, b"text/plain", 0)
    if encoded is body:
        return header, body
    if body.endswith(b"\r\n") and not encoded.endswith(b"\r\n"):
        encoded += b"\r\n"
    return Header(fields, header.from_addresses, header.sender_addresses, header.resent_addresses), encoded


def _with_mime(fields: tuple[Field, ...], body: bytes) -> tuple[Field, ...]:
    """A message without MIME gets what says how to read an encoded body; RFC 1428 3 for octets of unknown meaning."""
    names = [field.name for field in fields]
    if b"mime-version" not in names:
        fields += (Field(b"mime-version", b"MIME-Version: 1.0\r\n"),)
    if b"content-type" not in names:
        charset = b"utf-8" if _is_utf8(body) else b"unknown-8bit"
        fields += (Field(b"content-type", b"Content-Type: text/plain; charset=" + charset + b"\r\n"),)
    return fields


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _encode(fields: tuple[Field, ...], body: bytes, default_type: bytes, depth: int) -> _Entity:
    """One entity (RFC 2045 2.4) made 7-bit; the very same objects when it is or has to stay as it is."""
    if body.isascii() or depth > DEPTH_LIMIT:
        return fields, body
    content_type = _body_of(fields, b"content-type")
    kind = _TYPE.match(content_type)
    name = kind[1].lower() if kind else b"" if content_type else default_type
    if _body_of(fields, b"content-transfer-encoding").lower() not in _IDENTITY or not name:
        return fields, body
    if name.startswith(b"multipart/"):
        return _encode_multipart(fields, body, name, depth)
    if name == b"message/rfc822":
        inner = _encode_part(body, b"text/plain", depth + 1)
        return (fields, body) if inner is body else (_with_encoding(fields, b"7bit"), inner)
    if name.startswith(b"message/"):  # RFC 2046 5.2: no other encoding than 7bit for them
        return fields, body
    return _encode_leaf(fields, body, is_text=name.startswith(b"text/"))


def _encode_leaf(fields: tuple[Field, ...], body: bytes, *, is_text: bool) -> _Entity:
    if is_text and len(body.translate(None, _ASCII)) * 3 < len(body):
        return _with_encoding(fields, b"quoted-printable"), _quoted_printable(body)
    return _with_encoding(fields, b"base64"), _base64(body)


def _encode_multipart(fields: tuple[Field, ...], body: bytes, name: bytes, depth: int) -> _Entity:
    boundary = _BOUNDARY.search(_body_of(fields, b"content-type"))
    if name == b"multipart/signed" or boundary is None:
        return fields, body
    default_type = b"message/rfc822" if name == b"multipart/digest" else b"text/plain"  # RFC 2046 5.1.5
    pieces: list[bytes] = []
    position, in_part = 0, False
    for start, end, is_last in _delimiters(body, b"--" + (boundary[1] or boundary[2])):
        pieces += (_piece(body[position:start], default_type, depth, in_part=in_part), body[start:end])
        position, in_part = end, not is_last
        if is_last:
            break
    pieces.append(_piece(body[position:], default_type, depth, in_part=in_part))
    encoded = b"".join(pieces)
    return (fields, body) if encoded == body else (_with_encoding(fields, b"7bit"), encoded)


def _delimiters(body: bytes, dashed: bytes) -> Iterator[tuple[int, int, bool]]:
    """Start and end (with its CRLF) of each delimiter line, and whether it is the closing one (RFC 2046 5.1.1)."""
    position = body.find(dashed)
    while position >= 0:
        if body[position - 1 : position] in (b"", b"\n"):  # b"" at the very start
            end = body.find(b"\n", position) + 1 or len(body)
            after = body[position + len(dashed) : end].rstrip(b" \t\r\n")
            if after in (b"", b"--"):
                yield position, end, after == b"--"
        position = body.find(dashed, position + len(dashed))


def _piece(octets: bytes, default_type: bytes, depth: int, *, in_part: bool) -> bytes:
    """A body part; or what stands before the first or after the last, which readers drop (RFC 2046 5.1.1)."""
    if not in_part:
        return octets if octets.isascii() else b""
    content = octets.removesuffix(b"\r\n")  # the CRLF before a delimiter belongs to the delimiter
    return _encode_part(content, default_type, depth + 1) + octets[len(content) :]


def _encode_part(octets: bytes, default_type: bytes, depth: int) -> bytes:
    """A whole entity, header and body; the very same object when it stays as it is."""
    if octets.isascii():
        return octets
    header, body = split_content(octets)
    fields = read_fields(header)
    if fields is None:
        return octets
    encoded_fields, encoded = _encode(fields, body, default_type, depth)
    if encoded is body:
        return octets
    return b"".join([field.raw for field in encoded_fields]) + b"\r\n" + encoded


def _body_of(fields: tuple[Field, ...], name: bytes) -> bytes:
    return next((field.body for field in fields if field.name == name), b"")


def _with_encoding(fields: tuple[Field, ...], encoding: bytes) -> tuple[Field, ...]:
    name = b"content-transfer-encoding"
    others = tuple([field for field in fields if field.name != name])
    return (*others, Field(name, b"Content-Transfer-Encoding: " + encoding + b"\r\n"))


def _quoted_printable(body: bytes) -> bytes:
    # b2a_qp writes soft line breaks in the style of the first line end it meets, and LF when it meets none.
    return binascii.b2a_qp(body.replace(b"\r\n", b"\n"), istext=True).replace(b"\n", b"\r\n")


def _base64(body: bytes) -> bytes:
    return base64.encodebytes(body).rstrip(b"\n").replace(b"\n", b"\r\n")
