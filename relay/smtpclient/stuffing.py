"""smtpclient.stuffing: content as it goes on the wire after DATA (RFC 5321 4.5.2).

A line that begins with a dot gets another one; nothing else changes, so what the server takes out again is octet for
octet what was signed. Content that does not end in CRLF gets one, since the end of content cannot be told otherwise.
`stuff` takes the whole, `Stuffer` takes it in blocks cut anywhere.
"""

_LINE_DOT = b"\r\n."
_LINE_DOTS = b"\r\n.."


def stuff(content: bytes) -> bytes:
    """All of the content, with the line that ends it: `CRLF.CRLF`."""
    stuffed = content.replace(_LINE_DOT, _LINE_DOTS)
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + _end(content[-2:] or b"\r\n")


class Stuffer:
    """Content in blocks: `begin`, `stuff` each, then `end`. is_over: no, the dot is yet to come."""

    __slots__ = ("_last",)

    is_over = False

    def __init__(self) -> None:
        self._last = b"\r\n"  # the two octets before the next block; the first block begins a line

    def begin(self) -> bytes:
        """Nothing: DATA was answered, and the content follows."""
        return b""

    def stuff(self, block: bytes) -> bytes:
        whole = self._last + block
        stuffed = whole.replace(_LINE_DOT, _LINE_DOTS)[len(self._last) :]
        self._last = whole[-2:]
        return stuffed

    def end(self) -> bytes:
        """What closes the content."""
        return _end(self._last)


def _end(last: bytes) -> bytes:
    return b".\r\n" if last == b"\r\n" else b"\r\n.\r\n"
