"""mail.envelope: the values that describe one message's envelope (RFC 5321 2.3.1, RFC 3461).

An address is a `str` exactly as the client gave it, the domain lower-cased, without angle brackets; the null
reverse-path is "". `mail.address` makes and compares them. Times are POSIX seconds (float, UTC).
"""

from msgspec import Struct

NULL_SENDER = ""


class Recipient(Struct, frozen=True):
    """One address of one message: the unit of delivery.

    notify: the NOTIFY parameter as given, upper-case, "" when absent ("NEVER" or a comma list of
    SUCCESS,FAILURE,DELAY). orcpt: the ORCPT parameter as given (`rfc822;a+40b`, still xtext), "" when absent.
    """

    address: str
    notify: str = ""
    orcpt: str = ""

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]


class Envelope(Struct, frozen=True):
    """What MAIL and RCPT said.

    ret: "FULL", "HDRS" or "". envid: still xtext, "" when absent. body: "7BIT" or "8BITMIME" (found in the content,
    not only declared). smtputf8: the message needs SMTPUTF8 (declared by the client, RFC 6531 3.4).
    """

    sender: str
    recipients: tuple[Recipient, ...]
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
