"""submission.sasl: the AUTH exchange, PLAIN (RFC 4616) and LOGIN (as clients speak it), without deciding anything.

A line goes in; a `Challenge` to send, an `Attempt` to check or a `Refused` reply comes out. What is no base64, or not
of the mechanism's form, is 501 5.5.2 and no attempt; "*" takes the exchange back (RFC 4954 4).
"""

import binascii
from dataclasses import dataclass

from relay.mail.reply import Reply

LINE_LIMIT = 12288  # RFC 4954 4: octets of a line of the exchange
LOGIN_LIMIT = 255  # characters of a login; `registry.secrets.new_login` makes 69 at most

CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
NO_BASE64 = Reply(501, "5.5.2", "That is no base64 of the form the mechanism asks for")
NO_MECHANISM = Reply(501, "5.5.4", "Say AUTH PLAIN or AUTH LOGIN")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Only AUTH PLAIN and AUTH LOGIN are offered")


@dataclass(frozen=True, slots=True)
class Challenge:
    """octets: the reply with its CRLF."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login and a secret to check. What is not UTF-8 is spelled out, and so is no login that was ever issued.

    A login is kept by the guessing guard of every worker: what is longer than any that is issued is cut.
    """

    login: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret: a repr ends in logs and tracebacks."""
        return f"Attempt({self.login!r})"


@dataclass(frozen=True, slots=True)
class Refused:
    """The exchange is over, nothing was attempted."""

    reply: Reply


Step = Challenge | Attempt | Refused

_GO_ON = Challenge(b"334 \r\n")
_USERNAME = Challenge(b"334 VXNlcm5hbWU6\r\n")  # "Username:"
_PASSWORD = Challenge(b"334 UGFzc3dvcmQ6\r\n")  # "Password:"


class Exchange:
    """One AUTH command: `begin` with its argument, then `proceed` with each line while challenges come."""

    __slots__ = ("_login", "_mechanism")

    def __init__(self) -> None:
        self._mechanism = b""
        self._login: str | None = None

    def begin(self, argument: bytes) -> Step:
        mechanism, _, initial = argument.strip(b" ").partition(b" ")
        self._mechanism = mechanism.upper()
        if self._mechanism not in (b"PLAIN", b"LOGIN"):
            return Refused(UNKNOWN_MECHANISM if mechanism else NO_MECHANISM)
        if initial:
            return self.proceed(b"" if initial == b"=" else initial)  # RFC 4954 4: "=" is an empty response
        return _GO_ON if self._mechanism == b"PLAIN" else _USERNAME

    def proceed(self, line: bytes) -> Step:
        if line == b"*":
            return Refused(CANCELLED)
        try:
            response = binascii.a2b_base64(line.strip(b" "), strict_mode=True)
        except binascii.Error:
            return Refused(NO_BASE64)
        return self._plain(response) if self._mechanism == b"PLAIN" else self._next_of_login(response)

    def _plain(self, response: bytes) -> Step:
        parts = response.split(b"\0")
        if len(parts) != 3:
            return Refused(NO_BASE64)
        acting_for, login, secret = parts
        if acting_for not in (b"", login):  # RFC 4616 2: nobody acts for another here; as an unknown login
            return Attempt("", _text(secret))
        return Attempt(_login(login), _text(secret))

    def _next_of_login(self, response: bytes) -> Step:
        if self._login is None:
            self._login = _login(response)
            return _PASSWORD
        return Attempt(self._login, _text(response))


def _login(octets: bytes) -> str:
    return _text(octets)[:LOGIN_LIMIT]


def _text(octets: bytes) -> str:
    """A lone surrogate could neither be logged nor be told to other workers, so its attempt would count for nothing."""
    return octets.decode("utf-8", "backslashreplace")
