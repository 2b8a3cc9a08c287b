"""submission.content: a message's octets while they arrive.

The header is split off and kept in memory (at most `header_size`); a body of up to 64 KiB stays in memory too, a
larger one goes on to a file of the spool as it comes, so that a session holds little however much is sent through it.
What cannot be accepted is found while reading, kept as `problem`, and everything that follows is read and dropped:
the client hears of it where it expects a reply, after the end (RFC 5321 4.2.5).

Checked here, in bulk: the size; a CR or LF alone (RFC 5321 2.3.8), refused or made a CRLF before anything signs it;
NUL (RFC 5321 4.5.2); the length of lines, where over 998 octets are counted and sent as they came. Whether the
header's fields are good is `policy`'s business. A reader that finds its own disk failing keeps a 4xx: it is never the
client's fault.
"""

from collections.abc import Callable
from dataclasses import dataclass

from relay.errors import SpoolError, SpoolFull
from relay.mail.newlines import LINE_LENGTH, normalize_newlines
from relay.mail.reply import Reply
from relay.spool.content import INLINE_OCTETS, IncomingFile

BARE_NEWLINE = Reply(550, "5.6.0", "The message has a CR or LF alone; lines end in CRLF (RFC 5321 2.3.8)")
NUL = Reply(550, "5.6.0", "The message has a NUL (RFC 5321 4.5.2)")
OUT_OF_SPACE = Reply(452, "4.3.1", "Not enough room here at present; try again later")
OUT_OF_ORDER = Reply(451, "4.3.0", "Trouble here; try again later")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a message may be, in octets; normalize: a CR or LF alone becomes CRLF instead of a refusal."""

    message_size: int
    header_size: int
    line_length: int
    normalize: bool


class Content:
    """One message's content: `add` what comes, then `finish`; then `problem`, or `header` and `body` or `file`."""

    __slots__ = (
        "_body",
        "_bounds",
        "_held",
        "_incoming",
        "_line",
        "eight_bit",
        "file",
        "header",
        "in_body",
        "long_lines",
        "problem",
        "size",
        "trouble",
    )

    def __init__(self, bounds: Bounds, incoming: Callable[[], IncomingFile]) -> None:
        self._bounds = bounds
        self._incoming = incoming
        self._held = b""  # a CR whose LF may be in the next piece
        self._line = 0  # octets of the line under way
        self._body = bytearray()  # while it is in memory
        self.header = b""
        self.in_body = False
        self.file: IncomingFile | None = None
        self.size = 0
        self.eight_bit = False
        self.long_lines = 0
        self.problem: Reply | None = None
        self.trouble: SpoolError | None = None  # the detail behind a problem that is ours

    @property
    def body(self) -> bytes:
        """b"" when it is in `file`."""
        return bytes(self._body)

    def add(self, octets: bytes) -> None:
        """Take the next octets, dots already out; they are dropped once there is a problem."""
        if self._held:
            octets, self._held = self._held + octets, b""
        if octets.endswith(b"\r"):
            octets, self._held = octets[:-1], b"\r"
        if octets and self.problem is None:
            self._take(octets)

    def finish(self) -> None:
        """There is no more. A header that no empty line ended is the whole message."""
        octets, self._held = self._held, b""
        if octets and self.problem is None:
            self._take(octets)
        if self.header and not self.header.endswith(b"\r\n"):
            self.header += b"\r\n"

    def fail(self, reply: Reply) -> None:
        """Refuse the message, at its end, with `reply`; the first one counts."""
        if self.problem is None:
            self.problem = reply
            self.discard()

    def discard(self) -> None:
        """Forget what came, also what is in a file."""
        self._body = bytearray()  # not clear(): a write that failed may still look at it
        self.header = b""
        if self.file is not None:
            self.file.discard()
            self.file = None

    def _take(self, octets: bytes) -> None:
        if _has_bare_newline(octets):
            if not self._bounds.normalize:
                self.fail(BARE_NEWLINE)
                return
            octets = normalize_newlines(octets)
        self.size += len(octets)
        problem = self._problem_of(octets)
        if problem is not None:
            self.fail(problem)
            return
        self.eight_bit = self.eight_bit or not octets.isascii()
        self._keep(octets)

    def _problem_of(self, octets: bytes) -> Reply | None:
        if self.size > self._bounds.message_size:
            return too_large(self._bounds.message_size)
        if b"\0" in octets:
            return NUL
        if self._has_short_lines(octets) or self._measure(octets.split(b"\r\n")):
            return None
        return _line_too_long(self._bounds.line_length)

    def _has_short_lines(self, octets: bytes) -> bool:
        """Whether no line goes over 998 octets, found by leaps instead of line by line."""
        at = octets.find(b"\n") + 1
        if at == 0 or self._line + at > LINE_LENGTH:
            return False
        while len(octets) - at > LINE_LENGTH:
            at = octets.rfind(b"\n", at, at + LINE_LENGTH + 2) + 1
            if at == 0:
                return False
        self._line = len(octets) - octets.rfind(b"\n") - 1
        return True

    def _measure(self, lines: list[bytes]) -> bool:
        """Count what is over 998 octets; False when a line is over what is accepted."""
        first = self._line + len(lines[0])
        self._line = first if len(lines) == 1 else len(lines[-1])
        longest = max(first, len(max(lines, key=len)))
        if longest <= LINE_LENGTH:
            return True
        ended = [first, *map(len, lines[1:])]
        ended[-1] = 0  # it has not ended yet
        self.long_lines += sum(length > LINE_LENGTH for length in ended)
        return longest <= self._bounds.line_length

    def _keep(self, octets: bytes) -> None:
        if self.in_body:
            self._keep_body(octets)
            return
        searched = max(len(self.header) - 3, 0)
        self.header = self.header + octets if self.header else octets
        end = 0 if self.header.startswith(b"\r\n") else self.header.find(b"\r\n\r\n", searched) + 2
        if end == 1:  # not found
            if len(self.header) > self._bounds.header_size:
                self.fail(_header_too_large(self._bounds.header_size))
            return
        self._split(end)

    def _split(self, end: int) -> None:
        octets, self.header, self.in_body = self.header, self.header[:end], True
        if end > self._bounds.header_size:
            self.fail(_header_too_large(self._bounds.header_size))
        elif len(octets) > end + 2:
            self._keep_body(octets[end + 2 :])

    def _keep_body(self, octets: bytes) -> None:
        try:
            if self.file is not None:
                self.file.write(octets)
                return
            self._body += octets
            if self.size - len(self.header) > INLINE_OCTETS:
                self._spill()
        except SpoolError as error:
            self.trouble = error
            self.fail(OUT_OF_SPACE if isinstance(error, SpoolFull) else OUT_OF_ORDER)

    def _spill(self) -> None:
        self.file = self._incoming()
        self.file.write(self._body)
        self._body.clear()


def _has_bare_newline(octets: bytes) -> bool:
    """`mail.newlines.has_bare_newline`, and a third faster where there are many lines."""
    rest = b"".join(octets.split(b"\r\n"))
    return b"\r" in rest or b"\n" in rest


def too_large(message_size: int) -> Reply:
    """RFC 1870 6.1 (2) and 6.3."""
    return Reply(552, "5.3.4", f"The message is larger than {message_size} octets")


def _header_too_large(header_size: int) -> Reply:
    return Reply(550, "5.6.0", f"The header is larger than {header_size} octets")


def _line_too_long(line_length: int) -> Reply:
    return Reply(550, "5.6.0", f"A line is longer than {line_length} octets")
