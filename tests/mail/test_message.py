"""A header parsed, refused, completed; nothing of it altered but what is said to be."""

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.message import (
    RECEIVED_LIMIT,
    SIZE_LIMIT,
    Field,
    Header,
    HeaderRefused,
    complete,
    parse_header,
    relay_expires,
    split_content,
)
from relay.mail.reply import Reply

FROM = b"From: Alice <alice@example.com>\r\n"
RECEIVED = b"Received: from x by relay.example.com; Fri, 20 Nov 2026 16:32:33 +0000\r\n"
NOW = 1795192353.25


def completed(header: Header) -> Header:
    return complete(header, received=RECEIVED, now=NOW, hostname="relay.example.com", message_id_token="0123abcd")


def test_a_usual_header() -> None:
    octets = (
        b"Date: Fri, 20 Nov 2026 16:32:33 +0000\r\nFROM: =?utf-8?q?J=C3=B6rg?=\r\n <joerg@Example.com>\r\n"
        b"Subject: =?utf-8?b?R3LDvMOfZQ==?= aus\r\n\tKiel\r\nTo:\r\nX-Empty:\r\n \r\nMessage-ID: <1@example.com> \r\n"
    )
    header = parse_header(octets)
    assert header.encode() == octets + b"\r\n"
    assert header.from_addresses == ("joerg@example.com",)
    assert header.sender_addresses == header.resent_addresses == ()
    assert header.subject == "Grüße aus Kiel"
    assert header.message_id == "<1@example.com>"
    assert header.first(b"from") == Field(b"from", b"FROM: =?utf-8?q?J=C3=B6rg?=\r\n <joerg@Example.com>\r\n")
    assert header.first(b"to") == Field(b"to", b"To:\r\n")
    assert header.first(b"cc") is None
    assert [field.name for field in header.fields] == [b"date", b"from", b"subject", b"to", b"x-empty", b"message-id"]


def test_the_fields_of_a_name_in_order() -> None:
    header = parse_header(b"To: a@b.example\r\n" + FROM + b"tO: c@d.example\r\n")
    assert [field.value for field in header.all(b"to")] == ["a@b.example", "c@d.example"]
    assert header.subject == header.message_id == ""


def test_octets_over_127_are_let_through_in_values() -> None:
    header = parse_header("From: Jörg <a@b.example>\r\nSubject: Grüße\r\n".encode() + b"X: \xff\xfe\r\n")
    assert header.subject == "Grüße"
    assert parse_header(b"From: a@b.example\r\nSubject: \xe9t\xe9\x9b\r\n").subject == "\\xe9t\\xe9\\x9b"


def test_sender_and_resent_addresses() -> None:
    header = parse_header(
        FROM
        + b"Sender: bob@example.com\r\nResent-From: c@example.com, d@example.com\r\nResent-Sender: e@example.com\r\n"
        b"Resent-From: f@example.com\r\n"
    )
    assert header.sender_addresses == ("bob@example.com",)
    assert header.resent_addresses == tuple(f"{name}@example.com" for name in "cdef")


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        pytest.param(b"", "There is no From field", id="no header at all"),
        pytest.param(b"To: a@b.example\r\n", "There is no From field", id="no From"),
        pytest.param(FROM * 2, "more than one From", id="two From fields"),
        pytest.param(FROM + b"fRoM: x@b.example\r\n", "more than one From", id="two From fields in different case"),
        pytest.param(FROM + b"Sender: a@b.example\r\n" * 2, "more than one Sender", id="two Sender fields"),
        pytest.param(FROM + b"Date: x\r\n" * 2, "more than one Date", id="two Date fields"),
        pytest.param(FROM + b"Message-Id: <x@y>\r\n" * 2, "more than one Message-ID", id="two Message-ID fields"),
        pytest.param(FROM + b"Subject: x\r\n" * 2, "more than one Subject", id="two Subject fields"),
        pytest.param(b"From: a@b.example, c@d.example\r\n", "no Sender field", id="several authors without Sender"),
        pytest.param(b"From:\r\n", "From field has no address", id="an empty From"),
        pytest.param(b"From: nobody:;\r\n", "From field has no address", id="an empty group in From"),
        pytest.param(b"From: alice\r\n", "From field cannot be read", id="a From that is no address"),
        pytest.param(FROM + b"Sender:\r\n", "Sender field must have exactly one", id="an empty Sender"),
        pytest.param(FROM + b"Sender: a@b.example, c@d.example\r\n", "exactly one", id="two mailboxes in Sender"),
        pytest.param(FROM + b"Sender: x y\r\n", "Sender field cannot be read", id="a Sender that is no address"),
        pytest.param(
            FROM + b"Resent-From: x y\r\n", "Resent-From field cannot be read", id="a Resent-From that is none"
        ),
        pytest.param(FROM + b"Received: x\r\n" * (RECEIVED_LIMIT + 1), "in a loop", id="too many Received"),
        pytest.param(FROM + b"X: " + b"y" * SIZE_LIMIT + b"\r\n", "larger than", id="a header too large"),
        pytest.param(FROM + b"no field\r\n", 'Line 2 of the header is no header field: "no field"', id="no colon"),
        pytest.param(
            FROM + b"Subject : x\r\n", "Line 2 of the header has white space before", id="a space before the colon"
        ),
        pytest.param(b"From\t: a@b.example\r\n", "Line 1 of the header has white space", id="a tab before the colon"),
        pytest.param(b" folded\r\n" + FROM, "Line 1 of the header continues a field", id="a fold first"),
        pytest.param(b"From alice Fri Nov 20\r\n" + FROM, "Line 1 of the header is no", id="an mbox line"),
        pytest.param(
            b"From alice@x Fri Nov 20 16:32:33\r\n" + FROM, "is no header field", id="an mbox line with a colon"
        ),
        pytest.param(FROM + b": value\r\n", "Line 2 of the header is no", id="an empty name"),
        pytest.param(FROM + b"Sub ject: x\r\n", "is no header field", id="a space in a name"),
        pytest.param(FROM + "Übject: x\r\n".encode(), "is no header field", id="a name outside ASCII"),
        pytest.param(FROM + "Ｆrom: x@y.example\r\n".encode(), "is no header field", id="a name that looks like From"),
        pytest.param(FROM + b"Subject: a\0b\r\n", "Line 2 of the header has a NUL", id="a NUL"),
        pytest.param(FROM + b"Subject: a\x1bb\r\n", "has a control character", id="a control character"),
        pytest.param(FROM + b"Subject: a\x7fb\r\n", "has a control character", id="DEL"),
        pytest.param(FROM + b"Subject: a\rb\r\n", "Line 2 of the header has a CR or LF alone", id="a CR alone"),
        pytest.param(FROM + b"Subject: a\nFrom: b@c.example\r\n", "has a CR or LF alone", id="an LF alone"),
        pytest.param(FROM + b"Subject: x", "does not end in CRLF", id="no line end at the end"),
        pytest.param(FROM + b"\r\nSubject: x\r\n", "Line 2 of the header is no header field", id="an empty line"),
    ],
)
def test_a_header_is_refused_with_the_line_or_field(octets: bytes, reason: str) -> None:
    with pytest.raises(HeaderRefused, match=re.escape(reason)) as refused:
        parse_header(octets)
    reply = refused.value.reply
    assert reply.code == 550
    assert reply.status == ("5.4.6" if "loop" in reason else "5.6.0")


def test_limits_are_arguments() -> None:
    octets = FROM + b"Received: x\r\n" * 3
    with pytest.raises(HeaderRefused, match="more than 2 Received"):
        parse_header(octets, received_limit=2)
    with pytest.raises(HeaderRefused, match="larger than 50 octets"):
        parse_header(octets, size_limit=50)
    assert len(parse_header(octets, received_limit=3).fields) == 4


def test_completing_adds_what_is_missing_and_drops_what_must_not_leave() -> None:
    header = parse_header(
        FROM
        + b"Bcc: secret@example.com\r\nresent-bcc: s@example.com\r\n b\r\nReturn-Path: <x@y>\r\nRelay-Expires: 10m\r\n"
        b"To: bob@example.org\r\n"
    )
    assert completed(header).encode() == (
        RECEIVED + FROM + b"To: bob@example.org\r\n"
        b"Date: Fri, 20 Nov 2026 16:32:33 +0000\r\nMessage-ID: <0123abcd@relay.example.com>\r\n\r\n"
    )
    assert completed(header).from_addresses == header.from_addresses


def test_completing_leaves_date_and_message_id_that_are_there() -> None:
    octets = b"date: yesterday\r\nMESSAGE-ID:<x>\r\n" + FROM
    assert completed(parse_header(octets)).encode() == RECEIVED + octets + b"\r\n"


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        pytest.param(b"", None, id="none"),
        pytest.param(b"Relay-Expires: 10m\r\n", 600.0, id="minutes"),
        pytest.param(b"relay-expires: 90 s \r\n", 90.0, id="a space before the unit"),
        pytest.param(b"Relay-Expires:4h\r\n", 14400.0, id="hours"),
        pytest.param(b"Relay-Expires:\r\n 2d\r\n", 172800.0, id="days on a folded line"),
    ],
)
def test_relay_expires(field: bytes, seconds: float | None) -> None:
    assert relay_expires(parse_header(FROM + field)) == seconds


@pytest.mark.parametrize("value", ["", "10", "0m", "-1m", "1w", "10 minutes", "1.5h", "٣m", "1m 2s", "9999999999s"])
def test_a_relay_expires_that_is_no_duration_is_refused(value: str) -> None:
    header = parse_header(FROM + f"Relay-Expires: {value}\r\n".encode())
    with pytest.raises(HeaderRefused, match="one duration"):
        relay_expires(header)


def test_two_relay_expires_are_refused() -> None:
    with pytest.raises(HeaderRefused, match="one duration"):
        relay_expires(parse_header(FROM + b"Relay-Expires: 1m\r\n" * 2))


@pytest.mark.parametrize(
    ("data", "header", "body"),
    [
        pytest.param(b"A: b\r\n\r\nbody", b"A: b\r\n", b"body", id="a header and a body"),
        pytest.param(b"A: b\r\n\r\n", b"A: b\r\n", b"", id="an empty body"),
        pytest.param(b"A: b\r\n", b"A: b\r\n", b"", id="all header"),
        pytest.param(b"A: b", b"A: b\r\n", b"", id="all header without a line end"),
        pytest.param(b"\r\nbody", b"", b"body", id="no header"),
        pytest.param(b"\r\n\r\nbody", b"", b"\r\nbody", id="no header and an empty line"),
        pytest.param(b"A: b\r\n\r\n\r\n\r\nx", b"A: b\r\n", b"\r\n\r\nx", id="empty lines in the body stay"),
        pytest.param(b"", b"", b"", id="nothing"),
    ],
)
def test_content_is_split_at_the_first_empty_line(data: bytes, header: bytes, body: bytes) -> None:
    assert split_content(data) == (header, body)


LINES = st.sampled_from([
    *(FROM, b"From: a@b.example\r\n", b"Sender: a@b.example\r\n", b"Subject: x\r\n", b" fold\r\n", b"\t\r\n"),
    *(b"X:\r\n", b"X: \xff\r\n", b"Date: x\r\n", b"Message-ID: <x>\r\n", b"Received: x\r\n", b"From : x\r\n"),
    *(b"\r", b"\n", b"\0", b"Resent-From: a@b.example\r\n", b"Resent-Bcc: x\r\n", b"Return-Path: <>\r\n"),
    *(b": x\r\n", b"junk\r\n", b"Bcc: x\r\n"),
])  # fmt: skip


def header_or_refusal(octets: bytes) -> Header | Reply:
    try:
        return parse_header(octets)
    except HeaderRefused as refused:
        return refused.reply


@given(st.lists(LINES, max_size=12).map(b"".join) | st.binary(max_size=80))
@example(FROM + b"\tfold\r\n")
def test_any_octets_are_a_refusal_or_a_header_that_reads_the_same_again(octets: bytes) -> None:
    header = header_or_refusal(octets)
    if isinstance(header, Reply):
        assert header.code == 550 and header.wire().isascii()
        return
    assert header.encode() == octets + b"\r\n"
    whole = completed(header)
    head, rest = split_content(whole.encode())
    assert rest == b""
    assert parse_header(head) == whole
    assert {b"received", b"date", b"message-id", b"from"} <= {field.name for field in whole.fields}
    assert not {b"bcc", b"resent-bcc", b"return-path", b"relay-expires"} & {field.name for field in whole.fields}


@given(st.text(max_size=200))
@example("=?utf-8?b?" * 50)
def test_any_subject_is_shown_on_one_line(text: str) -> None:
    value = re.sub("[\x00-\x1f\x7f]", " ", text).encode("utf-8", "replace")
    assert not re.search("[\x00-\x1f\x7f-\x9f]", parse_header(FROM + b"Subject:" + value + b"\r\n").subject)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: b"a" * n, id="one line without a colon"),
        pytest.param(lambda n: b"a\r\n" * n, id="lines without a colon"),
        pytest.param(lambda n: b"a:\r\n" * n, id="fields"),
        pytest.param(lambda n: b"A: b\r\n" + b" \r\n" * n, id="folds"),
        pytest.param(lambda n: FROM + b"X:" + b" " * n + b"\r\n", id="spaces"),
        pytest.param(lambda n: b"From: " + b"(" * n + b"\r\n", id="parentheses in From"),
        pytest.param(lambda n: b"From: " + b'"' * n + b"\r\n", id="quotes in From"),
        pytest.param(lambda n: b"From: " + b"\r\n " * n + b"a@b.example\r\n", id="a From folded everywhere"),
        pytest.param(lambda n: FROM + b"Subject: " + b"=?utf-8?q?a?= " * n + b"\r\n", id="encoded words"),
        pytest.param(lambda n: FROM + b"Subject: " + b"=?" * n + b"\r\n", id="encoded words that do not end"),
        pytest.param(lambda n: FROM + b"\r" * n, id="CRs"),
    ],
)
def test_hostile_length_costs_no_more_than_its_share(make: Callable[[int], bytes], linear: Callable[..., None]) -> None:
    def attempt(octets: bytes) -> None:
        try:
            header = parse_header(octets, size_limit=1 << 30)
        except HeaderRefused:
            return
        completed(header).encode()
        assert len(header.subject) <= 500

    linear(make, attempt)


def test_the_largest_header_is_refused_or_taken_quickly() -> None:
    start = time.process_time()
    parse_header(FROM + b"a:\r\n" * ((SIZE_LIMIT - len(FROM)) // 4))
    assert time.process_time() - start < 1.0
