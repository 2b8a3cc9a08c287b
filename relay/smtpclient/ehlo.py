"""smtpclient.ehlo: what a server offers, read from its reply to EHLO (RFC 5321 4.1.1.1)."""

import re
from collections.abc import Mapping

from msgspec import Struct

from relay.mail.reply import Reply


def extensions_of(reply: Reply) -> dict[str, str]:
    """Keyword in upper case → its parameters, "" when there are none. The first line is the server's name."""
    extensions: dict[str, str] = {}
    for line in reply.text.split("\n")[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword.upper().startswith("AUTH="):  # as some servers wrote it before RFC 4954
            keyword, parameters = "AUTH", " ".join((extensions.get("AUTH", ""), keyword[5:], parameters))
        if keyword:
            extensions[keyword.upper()] = parameters.strip()
    return extensions


class ServerLimits(Struct, frozen=True):
    """What a server says it takes, 0 where it says nothing (RFC 9422). recipients: in one transaction. messages:
    transactions in one session. What it takes of several domains in a transaction (RCPTDOMAINMAX) is always obeyed:
    ours have one.
    """

    recipients: int = 0
    messages: int = 0

    @classmethod
    def of(cls, extensions: Mapping[str, str]) -> "ServerLimits":
        """A limit that is written otherwise than RFC 9422 says is none; of one that is named twice the lower holds."""
        named: dict[str, int] = {}
        for name, value in _LIMIT.findall(extensions.get("LIMITS", "").upper()):
            named[name] = min(int(value), named.get(name, int(value)))
        return cls(named.get("RCPTMAX", 0), named.get("MAILMAX", 0))


# RFC 9422 4: at most six digits, the first of them none of 0.
_LIMIT = re.compile(r"(?<!\S)(RCPTMAX|MAILMAX)=([1-9][0-9]{0,5})(?!\S)", re.ASCII)


def mechanisms_of(extensions: dict[str, str]) -> frozenset[str]:
    """The SASL mechanisms offered, in upper case (RFC 4954 3)."""
    return frozenset(extensions.get("AUTH", "").upper().split())
