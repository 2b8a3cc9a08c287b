"""mail.received: our Received field (RFC 5321 4.4), and nothing in it that a client could use to write another.

`from` is what the client said in EHLO, which may be anything (curl sends a file name, others a space): a name that is
no domain and no address literal is shown in a comment, cut, with every character that means something there made a "?".
The client's address is there only when the operator wants it shown; a name that has an address in it ("[10.9.8.7]", as
Python's smtplib says) is hidden likewise. `for` is there only when the message has exactly
one recipient, or it would tell one of them about another (RFC 5321 7.6).
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from relay.mail.address import AddressError, parse_domain
from relay.mail.date import format_date
from relay.mail.envelope import Recipient
from relay.mail.message import Field

EHLO_LIMIT = 100  # characters of a name that is no domain

# Not parentheses, backslash, quotes, angle brackets, semicolon; nor "=", or an encoded word would be decoded.
_HARMFUL = re.compile(r"[^A-Za-z0-9 !#$%&'*+,./:?@^_`{|}~\[\]-]")
_ADDRESS = re.compile(r"\d+(?:\.\d+){3}|:[0-9A-Fa-f.]*:")  # IPv4, and any form of IPv6


def format_received(
    *,
    ehlo: str,
    client: str,
    hostname: str,
    protocol: str,
    tls: str,
    queue_id: str,
    recipients: Sequence[Recipient],
    now: float,
) -> bytes:
    """The field, folded, CRLF included; always ASCII.

    ehlo: as the client gave it. client: its IP address, "" to hide it. protocol: the word after "with" (RFC 3848,
    RFC 6531 4.3), "ESMTPSA". tls: "TLSv1.3 TLS_AES_256_GCM_SHA384", "" for clear text. now: POSIX seconds.
    """
    session = _of_session(ehlo, client, hostname, protocol, tls)
    return f"{session}\r\n\tid {queue_id}{_for(recipients)};\r\n\t{format_date(now)}\r\n".encode("ascii")


def count(fields: Sequence[Field]) -> int:
    """How many Received fields there are."""
    return sum([field.name == b"received" for field in fields])


@lru_cache(maxsize=256)  # the messages of a session, and of all that an application opens, have this in common
def _of_session(ehlo: str, client: str, hostname: str, protocol: str, tls: str) -> str:
    encrypted = f" ({_comment(tls)})" if tls else ""
    return f"Received: from {_client(ehlo, client)}\r\n\tby {hostname} (Relay) with {protocol}{encrypted}"


def _client(ehlo: str, client: str) -> str:
    if not client:
        return "unknown" if _ADDRESS.search(ehlo) else _named(ehlo)
    return f"{_named(ehlo)} ([{'IPv6:' if ':' in client else ''}{client}])"  # RFC 5321 4.1.3


def _named(ehlo: str) -> str:
    return ehlo if _is_domain(ehlo) else f"unknown (EHLO {_comment(ehlo)})"


def _is_domain(ehlo: str) -> bool:
    try:
        parse_domain(ehlo)
    except AddressError:
        return False
    return ehlo.isascii()


def _comment(text: str) -> str:
    return _HARMFUL.sub("?", text[:EHLO_LIMIT]).strip()


def _for(recipients: Sequence[Recipient]) -> str:
    if len(recipients) != 1 or not recipients[0].address.isascii():
        return ""
    return f"\r\n\tfor <{recipients[0].address}>"
