"""mail.encoded_word: RFC 2047 text decoded for display, in the journal and on the terminal.

Display only: nothing is decided on what comes out. It never fails: what cannot be decoded stays as it was written. The
work and the result are bounded, and control characters, also decoded ones, are escaped.
"""

import binascii
import re

from relay.mail.reply import escape

READ_LIMIT = 4096  # characters looked at
SHOWN_LIMIT = 500

_WORD = re.compile(r"=\?([^?\s]{1,40}+)\?([bBqQ])\?([^?\s]*+)\?=")
_BETWEEN = re.compile(r"(?<=\?=)[ \t]++(?==\?)")  # RFC 2047 6.2: white space between encoded words is not shown
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")

# A codec's name comes from the message, and Python's codecs include more than character sets: only these are used.
_CHARSET = re.compile(
    r"us-ascii|utf-?8|iso-8859-\d{1,2}|windows-125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|euc-(?:jp|kr)|iso-2022-jp"
    r"|shift_jis|tis-620"
)


def decode(text: str) -> str:
    """`text` (an unfolded header value) as a person would read it, at most SHOWN_LIMIT characters."""
    text = text[:READ_LIMIT].replace("\t", " ")  # a fold may have left a tab
    shown = escape(_decode_words(text) if "=?" in text else text)
    return shown if len(shown) <= SHOWN_LIMIT else shown[: SHOWN_LIMIT - 1] + "…"


def _decode_words(text: str) -> str:
    parts: list[str] = []
    position, charset, octets = 0, "", b""
    for match in _WORD.finditer(_BETWEEN.sub("", text)):
        plain = match.string[position : match.start()]
        # Words of one charset with nothing between are joined before decoding: many cut within a character.
        if plain or match[1].lower() != charset:
            parts += (_text(octets, charset), plain)
            charset, octets = match[1].lower(), b""
        octets += _octets(match[2], match[3])
        position = match.end()
    return "".join((*parts, _text(octets, charset), _BETWEEN.sub("", text)[position:]))


def _octets(encoding: str, payload: str) -> bytes:
    raw = payload.encode("utf-8", "surrogateescape")
    if encoding in "qQ":
        return _HEX.sub(lambda match: bytes.fromhex(match[1].decode()), raw.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except binascii.Error:
        return raw


def _text(octets: bytes, charset: str) -> str:
    name = charset.partition("*")[0]  # RFC 2231 5: a language may follow
    if _CHARSET.fullmatch(name) is None:
        return octets.decode("ascii", "backslashreplace")
    try:
        return octets.decode(name, "replace")
    except LookupError:  # iso-8859-99
        return octets.decode("ascii", "backslashreplace")
