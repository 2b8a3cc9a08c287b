"""Delivery reports, read back by a parser that is not ours: every part, every field, and what peers might try."""

import email
import re
from dataclasses import dataclass, replace
from email import policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.dsn import Action, Told, build
from relay.mail.envelope import Recipient

ACCEPTED = 1_800_000_000.0
HEADER = b"From: Alice <alice@example.com>\r\nSubject: Hello\r\nMessage-ID: <hello@example.com>\r\n"


@dataclass(frozen=True)
class Message:
    id: str = "01hf4x8k2000abc"
    sender: str = "alice@example.com"
    accepted_at: float = ACCEPTED
    envid: str = ""
    subject: str = "Hello"
    header_message_id: str = "<hello@example.com>"


MESSAGE = Message()
BOB = Recipient("bob@example.org")
REFUSED = Told(
    BOB,
    reply="550 5.1.1 <bob@example.org>: No such user",
    category="bad_mailbox",
    mx="mx.example.org[192.0.2.1]:25",
    attempted_at=ACCEPTED + 60,
)


def octets(
    *told: Told,
    action: Action = Action.FAILED,
    message: Message = MESSAGE,
    original: bytes = HEADER + b"\r\n",
    whole: bool = False,
) -> bytes:
    return build(
        action=action,
        told=told or (REFUSED,),
        message=message,
        original=original,
        whole=whole,
        reporter="relay.example.net",
        postmaster="postmaster@example.com",
        message_id="<01hf4x9@relay.example.net>",
        now=ACCEPTED + 61,
    )


def parsed(report: bytes) -> EmailMessage:
    found = email.message_from_bytes(report, policy=policy.SMTP)
    assert isinstance(found, EmailMessage)
    assert not found.defects
    return found


def parts(report: bytes) -> list[EmailMessage]:
    found = parsed(report).get_payload()
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, EmailMessage)]


def words(report: bytes) -> str:
    content = parts(report)[0].get_content()
    assert isinstance(content, str)
    return content


def blocks(report: bytes) -> list[dict[str, str]]:
    """The message's fields and each recipient's, unfolded."""
    (part,) = re.findall(
        rb"Content-Type: message/(?:global-)?delivery-status\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--=_", report, re.DOTALL
    )
    text = re.sub(r"\r\n[ \t]", " ", part.decode())
    return [
        dict(line.split(": ", 1) for line in block.strip().split("\r\n")) for block in text.strip().split("\r\n\r\n")
    ]


def test_the_header() -> None:
    report = parsed(octets())
    assert {name: str(value) for name, value in report.items()} == {
        "Date": "Fri, 15 Jan 2027 08:01:01 +0000",
        "From": "Mail Delivery <postmaster@example.com>",
        "To": "alice@example.com",
        "Subject": "Not delivered: your message to bob@example.org",
        "Message-ID": "<01hf4x9@relay.example.net>",
        "In-Reply-To": "<hello@example.com>",
        "References": "<hello@example.com>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": str(report["Content-Type"]),
    }
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"


def test_the_three_parts() -> None:
    assert [part.get_content_type() for part in parts(octets())] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_the_fields_of_a_failure() -> None:
    message = replace(MESSAGE, envid="QQ+2B7")
    told = replace(REFUSED, recipient=Recipient("bob@example.org", orcpt="rfc822;bob+2Btag@example.net"))
    assert blocks(octets(told, message=message)) == [
        {
            "Original-Envelope-Id": "QQ+7",
            "Reporting-MTA": "dns; relay.example.net",
            "Arrival-Date": "Fri, 15 Jan 2027 08:00:00 +0000",
            "X-Relay-Queue-Id": "01hf4x8k2000abc",
        },
        {
            "Original-Recipient": "rfc822; bob+tag@example.net",
            "Final-Recipient": "rfc822; bob@example.org",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.example.org",
            "Diagnostic-Code": "smtp; 550 5.1.1 <bob@example.org>: No such user",
            "Last-Attempt-Date": "Fri, 15 Jan 2027 08:01:00 +0000",
        },
    ]


def test_the_stdlib_reads_the_same_fields() -> None:
    status = parts(octets(REFUSED, replace(REFUSED, recipient=Recipient("carol@example.org"))))[1]
    payload = status.get_payload()
    assert isinstance(payload, list)
    assert [block["Final-Recipient"] for block in payload[1:] if isinstance(block, EmailMessage)] == [
        "rfc822; bob@example.org",
        "rfc822; carol@example.org",
    ]


@pytest.mark.parametrize(
    ("action", "told", "fields", "subject"),
    [
        pytest.param(
            Action.DELAYED,
            replace(REFUSED, reply="451 4.7.1 Not now", retry_until=ACCEPTED + 3600),
            {"Action": "delayed", "Status": "4.7.1", "Will-Retry-Until": "Fri, 15 Jan 2027 09:00:00 +0000"},
            "Delayed: your message to bob@example.org",
            id="delayed",
        ),
        pytest.param(
            Action.RELAYED,
            replace(REFUSED, reply="250 2.0.0 Ok: queued"),
            {"Action": "relayed", "Status": "2.0.0", "Diagnostic-Code": "smtp; 250 2.0.0 Ok: queued"},
            "Handed on: your message to bob@example.org",
            id="relayed to a server without DSN (RFC 3461 5.2)",
        ),
        pytest.param(
            Action.DELIVERED,
            replace(REFUSED, reply="250 2.1.5 Ok"),
            {"Action": "delivered", "Status": "2.1.5"},
            "Delivered: your message to bob@example.org",
            id="delivered, where that was asked",
        ),
        pytest.param(
            Action.FAILED,
            replace(REFUSED, reply="451 4.7.1 Not now", status="4.4.7", detail="It was tried for 5 days."),
            {"Action": "failed", "Status": "4.4.7", "Diagnostic-Code": "smtp; 451 4.7.1 Not now"},
            "Not delivered: your message to bob@example.org",
            id="expired",
        ),
        pytest.param(
            Action.FAILED,
            Told(BOB, detail="The domain example.org does not exist.", status="5.1.2"),
            {"Status": "5.1.2", "Diagnostic-Code": "x-relay; The domain example.org does not exist."},
            "Not delivered: your message to bob@example.org",
            id="no server was asked",
        ),
    ],
)
def test_each_action(action: Action, told: Told, fields: dict[str, str], subject: str) -> None:
    report = octets(told, action=action)
    recipient = blocks(report)[1]
    assert {name: recipient.get(name, "") for name in fields} == fields
    assert ("Will-Retry-Until" in recipient) is (action is Action.DELAYED)
    assert str(parsed(report)["Subject"]) == subject


@pytest.mark.parametrize(
    ("action", "reply", "status"),
    [
        pytest.param(Action.FAILED, "550 No", "5.0.0", id="a failure without a code"),
        pytest.param(Action.FAILED, "550 5.1.1", "5.1.1", id="a code without a text"),
        pytest.param(Action.FAILED, "450 4.2.2 Full", "4.2.2", id="a failure after 4xx keeps its class"),
        pytest.param(Action.DELAYED, "421 Bye", "4.0.0", id="a delay without a code"),
        pytest.param(Action.DELAYED, "550 5.7.1 Not from there", "4.0.0", id="a delay is of class 4"),
        pytest.param(Action.RELAYED, "250 Ok", "2.0.0", id="a success without a code"),
    ],
)
def test_a_status_fits_its_action(action: Action, reply: str, status: str) -> None:
    assert blocks(octets(replace(REFUSED, reply=reply), action=action))[1]["Status"] == status


def test_the_words_say_what_happened_and_what_to_do() -> None:
    text = words(octets())
    for sentence in (
        "This is the mail relay relay.example.net.",
        "Your message could not be delivered. It will not be tried again.",
        "  bob@example.org",
        "The server mx.example.org[192.0.2.1]:25 said:",
        "550 5.1.1 <bob@example.org>: No such user",
        "What to do: check the address.",
        "Subject:  Hello",
        "Our id:   01hf4x8k2000abc",
    ):
        assert sentence in text
    assert all(len(line) <= 76 for line in text.splitlines())


@pytest.mark.parametrize("category", ["", "odd", "reputation", "mailbox_full", "too_big", "system", "spam_content"])
def test_every_failure_has_advice(category: str) -> None:
    assert "What to do: " in words(octets(replace(REFUSED, category=category)))


def test_several_recipients_are_told_of_together() -> None:
    report = octets(REFUSED, replace(REFUSED, recipient=Recipient("carol@example.org"), reply="552 5.2.2 Full"))
    assert str(parsed(report)["Subject"]) == "Not delivered: your message to 2 recipients"
    assert [block["Status"] for block in blocks(report)[1:]] == ["5.1.1", "5.2.2"]
    assert "carol@example.org" in words(report)


NASTY = "550 5.1.1 \x1b[31mred\x1b[0m\r\nBcc: x@example.com\r\n\r\n--=_x <script>alert(1)</script> \u202e\u4f60 \x00"


def test_a_peers_text_is_harmless() -> None:
    report = octets(
        replace(REFUSED, reply=NASTY, detail=NASTY, mx="<b>\r\nX: y"), message=replace(MESSAGE, subject=NASTY)
    )
    assert report.isascii()
    assert b"\x1b" not in report and b"\x00" not in report
    assert b"<script" not in report and b"\r\nBcc" not in report and b"\r\nX: y" not in report
    assert blocks(report)[1]["Diagnostic-Code"].endswith("&lt;script&gt;alert(1)&lt;/script&gt; \\u202e\\u4f60 \\x00")
    assert "Remote-MTA" not in blocks(report)[1]
    assert "\u4f60" in words(report) and "\u202e" not in words(report)


@pytest.mark.parametrize("text", ["x" * 100, "a " * 100 + "x" * 100 + " b", "x" * 240 + " " + "y" * 240])
def test_a_long_field_is_folded_at_its_spaces(text: str) -> None:
    assert blocks(octets(replace(REFUSED, reply=f"550 {text}")))[1]["Diagnostic-Code"] == f"smtp; 550 {text}"


def test_a_reply_without_end_is_cut() -> None:
    code = blocks(octets(replace(REFUSED, reply="550 " + "x" * 40_000)))[1]["Diagnostic-Code"]
    assert len(code) < 2100 and code.endswith("[cut]")


@pytest.mark.parametrize(
    "envid", ["caf+C3+A9", "+0D+0AX: y", "\u00e9"], ids=["not ASCII", "a line end", "never was xtext"]
)
def test_an_envelope_id_that_no_field_could_carry_is_left_out(envid: str) -> None:
    assert "Original-Envelope-Id" not in blocks(octets(message=replace(MESSAGE, envid=envid)))[0]


@pytest.mark.parametrize("orcpt", ["", "rfc822", "rfc822;", "rfc822;a+0D+0Ab", "rfc822;\u00e9"])
def test_an_original_recipient_that_no_field_could_carry_is_left_out(orcpt: str) -> None:
    told = replace(REFUSED, recipient=Recipient("bob@example.org", orcpt=orcpt))
    assert "Original-Recipient" not in blocks(octets(told))[1]


@pytest.mark.parametrize("identifier", ["", "none", "<a b@x>", "<a@b>\r\nBcc: x@y", "<" + "a" * 400 + "@b>"])
def test_a_message_id_that_is_none_threads_nothing(identifier: str) -> None:
    report = parsed(octets(message=replace(MESSAGE, header_message_id=identifier)))
    assert report["In-Reply-To"] is None and report["References"] is None and report["Bcc"] is None


# --- What is returned of the message


def test_the_headers_are_returned_as_they_are() -> None:
    assert parts(octets())[2].get_payload() == HEADER.decode()


def test_headers_with_other_octets_are_encoded() -> None:
    header = HEADER + "X: caf\u00e9 ".encode() + b"x" * 2000 + b"\r\n"
    report = octets(original=header + b"\r\n")
    part = parts(report)[2]
    assert part["Content-Transfer-Encoding"] == "quoted-printable"
    assert part.get_payload(decode=True) == header
    assert report.isascii()


WHOLE = HEADER + b"\r\nHello,\r\n\r\n.\r\nFrom here to there\r\n"


def test_all_is_returned_where_that_was_asked_and_fits() -> None:
    report = octets(original=WHOLE, whole=True)
    part = parts(report)[2]
    assert part.get_content_type() == "message/rfc822"
    assert WHOLE in report


@pytest.mark.parametrize(
    "original",
    [
        pytest.param(HEADER + b"\r\ncaf\xc3\xa9\r\n", id="8-bit"),
        pytest.param(HEADER + b"\r\n" + b"x" * 999 + b"\r\n", id="a long line"),
        pytest.param(HEADER + b"\r\na\nb\r\n", id="a bare LF"),
        pytest.param(HEADER + b"\r\na\x00b\r\n", id="a NUL"),
    ],
)
def test_what_is_not_seven_bit_mail_is_cut_to_its_headers(original: bytes) -> None:
    report = octets(original=original, whole=True)
    part = parts(report)[2]
    assert part.get_content_type() == "text/rfc822-headers"
    assert part.get_payload() == HEADER.decode()


# --- RFC 6533


def test_a_utf8_recipient_is_told_to_an_ascii_sender_in_ascii() -> None:
    told = replace(REFUSED, recipient=Recipient("b\u00e4r+x@example.org", orcpt="utf-8;b\\x{E4}r@example.org"))
    report = octets(told)
    assert report.isascii()
    recipient = blocks(report)[1]
    assert recipient["Final-Recipient"] == "utf-8; b\\x{E4}r\\x{2B}x@example.org"
    assert recipient["Original-Recipient"] == "utf-8; b\\x{E4}r@example.org"
    assert "b\u00e4r+x@example.org" in words(report)


def test_a_utf8_sender_is_told_in_utf8() -> None:
    message = replace(MESSAGE, sender="z\u00f6e@example.com")
    told = replace(REFUSED, recipient=Recipient("b\u00e4r@example.org", orcpt="utf-8;b\u00e4r@example.org"))
    header = HEADER + "X: caf\u00e9\r\n".encode()
    report = octets(told, message=message, original=header + b"\r\n")
    assert [part.get_content_type() for part in parts(report)] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global-headers",
    ]
    assert parsed(report).get_param("report-type") == "global-delivery-status"
    assert "\r\nTo: <z\u00f6e@example.com>\r\n".encode() in report
    assert blocks(report)[1]["Final-Recipient"] == "utf-8; b\u00e4r@example.org"
    assert blocks(report)[1]["Original-Recipient"] == "utf-8; b\u00e4r@example.org"
    assert header in report


def test_a_utf8_sender_gets_all_of_a_utf8_message() -> None:
    original = HEADER + "X: caf\u00e9\r\n\r\ncaf\u00e9\r\n".encode()
    report = octets(message=replace(MESSAGE, sender="z\u00f6e@example.com"), original=original, whole=True)
    assert parts(report)[2].get_content_type() == "message/global"
    assert original in report


# --- What holds for all


def test_the_null_sender_gets_no_report() -> None:
    with pytest.raises(ValueError, match="nobody to report to"):
        octets(message=replace(MESSAGE, sender=""))


def test_no_recipient_is_no_report() -> None:
    with pytest.raises(ValueError, match="nothing to report"):
        build(
            action=Action.FAILED,
            told=(),
            message=MESSAGE,
            original=HEADER,
            whole=False,
            reporter="r",
            postmaster="p@x",
            message_id="<a@b>",
            now=0.0,
        )


def test_a_boundary_is_in_no_part() -> None:
    boundary = re.search(rb'boundary="=_([0-9a-f]+)"', octets())
    assert boundary is not None
    report = octets(original=HEADER + b"X: " + boundary[1] + b"\r\n\r\n")
    assert len(parts(report)) == 3
    assert re.search(rb'boundary="=_([0-9a-f]+)"', report)[1] != boundary[1]  # type: ignore[index]


texts = st.text(max_size=400)


@given(
    reply=texts,
    detail=texts,
    subject=texts,
    mx=texts,
    identifier=texts,
    envid=st.text(max_size=60),
    original=st.binary(max_size=400),
    whole=st.booleans(),
    action=st.sampled_from(Action),
)
def test_any_report_is_clean_and_can_be_read(  # noqa: PLR0917 -- one argument for each thing a stranger may write
    reply: str,
    detail: str,
    subject: str,
    mx: str,
    identifier: str,
    envid: str,
    original: bytes,
    whole: bool,
    action: Action,
) -> None:
    told = replace(REFUSED, reply=reply, detail=detail, mx=mx)
    message = replace(MESSAGE, subject=subject, header_message_id=identifier, envid=envid)
    report = octets(told, action=action, message=message, original=original, whole=whole)
    assert report.isascii()
    assert not re.search(rb"[^\t\r\n -~]|\r(?!\n)|(?<!\r)\n", report)
    assert max(len(line) for line in report.split(b"\r\n")) <= 998
    assert len(blocks(report)) == 2
    assert len(parts(report)) == 3
    assert report == octets(told, action=action, message=message, original=original, whole=whole)
