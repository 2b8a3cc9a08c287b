"""smtpclient.transaction: one message for one or more recipients, as it goes out, and what the server said to each
part.

Addresses and parameters are put on the wire as given; which parameters the server can take was decided before. The
result keeps every reply exactly. `decided` tells whether the replies settle every recipient; where they do not,
`failure` says what broke, and `outcome_unknown` whether the server may have taken the message all the same (RFC 5321
4.5.3.2.6: the final dot).
"""

from pathlib import Path

from msgspec import Struct

from relay.mail.reply import Reply
from relay.mail.verdict import Stage


class OutgoingContent(Struct, frozen=True):
    """A message's octets: `head`, then `body`, then the file's if there is one. Lines end in CRLF; dots are not yet
    stuffed.

    size: octets of the file.
    """

    head: bytes
    body: bytes = b""
    path: Path | None = None
    size: int = 0

    @property
    def octets(self) -> int:
        """The whole, as the SIZE parameter counts it (RFC 1870 3)."""
        return len(self.head) + len(self.body) + self.size


class Transaction(Struct, frozen=True):
    """sender: "" is the null reverse-path. mail_parameters: as sent, with the space before (" SIZE=1000
    BODY=8BITMIME"), or "".

    recipients: (address, parameters) in the order of the RCPT commands; at least one.
    """

    sender: str
    recipients: tuple[tuple[str, str], ...]
    content: OutgoingContent
    mail_parameters: str = ""


class TransactionResult(Struct, frozen=True):
    """What the server said.

    mail: to MAIL. recipients: to each RCPT, in order; all None when MAIL was refused. final: to the dot or chunk, or
    to DATA where that was refused. None: no reply came that can be believed, or the command was not sent. stage: the
    command whose reply ended the transaction, or at which it broke. failure: "" or what broke, in words; the connection
    is then closed. dot_sent: the end of the content has been handed to the socket. knows_no_chunks: BDAT is no command
    to the server, although it offers CHUNKING: it took nothing and refused nothing, and may take the content by DATA.
    """

    mail: Reply | None
    recipients: tuple[Reply | None, ...]
    final: Reply | None
    stage: Stage
    failure: str = ""
    dot_sent: bool = False
    knows_no_chunks: bool = False

    @property
    def outcome_unknown(self) -> bool:
        """The server may or may not have taken the message."""
        return self.dot_sent and self.final is None

    @property
    def decided(self) -> bool:
        """Every recipient has a reply of its own, of MAIL's, or of the end."""
        if self.mail is not None and not self.mail.is_positive:
            return True
        if self.final is not None:
            return None not in self.recipients
        return all(reply is not None and not reply.is_positive for reply in self.recipients)
