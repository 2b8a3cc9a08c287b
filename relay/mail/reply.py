"""mail.reply: one SMTP reply, written and read (RFC 5321 4.2, enhanced codes RFC 2034 and RFC 3463).

`Reply` is a value: ours on its way to a client, or a peer's on its way to a verdict. Its text is kept without code and
enhanced code, lines joined by a line feed, as the peer wrote it; `str()` and `wire()` escape it, so no peer's text can
reach a terminal, a log or another peer with control characters in it.

`ReplyParser` is sans-IO: octets in, whole replies out, whatever the chunks. It is linear and bounded (a line, a reply).
What is no reply raises `ReplyError`, and goes on raising: after that nobody knows which reply answers which command, so
the caller treats it as transient and closes the connection. It never bounces mail. Whole replies before it are
given first, also of the same chunk: a 250 to the final dot counts although garbage follows.

Codes from 200 to 599 are taken, though RFC 5321 gives the middle digit only 0 to 5: 571 and 591 exist in the field. A
line may end in a bare LF, which is how some servers write; a code that changes within one reply is a desync.
"""

import re
from functools import lru_cache

from msgspec import Struct

LINE_LIMIT = 8192  # octets without the line end; RFC 5321 4.5.3.1.5 says 512, the field writes more
REPLY_LIMIT = 32768
_SHORT = 64  # octets of a line that is remembered: a longer one has something of its own to say
WIRE_LINE = 510  # RFC 5321 4.5.3.1.5: 512 with CRLF
_ONE_LINE = 400  # characters of a text that fits into one line with any code

# What acts on a terminal or hides in a line: C0, DEL, C1, soft hyphen, marks of direction, line and paragraph
# separators, zero-width characters (but for the joiners that Persian and emoji need), tags, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |\t|$)")


def escape(text: str) -> str:
    """A peer's text on one line, safe for a terminal, a log, a reply or a report; markup is its printer's to escape."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


class Reply(Struct, frozen=True):
    """code: 200 to 599. status: the enhanced code, "5.1.1", or "". text: without both, lines joined by a line feed."""

    code: int
    status: str
    text: str

    @property
    def is_positive(self) -> bool:
        """2xx, and 3xx: go on."""
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def __str__(self) -> str:
        """On one line, escaped: "550 5.1.1 No such user"."""
        words = (str(self.code), self.status, *self.text.split("\n"))
        return escape(" ".join(word for word in words if word))

    def wire(self, *, smtputf8: bool = False) -> bytes:
        """As sent: the code and the enhanced code on every line (RFC 2034 4), CRLF, lines of at most 512 octets.

        smtputf8: the client said SMTPUTF8, so the text may be UTF-8 (RFC 6531 3.7.4.2); else all but ASCII is escaped.
        """
        if len(self.text) <= _ONE_LINE and self.text.isascii() and self.text.isprintable():
            words = f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"
            return words.rstrip(" ").encode("ascii") + b"\r\n"
        return self._wire_of_any(smtputf8=smtputf8)

    def _wire_of_any(self, *, smtputf8: bool) -> bytes:
        encoding = "utf-8" if smtputf8 else "ascii"
        status = self.status.encode("ascii") + b" " if self.status else b""
        room = WIRE_LINE - 4 - len(status)
        lines = [
            part
            for line in self.text.split("\n")
            for part in _wrap(escape(line).encode(encoding, "backslashreplace"), room)
        ]
        code = b"%d" % self.code
        body = [code + b"-" + status + line for line in lines[:-1]]
        body.append((code + b" " + status + lines[-1]).rstrip(b" "))
        return b"\r\n".join(body) + b"\r\n"


def _wrap(line: bytes, room: int) -> list[bytes]:
    """Pieces of at most `room` octets, cut at a space where there is one and never within a UTF-8 character."""
    parts = []
    while len(line) > room:
        cut = line.rfind(b" ", 1, room + 1)
        if cut < 0:
            cut = room
            while line[cut] & 0xC0 == 0x80:
                cut -= 1
        parts.append(line[:cut])
        line = line[cut:].removeprefix(b" ")
    parts.append(line)
    return parts


class ReplyError(ValueError):
    """What the peer sent is no SMTP reply; the text says why, escaped."""


class ReplyParser:
    """Octets in, replies out. `failure` says what came that is no reply, "" while all is well."""

    __slots__ = ("_code", "_lines", "_partial", "_size", "failure")

    def __init__(self) -> None:
        self._partial = bytearray()  # a line that has not ended
        self._lines: list[bytes] = []  # lines of a reply that has not ended
        self._code = b""
        self._size = 0
        self.failure = ""

    @property
    def pending(self) -> bool:
        """Whether a reply has begun and not ended, or garbage has come: the stream is not between two replies."""
        return bool(self._partial or self._lines or self.failure)

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that end within `data`. Raises ReplyError, then and ever after, for what is none: at once when no
        reply came before it, else at the next call.
        """
        replies: list[Reply] = []
        if not self.failure:
            try:
                self._feed(data, replies)
            except ReplyError as error:
                self.failure = str(error)
        if self.failure and not replies:
            raise ReplyError(self.failure)
        return replies

    def _feed(self, data: bytes, replies: list[Reply]) -> None:
        *lines, tail = data.split(b"\n")
        if lines and self._partial:
            lines[0] = bytes(self._partial) + lines[0]
            self._partial.clear()
        for line in lines:
            self._take(line.removesuffix(b"\r"), replies)
        self._partial += tail
        if len(self._partial) > LINE_LIMIT + 1:  # + 1: the CR of a line that ends in the next chunk
            raise ReplyError(f"a reply line is longer than {LINE_LIMIT} octets")

    def _take(self, line: bytes, replies: list[Reply]) -> None:
        if len(line) > LINE_LIMIT:
            raise ReplyError(f"a reply line is longer than {LINE_LIMIT} octets")
        match = _LINE.fullmatch(line)
        if match is None:
            raise ReplyError(f'"{_shown(line)}" is no SMTP reply')
        code, mark, text = match.groups()
        if mark != b"-" and not self._lines:
            replies.append(_reply(int(code), text or b"") if len(line) > _SHORT else _said_again(code, text))
        else:
            self._take_one_of_many(line, code, mark, text or b"", replies)

    def _take_one_of_many(
        self, line: bytes, code: bytes, mark: bytes | None, text: bytes, replies: list[Reply]
    ) -> None:
        if self._code and code != self._code:
            raise ReplyError(f'the code changes from {self._code.decode()} within a reply: "{_shown(line)}"')
        self._size += len(line) + 2
        if self._size > REPLY_LIMIT:
            raise ReplyError(f"a reply is longer than {REPLY_LIMIT} octets")
        self._code = code
        self._lines.append(text)
        if mark != b"-":
            replies.append(_reply_of_many(int(code), self._lines))
            self._lines, self._code, self._size = [], b"", 0


def _reply(code: int, line: bytes) -> Reply:
    text = _decoded(line)
    match = _STATUS.match(text)
    if match is None or int(match[1]) != code // 100:
        return Reply(code, "", text)
    return Reply(code, match[0], text[match.end() :].lstrip(" \t"))


def _decoded(line: bytes) -> str:
    """What is not UTF-8 is kept readable and storable: RFC 5321 4.2 promises ASCII, the field sends Latin-1 too."""
    return line.decode("utf-8", "backslashreplace")


@lru_cache(maxsize=256)
def _said_again(code: bytes, text: bytes | None) -> Reply:
    """What servers say to MAIL, RCPT and DATA is the same every time."""
    return _reply(int(code), text or b"")


def _reply_of_many(code: int, lines: list[bytes]) -> Reply:
    texts = [_decoded(line) for line in lines]
    status = _status(str(code), texts)
    if status:
        texts = [text[len(status) :].lstrip(" \t") if _begins(text, status) else text for text in texts]
    return Reply(code, status, "\n".join(texts))


def _status(code: str, texts: list[str]) -> str:
    """The enhanced code of the first line that has one of the code's class (RFC 3463 2), or ""."""
    for text in texts:
        match = _STATUS.match(text)
        if match and match[1] == code[0]:
            return match[0]
    return ""


def _begins(text: str, status: str) -> bool:
    return text.startswith(status) and text[len(status) : len(status) + 1] in ("", " ", "\t")


def _shown(line: bytes) -> str:
    return escape(line[:80].decode("utf-8", "backslashreplace"))
