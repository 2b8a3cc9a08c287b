"""mail.esmtp: the arguments of MAIL and RCPT (RFC 5321 4.1.1.2, 4.1.1.3, 4.1.2) and the parameters Relay offers.

MAIL: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET and ENVID (RFC 3461), AUTH (RFC 4954 5, ignored: nobody
but the credential says who submits). RCPT: NOTIFY and ORCPT (RFC 3461). Keywords and closed values are taken in any
case; ENVID and ORCPT are kept to the letter, still xtext, because they are sent on as they came.

What is wrong raises `SyntaxRefused`, which carries the reply to send: 501 5.1.7 / 5.1.3 for an address, 501 5.5.4 for a
bad value, 555 5.5.4 for a parameter not offered, 553 5.6.7 for a UTF-8 address without SMTPUTF8 (RFC 6531 3.5).
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from msgspec import Struct

from relay.mail.address import AddressError, parse_path
from relay.mail.envelope import Recipient
from relay.mail.reply import Reply

ENVID_LIMIT = 100  # RFC 3461 4.4
ORCPT_LIMIT = 500  # RFC 3461 4.2
SIZE_DIGITS = 20  # RFC 1870 3: 1*20DIGIT

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})++")  # RFC 3461 4; UTF-8 in it only as unitext
_UNITEXT = re.compile(rb"(?:[!-*,-<>-~\x80-\xff]|\+[0-9A-F]{2})++")  # RFC 6533 3, utf-8-addr-unitext
_VALUE = re.compile(rb"[!-<>-~\x80-\xff]++")  # RFC 5321 4.1.2, esmtp-value; RFC 6531 3.3
_PARAMETER = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*+(?:=[!-<>-~\x80-\xff]++)?")  # esmtp-param
_POSTMASTER = re.compile(rb" *+<postmaster>", re.IGNORECASE)
_OF_MAIL = frozenset({b"SIZE", b"BODY", b"SMTPUTF8", b"RET", b"ENVID", b"AUTH"})
_OF_RCPT = frozenset({b"NOTIFY", b"ORCPT"})
_BODY = {b"7BIT": "7BIT", b"8BITMIME": "8BITMIME"}
_RET = {b"FULL": "FULL", b"HDRS": "HDRS"}
_NOTIFY = frozenset({b"SUCCESS", b"FAILURE", b"DELAY"})
_ADDRESS_TYPE = re.compile(rb"[A-Za-z0-9.-]++")  # RFC 3461 4.2 addr-type, an atom


class SyntaxRefused(ValueError):
    """MAIL or RCPT cannot be taken as written; `reply` says why and is sent as it is."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class MailCommand(Struct, frozen=True):
    """size: octets as declared. body: "7BIT", "8BITMIME" or "". ret: "FULL", "HDRS" or "". envid: xtext or ""."""

    sender: str
    size: int | None = None
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


def parse_mail(argument: bytes) -> MailCommand:
    """What follows "MAIL FROM:". Raises SyntaxRefused."""
    try:
        sender, rest = parse_path(argument)
    except AddressError as error:
        raise _refused(501, "5.1.7", f"Sender: {error}") from None
    parameters = _parameters(rest, known=_OF_MAIL) if rest else {}
    smtputf8 = b"SMTPUTF8" in parameters
    if not smtputf8 and not sender.isascii():
        raise _refused(553, "5.6.7", "Sender: a UTF-8 address needs the parameter SMTPUTF8")
    if not parameters:
        return MailCommand(sender)
    if parameters.get(b"SMTPUTF8"):
        raise _bad("SMTPUTF8 takes no value")
    return MailCommand(
        sender,
        size=_size(parameters[b"SIZE"]) if b"SIZE" in parameters else None,
        body=_one_of(parameters, b"BODY", _BODY) if b"BODY" in parameters else "",
        smtputf8=smtputf8,
        ret=_one_of(parameters, b"RET", _RET) if b"RET" in parameters else "",
        envid=_envid(parameters[b"ENVID"]) if b"ENVID" in parameters else "",
    )


def parse_rcpt(argument: bytes, *, smtputf8: bool, home: str = "") -> Recipient:
    """What follows "RCPT TO:". smtputf8: MAIL said SMTPUTF8. home: the domain whose postmaster <Postmaster> is, the one
    recipient that has no domain (RFC 5321 4.1.1.3, 4.5.1). Raises SyntaxRefused.
    """
    try:
        address, rest = parse_path(_with_domain(argument, home) if home and _POSTMASTER.match(argument) else argument)
    except AddressError as error:
        raise _refused(501, "5.1.3", f"Recipient: {error}") from None
    if not address:
        raise _refused(501, "5.1.3", "Recipient: the address is empty; only a sender may be <>")
    if not smtputf8 and not address.isascii():
        raise _refused(553, "5.6.7", "Recipient: a UTF-8 address needs SMTPUTF8 on MAIL")
    if not rest:
        return Recipient(address)
    parameters = _parameters(rest, known=_OF_RCPT)
    notify = _notify(parameters[b"NOTIFY"]) if b"NOTIFY" in parameters else ""
    orcpt = _orcpt(parameters[b"ORCPT"], smtputf8=smtputf8) if b"ORCPT" in parameters else ""
    return Recipient(address, notify, orcpt)


def _with_domain(argument: bytes, home: str) -> bytes:
    """<Postmaster> as an address."""
    return argument.replace(b">", b"@%b>" % home.encode(), 1)


def _parameters(rest: bytes, *, known: AbstractSet[bytes]) -> dict[bytes, bytes]:
    """Keyword in upper case → value, b"" when it has none."""
    found: dict[bytes, bytes] = {}
    for word in rest.split(b" "):
        if not word:
            continue
        written, equals, value = word.partition(b"=")
        keyword = written.upper()
        if keyword not in known or (equals and _VALUE.fullmatch(value) is None):
            raise _no_parameter(word)
        if keyword in found:
            raise _bad(f"The parameter {_shown(keyword)} is given twice")
        found[keyword] = value
    return found


def _no_parameter(word: bytes) -> SyntaxRefused:
    if _PARAMETER.fullmatch(word) is None:
        return _bad(f'"{_shown(word)}" is no parameter; write KEYWORD or KEYWORD=value')
    return _refused(555, "5.5.4", f"The parameter {_shown(word.partition(b'=')[0].upper())} is not offered here")


def _size(value: bytes) -> int:
    if not value.isdigit() or len(value) > SIZE_DIGITS:
        raise _bad("SIZE must be a number of octets")
    return int(value)


def _one_of(parameters: dict[bytes, bytes], keyword: bytes, values: Mapping[bytes, str]) -> str:
    value = values.get(parameters[keyword].upper())
    if value is None:
        raise _bad(f"{keyword.decode()} must be {' or '.join(values.values())}")
    return value


def _envid(value: bytes) -> str:
    if len(value) > ENVID_LIMIT or _XTEXT.fullmatch(value) is None:
        raise _bad(f"ENVID must be xtext of at most {ENVID_LIMIT} characters")
    return value.decode("ascii")


def _notify(value: bytes) -> str:
    words = value.upper().split(b",")
    if words != [b"NEVER"] and len(words) != len(_NOTIFY.intersection(words)):
        raise _bad("NOTIFY must be NEVER, or SUCCESS, FAILURE and DELAY separated by commas")
    return b",".join(words).decode("ascii")


def _orcpt(value: bytes, *, smtputf8: bool) -> str:
    kind, _, address = value.partition(b";")
    form = _UNITEXT if smtputf8 and kind.lower() == b"utf-8" else _XTEXT
    if len(value) > ORCPT_LIMIT or _ADDRESS_TYPE.fullmatch(kind) is None or form.fullmatch(address) is None:
        raise _bad(f"ORCPT must be TYPE;xtext of at most {ORCPT_LIMIT} characters, such as rfc822;user@example.com")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad("ORCPT is not UTF-8") from None


def _shown(word: bytes) -> str:
    return word[:60].decode("utf-8", "backslashreplace")


def _bad(text: str) -> SyntaxRefused:
    return _refused(501, "5.5.4", text)


def _refused(code: int, status: str, text: str) -> SyntaxRefused:
    return SyntaxRefused(Reply(code, status, text))
