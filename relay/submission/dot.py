"""submission.dot: the end of DATA, and the dots that were put in for its sake (RFC 5321 4.5.2).

`DotReader` takes octets in whatever pieces they arrive and gives content back, in bulk: it never looks at a line.
Data ends at CRLF.CRLF and nowhere else, whatever stands alone for a line end there (RFC 5321 4.1.1.4); what receivers
elsewhere take for an end is how messages are smuggled. The only octets it changes are the dots it takes out after
CRLF. It holds back at most four octets: what may yet turn out to be the end.
"""

END = b"\r\n.\r\n"
_DOT = END[:3]
_BEGINNINGS = (END[:4], END[:3], END[:2], END[:1])


class DotReader:
    """One DATA: `feed` until it says what is left."""

    __slots__ = ("_held", "_skip")

    def __init__(self) -> None:
        self._held = b"\r\n"  # data begins at the start of a line, so a dot alone at once is its end
        self._skip = 2  # ... but that CRLF is no content

    def feed(self, data: bytes) -> tuple[bytes, int | None]:
        """(content, left): left is None while the end has not come, then how many of the last octets lie beyond it."""
        octets = self._held + data
        dot = octets.find(_DOT)
        end = octets.find(END, dot) if dot >= 0 else -1
        if end >= 0:
            content, left = octets[: end + 2], len(octets) - end - len(END)
        else:
            held = _beginning_of_end(octets)
            content, left, self._held = octets[: len(octets) - held], None, octets[len(octets) - held :]
        if dot != end:  # there is one before the end, or there is no end
            content = content.replace(_DOT, b"\r\n")
        return self._without_start(content), left

    def _without_start(self, content: bytes) -> bytes:
        if not self._skip or not content:
            return content
        self._skip = 0
        return content[2:]


def _beginning_of_end(octets: bytes) -> int:
    """How many of the last octets may be the beginning of CRLF.CRLF; a CRLF and a dot that are whole stay together."""
    for beginning in _BEGINNINGS:
        if octets.endswith(beginning):
            return len(beginning)
    return 0
