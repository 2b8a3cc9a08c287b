"""submission.session: one client's SMTP session, without sockets.

Octets go in by `receive`, in whatever pieces they came; actions come out: octets to write, or something to do. What
takes time is not done here: after `StartTls` or `Commit` the session keeps what it receives unread until
`tls_started` or `finished` says what came of it. The replies to one pipelined group leave in one write (RFC 2920
3.2). No input raises, and none makes the session hold more than a line, a header or 64 KiB of body, beyond what was
received in one piece.

Here are lines and whose turn it is; what is answered is `dialogue`'s.
"""

from collections.abc import Callable

from msgspec import Struct

from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.registry.credentials import Credential
from relay.submission import replies
from relay.submission.admission import Admission
from relay.submission.client import Client
from relay.submission.dialogue import COMMAND, COMMIT, CONTENT, EXCHANGE, OVER, TLS, Answer, Dialogue, Turn
from relay.submission.limits import Excess
from relay.submission.sasl import LINE_LIMIT as EXCHANGE_LIMIT
from relay.submission.services import Services
from relay.submission.terms import Terms

LINE_LIMIT = 4096  # octets of a command: RFC 5321 4.5.3.1.4, and what the extensions add to it
GROUP_LIMIT = 1000  # replies in one write

_TLS_RECORD = b"\x16\x03"  # RFC 8446 5.1: a handshake begins so
_SUSPENDED = (TLS, COMMIT)


class StartTls(Struct, frozen=True):
    """Go on inside TLS, then say `tls_started`."""


class Commit(Struct, frozen=True):
    """Hand the message over, then say `finished`; also when the client is gone by then."""

    submitted: Submitted


class Close(Struct, frozen=True):
    """Close once all is written. linger: the client may be sending still, and should get to read what was written."""

    linger: bool


Action = bytes | StartTls | Commit | Close


class Session:
    """One client's session; tls: what it came in by, "" for clear text.

    received: octets, ever. has_more: input is left whose replies did not fit into this write; `receive(b"")` goes on.
    """

    __slots__ = (
        "_at",
        "_dialogue",
        "_dismissal",
        "_ended",
        "_input",
        "_overlong",
        "_pending",
        "_replies",
        "_turn",
        "has_more",
        "received",
    )

    def __init__(
        self, terms: Terms, services: Services, client: Client, *, admission: Admission, over: Excess, tls: str = ""
    ) -> None:
        self._dialogue = Dialogue(terms, services, client, admission=admission, over=over, tls=tls)
        self._turn = COMMAND
        self._input = b""
        self._at = 0  # how much of the input has been read
        self._overlong = False  # the rest of a line that was too long is being skipped
        self._ended = False  # the client will send no more
        self._dismissal: Reply | None = None  # what to say once no message is under way
        self._replies: list[bytes] = []
        self._pending: Action | None = None
        self.received = 0
        self.has_more = False

    def receive(self, data: bytes) -> list[Action]:
        """Octets from the client."""
        if self._turn is OVER:
            return []
        if not self.received and data.startswith(_TLS_RECORD):
            self._end_with(replies.NO_TLS_HERE)  # a client set up for the other port; say so where it can be seen
            return self._actions()
        self.received += len(data)
        self._input = self._input[self._at :] + data if self._at < len(self._input) else data
        self._at = 0
        return self._proceed()

    def end(self) -> list[Action]:
        """The client sends no more. What it sent is answered, and a message that is complete counts."""
        self._ended = True
        return self._proceed()

    def lost(self) -> None:
        """The connection is gone. A commit under way goes on."""
        if self._turn is not COMMIT:
            self._dialogue.reset()
        self._turn = OVER

    def tls_started(self, description: str) -> None:
        """TLS is up: "TLSv1.3 TLS_AES_256_GCM_SHA384"."""
        self._turn = COMMAND
        self._dialogue.begin(description)

    def finished(self, reply: Reply) -> list[Action]:
        """The message of `Commit` was accepted or refused."""
        if self._turn is not COMMIT:
            return []
        self._answer(self._dialogue.finished(reply))
        return self._proceed()

    def dismiss(self, reply: Reply) -> list[Action]:
        """Say `reply` and end: at once, unless a commit is under way, whose reply comes first."""
        if self._turn is OVER:
            return []
        self._dismissal = reply
        if self._turn not in _SUSPENDED:
            self._end_with(reply.wire())
        return self._actions()

    def dismiss_if_revoked(self) -> list[Action]:
        """End it if it has authenticated, and its credential or secret is no longer good."""
        known, current = self._dialogue.credential, self._dialogue.current_login()
        if self._turn is OVER or known is None or current is not None:
            return []
        if not self._dialogue.is_idle:
            self._dialogue.record_not_valid()
        return self.dismiss(replies.NOT_VALID)

    def dismiss_when_idle(self, reply: Reply) -> list[Action]:
        """Say `reply` and end as soon as no message is under way, which may be now."""
        if self._turn is OVER:
            return []
        self._dismissal = reply
        return self._proceed()

    @property
    def unread(self) -> int:
        """Octets received and kept for later."""
        return len(self._input) - self._at

    @property
    def turn(self) -> Turn:
        return self._turn

    @property
    def credential(self) -> Credential | None:
        """Whose session it is, as of its last MAIL; None before AUTH."""
        return self._dialogue.credential

    # -- whose turn it is -----------------------------------------------------------------------------------------

    def _proceed(self) -> list[Action]:
        while self._at < len(self._input) and len(self._replies) < GROUP_LIMIT and self._read():
            pass
        if self._at == len(self._input):
            self._input, self._at = b"", 0  # an idle session holds no octets
        if self._dismissal is not None and self._is_to_leave():
            self._end_with(self._dismissal.wire())
        self.has_more = len(self._replies) >= GROUP_LIMIT and self._turn in (COMMAND, CONTENT)
        if self._ended and not self.has_more and self._turn not in _SUSPENDED and self._turn is not OVER:
            self._end_with(b"", linger=False)
        return self._actions()

    def _read(self) -> bool:
        """Take the next thing from the input; False when it is not complete, or not wanted now."""
        if self._dismissal is not None and self._is_to_leave():
            return False
        if self._turn is COMMAND:
            return self._read_line(self._dialogue.command)
        if self._turn is CONTENT:
            return self._read_content()
        return self._turn is EXCHANGE and self._read_line(self._dialogue.exchange)

    def _is_to_leave(self) -> bool:
        return self._turn in (COMMAND, EXCHANGE) and self._dialogue.is_idle

    def _answer(self, answer: Answer) -> None:
        octets, self._turn = answer
        if octets:
            self._replies.append(octets)
        if self._turn is not COMMAND:
            self._change_turn(octets)

    def _change_turn(self, octets: bytes) -> None:
        """It is not the client's turn to say a command; octets: the last reply."""
        if self._turn is OVER:
            self._end_with(b"", linger=octets is not replies.BYE)
        elif self._turn is COMMIT and self._dialogue.submitted is not None:
            self._pending = Commit(self._dialogue.submitted)
        elif self._turn is TLS:
            self._start_tls()

    def _start_tls(self) -> None:
        """RFC 3207 4.2: what was sent along with STARTTLS was not sent inside TLS, by whomever."""
        if self.unread:
            self._end_with(b"", linger=False)
        else:
            self._pending = StartTls()

    def _end_with(self, octets: bytes, *, linger: bool = True) -> None:
        if octets:
            self._replies.append(octets)
        self._dialogue.reset()
        self._turn, self._input, self._at = OVER, b"", 0
        self._pending = Close(linger)

    def _actions(self) -> list[Action]:
        """The replies wait for a commit, so that a group gets one write; nothing else makes them wait."""
        actions: list[Action] = []
        if self._replies and self._turn is not COMMIT:
            actions.append(self._replies[0] if len(self._replies) == 1 else b"".join(self._replies))
            self._replies.clear()
        if self._pending is not None:
            actions.append(self._pending)
            self._pending = None
        return actions

    # -- what is read ---------------------------------------------------------------------------------------------

    def _read_content(self) -> bool:
        left = self._dialogue.content(self._input[self._at :])
        if left is None:
            self._at = len(self._input)
            return False
        self._at = len(self._input) - left
        self._answer(self._dialogue.content_ended())
        return True

    def _read_line(self, answered: Callable[[bytes], Answer]) -> bool:
        end = self._input.find(b"\n", self._at)
        length = (end if end >= 0 else len(self._input)) - self._at
        if length > LINE_LIMIT and length > self._line_limit():
            return self._skip_line(end)
        if end < 0:
            return False
        line = self._input[self._at : end]
        self._at = end + 1
        if self._overlong:
            self._overlong = False
        elif line.endswith(b"\r"):
            self._answer(answered(line[:-1]))
        else:
            self._answer(self._dialogue.malformed(line, replies.BARE_LINE_FEED))
        return True

    def _line_limit(self) -> int:
        return EXCHANGE_LIMIT if self._is_exchange() else LINE_LIMIT

    def _is_exchange(self) -> bool:
        return self._turn is EXCHANGE or self._input[self._at : self._at + 5].upper() == b"AUTH "

    def _skip_line(self, end: int) -> bool:
        """Drop a line that is too long, as far as it has come; it is answered once."""
        refusal = replies.EXCHANGE_TOO_LONG if self._is_exchange() else replies.LINE_TOO_LONG
        start, self._at = self._at, end + 1 if end >= 0 else len(self._input)
        if not self._overlong:
            self._answer(self._dialogue.malformed(self._input[start : self._at], refusal))
        self._overlong = end < 0
        return end >= 0
