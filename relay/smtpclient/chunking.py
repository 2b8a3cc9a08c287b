"""smtpclient.chunking: content as it goes on the wire with BDAT (RFC 3030 2): one chunk, which is the last.

The server is told how many octets come and takes them as they are: no dot is stuffed, and no octets of the content can
be taken for its end. Content that does not end in CRLF gets one, as after DATA, so that both ways give the same mail.
"""

import os
from pathlib import Path

from relay.mail.reply import Reply
from relay.smtpclient.transaction import OutgoingContent

_CRLF = b"\r\n"
_NO_COMMAND = frozenset({500, 502, 503})  # RFC 5321 4.2.2: unrecognized, not implemented, bad sequence
_OF_PROTOCOL = "5.5."  # RFC 3463 3.6


def is_no_command(reply: Reply) -> bool:
    """Whether the server, which offered CHUNKING and has accepted a recipient, says that there is no BDAT. A 503 says
    so too: nothing is amiss with the sequence.
    """
    return reply.code in _NO_COMMAND and (not reply.status or reply.status.startswith(_OF_PROTOCOL))


def chunk(content: bytes) -> bytes:
    """All of the content, after its command."""
    ending = _ending(content)
    return b"BDAT %d LAST\r\n%b%b" % (len(content) + len(ending), content, ending)


class Chunk:
    """Content in blocks: `begin`, each block as `stuff` gives it, then `end`, unless it is over: that is with the last
    octet that was announced, since the server may answer from then on.
    """

    __slots__ = ("_ending", "_left", "_octets")

    def __init__(self, content: OutgoingContent) -> None:
        """Reads the last octets of the content's file. Raises OSError."""
        last = _last_octets(content.path, content.size) if content.size and content.path else b""
        self._ending = _ending(last or content.body or content.head)
        self._octets = self._left = content.octets + len(self._ending)

    @property
    def is_over(self) -> bool:
        return not self._left

    def begin(self) -> bytes:
        return b"BDAT %d LAST\r\n" % self._octets

    def stuff(self, block: bytes) -> bytes:
        self._left -= len(block)
        return block

    def end(self) -> bytes:
        return self._ending


def _ending(content: bytes) -> bytes:
    return b"" if not content or content.endswith(_CRLF) else _CRLF


def _last_octets(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), 2, max(0, size - 2))
