"""submission.dot: the end of DATA, and the dots that were put in for its sake (RFC 5321 4.5.2).

`DotReader` takes octets in whatever pieces they arrive and gives content back, in bulk: it never looks at a line.
Data ends at CRLF.CRLF and nowhere else, whatever stands alone for a line end there (RFC 5321 4.1.1.4); what receivers
elsewhere take for an end is how messages are smuggled. The only octets it changes are the dots it takes out after
CRLF. It holds back at most four octets: what may yet turn out to be the end.
"""

END = b"\r\n.\r\n"
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
        end = octets.find(END)
        if end >= 0:
            return self._content(octets[: end + 2]), len(octets) - end - len(END)
        held = _beginning_of_end(octets)
        self._held = octets[len(octets) - held :]
        return self._content(octets[: len(octets) - held]), None

    def _content(self, octets: bytes) -> bytes:
        if self._skip and octets:
            self._skip, octets = 0, octets.replace(b"\r\n.", b"\r\n")
            return octets[2:]
        return octets.replace(b"\r\n.", b"\r\n")


def _beginning_of_end(octets: bytes) -> int:
    """How many of the last octets may be the beginning of CRLF.CRLF; a CRLF and a dot that are whole stay together."""
    for beginning in _BEGINNINGS:
        if octets.endswith(beginning):
            return len(beginning)
    return 0
