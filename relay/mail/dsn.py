"""mail.dsn: a delivery status notification (RFC 3464) as octets, ready to be completed, signed and sent.

multipart/report (RFC 6522) of three parts: words for a person (`mail.dsn_text`), message/delivery-status for
programs, and the headers of the original, or all of it when RET=FULL was asked and it fits. It is an automatic reply
(RFC 3834: Auto-Submitted), from postmaster, to the envelope sender; the envelope's null sender is the caller's to
set. A bounce is never bounced: a message with the null sender gets no report (ValueError).

The report is 7-bit clean whatever it is about: what a peer wrote is escaped, headers with other octets become
quoted-printable (RFC 6522 4), UTF-8 addresses the ASCII form of RFC 6533 3, and a whole message that is not 7-bit is
cut to its headers. Only a sender whose own address needs SMTPUTF8 is written to in UTF-8, with
message/global-delivery-status and its kin. Every line ends in CRLF and none has more than 998 octets.

Deterministic: the same values give the same octets; the boundary is derived from the message id.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence

from relay.mail.date import format_date
from relay.mail.dsn_text import Action, Reported, Told, safe, subject_of, text_of

__all__ = ["Action", "Reported", "Told", "build"]

LINE_LIMIT = 998  # RFC 5322 2.1.1
FOLD = 76

_STATUS = re.compile(r"\d{3} ([245]\.\d{1,3}\.\d{1,3})(?: |$)")
_DEFAULT_STATUS = {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0", Action.DELIVERED: "2.0.0", Action.RELAYED: "2.0.0"}
_CLASSES = {Action.FAILED: "45", Action.DELAYED: "4", Action.DELIVERED: "2", Action.RELAYED: "2"}
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{3,250}>")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_NOT_CLEAN = re.compile(rb"[^\t\r\n -~]|\r(?!\n)|(?<!\r)\n")


def build(
    *,
    action: Action,
    told: Sequence[Told],
    message: Reported,
    original: bytes,
    whole: bool,
    reporter: str,
    postmaster: str,
    message_id: str,
    now: float,
) -> bytes:
    """The report as octets: header, empty line, body; CRLF.

    told: at least one recipient. original: the message's header as stored, and its body too when `whole`. reporter:
    our name. postmaster: the From address. message_id: the report's own, with its angle brackets. now: POSIX seconds,
    its Date.
    """
    if not message.sender or not told:
        raise ValueError("there is nobody to report to, or nothing to report")
    utf8 = not message.sender.isascii()
    text = text_of(action, told, message, reporter=reporter)
    parts = [
        _text_part(_crlf(text), utf8=utf8),
        _part(_status_type(utf8=utf8), _status_fields(action, told, message, reporter=reporter, utf8=utf8)),
        _returned(original, whole=whole, utf8=utf8),
    ]
    boundary = _boundary(message_id, parts)
    header = [
        f"Date: {format_date(now)}",
        f"From: Mail Delivery <{postmaster}>",
        f"To: <{message.sender}>",
        f"Subject: {subject_of(action, told, utf8=utf8)}",
        f"Message-ID: {message_id}",
        *_thread(message.header_message_id),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type={_report_type(utf8=utf8)};\n boundary="{boundary}"',
    ]
    return _crlf("\n".join(header) + "\n\n") + _multipart(parts, boundary)


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8")


def _thread(header_message_id: str) -> Iterator[str]:
    """RFC 3834 3.1.8, as far as the client's Message-ID is one."""
    if _MESSAGE_ID.fullmatch(header_message_id):
        yield f"In-Reply-To: {header_message_id}"
        yield f"References: {header_message_id}"


def _report_type(*, utf8: bool) -> str:
    return "global-delivery-status" if utf8 else "delivery-status"


def _status_type(*, utf8: bool) -> str:
    return "message/global-delivery-status\nContent-Transfer-Encoding: 8bit" if utf8 else "message/delivery-status"


def _text_part(text: bytes, *, utf8: bool) -> bytes:
    if text.isascii():
        return _part("text/plain; charset=us-ascii", text)
    if utf8:
        return _part("text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit", text)
    return _part("text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable", _quoted_printable(text))


def _part(content_type: str, body: bytes) -> bytes:
    return _crlf(f"Content-Type: {content_type}\n\n") + body


def _multipart(parts: Sequence[bytes], boundary: str) -> bytes:
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"


def _boundary(message_id: str, parts: Sequence[bytes]) -> str:
    """Derived from the message id, again until no part has it."""
    digest = hashlib.sha256(message_id.encode()).hexdigest()
    while any(digest[:32].encode() in part for part in parts):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return f"=_{digest[:32]}"


# --- message/delivery-status


def _status_fields(action: Action, told: Sequence[Told], message: Reported, *, reporter: str, utf8: bool) -> bytes:
    blocks = [_message_block(message, reporter)]
    blocks += [_recipient_block(action, each, utf8=utf8) for each in told]
    return _crlf("\n".join("".join(f"{_folded(field)}\n" for field in block) for block in blocks))


def _message_block(message: Reported, reporter: str) -> Iterator[str]:
    """RFC 3464 2.2."""
    envid = _unxtext(message.envid)
    if envid:
        yield f"Original-Envelope-Id: {envid}"
    yield f"Reporting-MTA: dns; {reporter}"
    yield f"Arrival-Date: {format_date(message.accepted_at)}"
    yield f"X-Relay-Queue-Id: {message.id}"


def _recipient_block(action: Action, told: Told, *, utf8: bool) -> Iterator[str]:
    """RFC 3464 2.3."""
    original = _original_recipient(told.recipient.orcpt, utf8=utf8)
    if original:
        yield f"Original-Recipient: {original}"
    yield f"Final-Recipient: {_typed(told.recipient.address, utf8=utf8)}"
    yield f"Action: {action}"
    yield f"Status: {_status(action, told)}"
    host = _HOST.match(told.mx)
    if host:
        yield f"Remote-MTA: dns; {host[0]}"
    if told.reply:
        yield f"Diagnostic-Code: smtp; {safe(told.reply, utf8=utf8)}"
    elif told.detail:
        yield f"Diagnostic-Code: x-relay; {safe(told.detail, utf8=utf8)}"
    if told.attempted_at:
        yield f"Last-Attempt-Date: {format_date(told.attempted_at)}"
    if action is Action.DELAYED and told.retry_until:
        yield f"Will-Retry-Until: {format_date(told.retry_until)}"


def _status(action: Action, told: Told) -> str:
    """The code given, or the reply's, where its class suits the action (RFC 3464 2.3.4); a failure may be of class 4:
    expired.
    """
    match = _STATUS.match(told.reply)
    for status in (told.status, match[1] if match else ""):
        if status[:1] and status[0] in _CLASSES[action]:
            return status
    return _DEFAULT_STATUS[action]


def _typed(address: str, *, utf8: bool) -> str:
    """An address with its type: rfc822, or utf-8 (RFC 6533 3) in UTF-8 where that can be sent, else in its ASCII
    form.
    """
    if address.isascii():
        return f"rfc822; {address}"
    return f"utf-8; {address if utf8 else _ascii_form(address)}"


def _ascii_form(address: str) -> str:
    r"""utf-8-addr-xtext: every character but plain ASCII, and "\", "+", "=", is \x{HEX}."""
    return "".join(
        letter if "!" <= letter <= "~" and letter not in "\\+=" else f"\\x{{{ord(letter):02X}}}" for letter in address
    )


def _original_recipient(orcpt: str, *, utf8: bool) -> str:
    """ORCPT as it was given, its xtext undone (RFC 3461 4.2; the utf-8 type has its own encoding)."""
    kind, _, value = orcpt.partition(";")
    if not value:
        return ""
    if kind.lower() == "utf-8":
        return f"utf-8; {value if utf8 or value.isascii() else _ascii_form(value)}"
    decoded = _unxtext(value)
    return f"{kind}; {decoded}" if decoded else ""


def _unxtext(value: str) -> str:
    """RFC 3461 4: "+2B" is "+". "" where what comes out is not printable ASCII, which a field could not carry."""
    decoded = _HEX.sub(lambda match: chr(int(match[1], 16)), value)
    return decoded if decoded.isascii() and decoded.isprintable() else ""


def _folded(field: str) -> str:
    """Folded at spaces after 76 columns, by force before 998 octets (RFC 5322 2.2.3, 2.1.1)."""
    lines: list[str] = []
    rest = field
    while len(rest) > FOLD:
        space = rest.rfind(" ", 1, FOLD + 1)
        if space <= 1 or not rest[:space].strip():
            space = rest.find(" ", FOLD)
        cut = space if 0 < space <= LINE_LIMIT // 4 else min(len(rest), LINE_LIMIT // 4)
        if cut == len(rest):
            break
        lines.append(rest[:cut])
        rest = " " + rest[cut:].removeprefix(" ")
    return "\n".join([*lines, rest])


# --- The original message


def _returned(original: bytes, *, whole: bool, utf8: bool) -> bytes:
    header, separator, _ = original.partition(b"\r\n\r\n")
    clean = _is_clean(original)
    if whole and separator and clean:
        return _part("message/rfc822", original)
    if whole and separator and utf8 and _is_short(original):
        return _part("message/global\nContent-Transfer-Encoding: 8bit", original)
    return _headers_only(header.removesuffix(b"\r\n") + b"\r\n", utf8=utf8)


def _headers_only(header: bytes, *, utf8: bool) -> bytes:
    if _is_clean(header):
        return _part("text/rfc822-headers", header)
    if utf8 and _is_short(header):
        return _part("message/global-headers\nContent-Transfer-Encoding: 8bit", header)
    return _part("text/rfc822-headers\nContent-Transfer-Encoding: quoted-printable", _quoted_printable(header))


def _is_short(octets: bytes) -> bool:
    return all(len(line) <= LINE_LIMIT for line in octets.split(b"\r\n"))


def _is_clean(octets: bytes) -> bool:
    return _NOT_CLEAN.search(octets) is None and _is_short(octets)


def _quoted_printable(octets: bytes) -> bytes:
    lines = octets.split(b"\r\n")
    return b"\r\n".join(binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in lines)
