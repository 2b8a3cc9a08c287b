"""mail.dsn_text: the part of a delivery report that a person reads.

It says, for each recipient, what happened, in the peer's words where there are any, and what the reader can do about
it; then which message it is about. Plain text of 76 columns, no markup, no blame where there is none.

Whatever a peer or a client wrote is made harmless by `safe`: one line, no control characters, cut at 2000 characters,
and no "<" or ">" but round an address, so that a program that shows the text as HTML finds no markup in it.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from relay.mail.date import format_date
from relay.mail.envelope import Recipient
from relay.mail.meaning import Category
from relay.mail.reply import escape

WIDTH = 76
LONGEST = 2000

_BRACKETS = re.compile(r"<(?P<address>[^<>\s\"'=/]{1,64}@[^<>\s\"'=/]{1,255})>|[<>]")


class Action(StrEnum):
    """RFC 3464 2.3.3, those a relay has cause to report."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


class Reported(Protocol):
    """The message a report is about. Times are POSIX seconds; envid is still xtext."""

    @property
    def id(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def accepted_at(self) -> float: ...
    @property
    def envid(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def header_message_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one recipient.

    reply: the peer's, on one line with its codes, "" when there was none. detail: our own words then. status: an
    enhanced code to report instead of the reply's. category: `mail.meaning.Category`, for the advice. mx: the server
    that answered, "host" or "host[address]:port". attempted_at, retry_until: POSIX seconds, 0 when there is none.
    """

    recipient: Recipient
    reply: str = ""
    detail: str = ""
    status: str = ""
    category: str = ""
    mx: str = ""
    attempted_at: float = 0.0
    retry_until: float = 0.0


_OPENING = {
    Action.FAILED: "Your message could not be delivered. It will not be tried again.",
    Action.DELAYED: "Your message has not been delivered yet. It is still being tried; you need not send it again.",
    Action.DELIVERED: "Your message was delivered, as you asked to be told.",
    Action.RELAYED: (
        "Your message was handed on to a server that cannot confirm its delivery. You asked to be told of the delivery;"
        " this is the last that can be told."
    ),
}
_SUBJECT = {
    Action.FAILED: "Not delivered: your message to {}",
    Action.DELAYED: "Delayed: your message to {}",
    Action.DELIVERED: "Delivered: your message to {}",
    Action.RELAYED: "Handed on: your message to {}",
}
_OURS = "What to do: tell the administrator of your mail system; the cause is on the sending side, not the recipient's."
_ADVICE = {
    Category.BAD_MAILBOX: "What to do: check the address. There is no such mailbox at the recipient's server.",
    Category.INACTIVE: "What to do: reach the recipient another way. The mailbox is not in use.",
    Category.BAD_DOMAIN: 'What to do: check what comes after the "@". That domain does not exist or takes no mail.',
    Category.MAILBOX_FULL: "What to do: send it again later. The recipient's mailbox is full.",
    Category.TOO_BIG: "What to do: send it smaller, or send a link to it. It is too large for the recipient's server.",
    Category.SPAM_CONTENT: "What to do: change the message or its attachments. They were taken for something unwanted.",
    Category.REPUTATION: _OURS,
    Category.AUTH: _OURS,
    Category.THROTTLE: _OURS,
    Category.POLICY: "What to do: ask the recipient, another way, to let your mail in. Their server refuses it.",
    Category.NETWORK: "What to do: send it again later. The recipient's server could not be reached.",
    Category.SYSTEM: "What to do: send it again later. The recipient's server has trouble of its own.",
    Category.PROTOCOL: "What to do: tell the administrator of the recipient's mail system what it said.",
}


def subject_of(action: Action, told: Sequence[Told], *, utf8: bool) -> str:
    addresses = [each.recipient.address for each in told]
    nameable = len(addresses) == 1 and (utf8 or addresses[0].isascii())
    who = safe(addresses[0], utf8=utf8) if nameable else f"{len(addresses)} recipient{'s'[: len(addresses) > 1]}"
    return _SUBJECT[action].format(who)


def text_of(action: Action, told: Sequence[Told], message: Reported, *, reporter: str) -> str:
    """Lines parted by a line feed, all of them short; Unicode."""
    lines = [f"This is the mail relay {reporter}.", "", *_wrapped(_OPENING[action])]
    for each in told:
        lines += ["", *_about(action, each)]
    lines += ["", "The message:", *_message(message), ""]
    lines += _wrapped("The details for programs and administrators, and the headers of the message, are attached.")
    return "\n".join(lines) + "\n"


def safe(text: str, *, utf8: bool = True) -> str:
    """A peer's or a client's text for a report: one line, nothing that acts, nothing that is markup; ASCII if need
    be.
    """
    line = " ".join(text[:LONGEST].split()) + (" [cut]" if len(text) > LONGEST else "")
    line = _BRACKETS.sub(_harmless, escape(line))
    return line if utf8 else line.encode("ascii", "backslashreplace").decode("ascii")


def _harmless(match: re.Match[str]) -> str:
    if match["address"]:
        return match[0]
    return "&lt;" if match[0] == "<" else "&gt;"


def _about(action: Action, told: Told) -> Iterator[str]:
    yield f"  {safe(told.recipient.address)}"
    server = f"The server {safe(told.mx)}" if told.mx else "The server"
    if told.reply:
        yield from _wrapped(f"{server} said:", indent=4)
        yield from _wrapped(safe(told.reply), indent=6)
    if told.detail:
        yield from _wrapped(safe(told.detail), indent=4)
    if action is Action.DELAYED and told.retry_until:
        yield f"    It will be tried until {format_date(told.retry_until)}."
    if action is Action.FAILED:
        yield from _wrapped(_advice(told.category), indent=4)


def _advice(category: str) -> str:
    known = category in set(Category)
    return _ADVICE[Category(category)] if known else "What to do: check the address, or send it again later."


def _message(message: Reported) -> Iterator[str]:
    if message.subject:
        yield from _wrapped("Subject:  " + safe(message.subject), indent=2)
    if message.header_message_id:
        yield from _wrapped("Message-ID: " + safe(message.header_message_id), indent=2)
    yield f"  Accepted: {format_date(message.accepted_at)}"
    yield f"  Our id:   {message.id}"


def _wrapped(text: str, *, indent: int = 0) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)
