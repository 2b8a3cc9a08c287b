"""cli.submitting: the test message on its way to the server, as any client would send it.

The certificate is verified; where that fails, the message goes all the same and `Submitted` says why.
"""

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from typing import TYPE_CHECKING

from relay.errors import DataError, Unavailable

if TYPE_CHECKING:
    from relay.cli.applications import Settings

_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Submitted:
    """id: the queue id of the 250. verified: why the certificate was not believed, "" if it was."""

    id: str
    reply: str
    not_verified: str


def submit(login: "Settings", recipient: str, *, at: str) -> Submitted:
    """Over STARTTLS or TLS, with AUTH. at: the address to connect to, whatever the name.

    Raises Unavailable, DataError.
    """
    message = _message(login.sender, recipient)
    context = ssl.create_default_context(cafile=login.ca or None)
    try:
        with _connected(login, at, context) as relay:
            return _submit(relay, login, message, "")
    except ssl.SSLCertVerificationError as error:
        not_verified = error.verify_message
    except OSError as error:
        raise _unreachable(login, error) from None
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with _connected(login, at, context) as relay:
        return _submit(relay, login, message, not_verified)


def _unreachable(login: "Settings", error: OSError) -> Unavailable:
    return Unavailable(
        f"no server answers at {login.host} port {login.port}: {error.strerror or error}",
        remedy="Is it running? relay status; if not: relay serve",
    )


class _Plain(smtplib.SMTP):
    """Connects to one address and verifies the certificate of another name, as a client elsewhere would."""

    def __init__(self, login: "Settings", at: str) -> None:
        self._at = at
        super().__init__(login.host, login.port, timeout=_TIMEOUT)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:  # noqa: ARG002 - smtplib's own hook
        return socket.create_connection((self._at, port), timeout)


class _Tls(smtplib.SMTP_SSL):
    """The same with TLS from the beginning."""

    def __init__(self, login: "Settings", at: str, context: ssl.SSLContext) -> None:
        self._at = at
        super().__init__(login.host, login.port, timeout=_TIMEOUT, context=context)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        plain = socket.create_connection((self._at, port), timeout)
        return self.context.wrap_socket(plain, server_hostname=host)


@contextmanager
def _connected(login: "Settings", at: str, context: ssl.SSLContext) -> Iterator[smtplib.SMTP]:
    relay = _Tls(login, at, context) if login.security == "tls" else _Plain(login, at)
    try:
        if login.security == "starttls":
            relay.starttls(context=context)
        yield relay
        relay.quit()
    finally:
        relay.close()


def _submit(relay: smtplib.SMTP, login: "Settings", message: EmailMessage, not_verified: str) -> Submitted:
    recipient = str(message["To"])
    try:
        relay.login(login.login, login.secret)
        for code, text in (relay.mail(login.sender), relay.rcpt(recipient)):
            _refuse_unless_positive(code, text)
        code, text = relay.data(message.as_bytes(policy=SMTP))
        _refuse_unless_positive(code, text)
    except smtplib.SMTPException as error:
        raise Unavailable(f"the server would not go on: {error}", remedy="Its log has the reason.") from None
    reply = f"{code} {text.decode('utf-8', 'replace')}"
    return Submitted(reply.rpartition(" ")[2], reply, not_verified)


def _refuse_unless_positive(code: int, text: bytes) -> None:
    if not 200 <= code < 300:
        reply = f"{code} {text.decode('utf-8', 'replace')}"
        raise DataError(f"the server refused the message: {reply}", remedy="The reply says what is wrong.")


def _message(sender: str, recipient: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = "Test from Relay"
    message["Date"] = format_datetime(localtime())
    message.set_content("This message was sent by `relay send-test`. It came through: accepted, signed, delivered.\n")
    return message
