"""mail.newlines: line ends of a message, and the facts about its lines.

A line ends in CRLF (RFC 5321 2.3.8). A CR or LF alone is read as a line end by some servers and not by others, which is
how one message is smuggled inside another; so it is refused, or made CRLF before signing, and is never sent as it is.

For content in memory there are functions; for content that comes in chunks, `NewlineCheck` and `NewlineNormalizer`,
which know that a CR and its LF may come in two chunks. Nothing here looks at one octet at a time.
"""

LINE_LENGTH = 998  # octets, RFC 5322 2.1.1


def has_bare_newline(data: bytes) -> bool:
    """Whether a CR is not followed by LF or an LF does not follow a CR."""
    pairs = data.count(b"\r\n")
    return data.count(b"\n") != pairs or data.count(b"\r") != pairs


def normalize_newlines(data: bytes) -> bytes:
    """Every line end, CR, LF or CRLF, as CRLF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def is_8bit(data: bytes) -> bool:
    return not data.isascii()


def count_long_lines(data: bytes, *, limit: int = LINE_LENGTH) -> int:
    """How many lines have more than `limit` octets, line ends not counted. Jumps from line end to line end."""
    count, start = 0, 0
    while len(data) - start > limit:
        reach = start + limit + 2  # a line of `limit` octets ends in CRLF before here
        end = data.rfind(b"\n", start, reach)
        if end < 0:
            end = data.find(b"\n", reach)
            count += 1
        if end < 0:  # the last line, without a line end
            return count - (len(data) - start - data.endswith(b"\r") <= limit)
        start = end + 1
    return count


class NewlineCheck:
    """Looks for bare newlines in content that comes in chunks: `update` each, then ask `finish`."""

    __slots__ = ("_after_cr", "_found")

    def __init__(self) -> None:
        self._after_cr = False
        self._found = False

    def update(self, chunk: bytes) -> bool:
        """Whether a bare newline has been found so far. A CR that ends the chunk waits for the next."""
        if not chunk or self._found:
            return self._found
        if self._after_cr:
            chunk = b"\r" + chunk
        self._after_cr = chunk.endswith(b"\r")
        self._found = has_bare_newline(chunk[:-1] if self._after_cr else chunk)
        return self._found

    def finish(self) -> bool:
        """Whether there was one in all the content; a CR at its very end is one."""
        return self._found or self._after_cr


class NewlineNormalizer:
    """normalize_newlines() for content that comes in chunks."""

    __slots__ = ("_after_cr",)

    def __init__(self) -> None:
        self._after_cr = False

    def update(self, chunk: bytes) -> bytes:
        """What can be said of the content so far; a CR that ends the chunk is kept back."""
        if not chunk:
            return b""
        if self._after_cr:
            chunk = b"\r" + chunk
        self._after_cr = chunk.endswith(b"\r")
        return normalize_newlines(chunk[:-1] if self._after_cr else chunk)

    def finish(self) -> bytes:
        """What was kept back."""
        kept = b"\r\n" if self._after_cr else b""
        self._after_cr = False
        return kept
