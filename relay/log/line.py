"""log.line: one line's octets. Whatever the values are, the result is one line of valid JSON in UTF-8."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

# What a field may be. A secret is `bytes` or an object of ours, and is neither.
Scalar = str | int | float | bool | None | Path | ipaddress.IPv4Address | ipaddress.IPv6Address
Field = Scalar | Sequence[Scalar]

LONGEST_TEXT = 1024  # characters of one field
_MOST_ELEMENTS = 20  # of a list
_PLAIN = frozenset({int, float, bool, type(None)})
_USUAL = _PLAIN | {str}

# JSON escapes what is below U+0020. A terminal also acts on DEL and C1 (U+009B is an escape sequence's begin), and
# text can be made to read otherwise than it is by the marks of direction and the line separators (Unicode TR 36,
# 3.3).
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_ENCODER = msgspec.json.Encoder()


def encode(fields: Mapping[str, object]) -> bytes:
    """One line, ended by LF."""
    usual = _usual(fields)
    if usual:
        return usual + b"\n"
    values = {name: value if type(value) in _PLAIN else plain(value) for name, value in fields.items()}
    try:
        return _ENCODER.encode(values) + b"\n"
    except Exception:  # noqa: BLE001 - an integer of 5000 digits: the fact is worth having, whatever the value
        return _ENCODER.encode({name: _described(value) for name, value in values.items()}) + b"\n"


def _usual(fields: Mapping[str, object]) -> bytes:
    """Nearly every line: numbers and short ASCII text, in which nothing has to be made safe; b"" for the others."""
    if not _USUAL.issuperset(map(type, fields.values())):
        return b""
    try:
        line = _ENCODER.encode(fields)
    except Exception:  # noqa: BLE001 - of a number or a surrogate; the long way sees to it
        return b""
    return line if len(line) <= LONGEST_TEXT and line.isascii() and b"\x7f" not in line else b""


def plain(value: object) -> Any:
    """A value that JSON has, made safe; the name of its type for what is no `Field`."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return _safe(value)
    if isinstance(value, Path | ipaddress.IPv4Address | ipaddress.IPv6Address):
        return _safe(str(value))
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        return [plain(element) for element in value[:_MOST_ELEMENTS]]
    return _named(value)


def _described(value: object) -> str:
    return value if isinstance(value, str) else _named(value)


def _named(value: object) -> str:
    return f"<{type(value).__name__}>"


def _safe(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}... ({len(text)} characters)"
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
