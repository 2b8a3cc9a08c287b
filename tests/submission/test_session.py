"""What is answered, without sockets: rows of the behaviour that are about words, and octets that are no words at
all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.event import Kind
from relay.mail.reply import Reply
from relay.mail.suppression import Cause, Suppression
from relay.registry.credentials import OnSuppressed, State, StoredSecret
from relay.submission import replies
from relay.submission.dialogue import Turn
from tests.submission.house import NOW, House, credential
from tests.submission.talk import LOGIN, MESSAGE, Talk

MAIL = b"MAIL FROM:<a@example.com>\r\n"
RCPT = b"RCPT TO:<b@example.net>\r\n"


def codes(octets: bytes) -> list[str]:
    """The code of each reply, with its enhanced code."""
    lines = [line for line in octets.decode().split("\r\n") if line[3:4] == " "]
    return [" ".join(line.split(" ")[:2]) if line[4:5].isdigit() and "." in line[4:9] else line[:3] for line in lines]


# -- EHLO ------------------------------------------------------------------------------------------------------------

COMMON = ["PIPELINING", "SIZE 26214400", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "DSN"]


@pytest.mark.parametrize(
    ("tls", "trusted", "security"),
    [
        pytest.param("", "", ["STARTTLS"], id="in clear text STARTTLS and no AUTH"),
        pytest.param("TLSv1.3", "", ["AUTH PLAIN LOGIN"], id="inside TLS AUTH and no STARTTLS"),
        pytest.param("", "shop", [], id="on a trusted listener neither"),
    ],
)
def test_ehlo_offers_exactly_what_works(house: House, tls: str, trusted: str, security: list[str]) -> None:
    lines = Talk(house, tls=tls, trusted=trusted).say(b"EHLO client\r\n").decode().splitlines()
    assert [line[:4] for line in lines] == ["250-"] * (len(lines) - 1) + ["250 "]
    assert [line[4:] for line in lines] == ["relay.test", *COMMON, *security, "LIMITS RCPTMAX=1000"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"client.example.com", id="a name"),
        pytest.param(b"[192.0.2.1]", id="an address literal"),
        pytest.param(b"vm", id="PHPMailer's vm"),
        pytest.param(b"mail.eml", id="a file name, as curl sends"),
        pytest.param(b"my host", id="with a space"),
        pytest.param(b"\xff\xfe_", id="octets"),
        pytest.param(b"x" * 2000, id="a long one"),
    ],
)
def test_any_name_is_taken(house: House, name: bytes) -> None:
    talk = Talk(house)
    assert codes(talk.say(b"EHLO " + name + b"\r\n", LOGIN, MAIL)) == ["250", "235 2.7.0", "250 2.1.0"]


def test_a_hello_without_a_name_is_refused(house: House) -> None:
    assert codes(Talk(house).say(b"EHLO\r\n", b"HELO \r\n")) == ["501 5.5.4", "501 5.5.4"]


def test_after_helo_there_is_no_auth(house: House) -> None:
    assert codes(Talk(house).say(b"HELO client\r\n", LOGIN, MAIL)) == ["250", "503 5.5.1", "530 5.7.0"]


# -- one message -----------------------------------------------------------------------------------------------------


def test_a_message_is_handed_over_as_it_came(house: House) -> None:
    talk = Talk.ready(house)
    answers = talk.say(
        b"MAIL FROM:<A.b@Example.COM> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x+2By AUTH=<>\r\n",
        b"RCPT TO:<B@Example.NET> NOTIFY=DELAY,FAILURE ORCPT=rfc822;b+40example.net\r\n",
        b"rcpt to:<c@example.net>\r\n",
        b"DATA\r\n",
        b"From: a@example.com\r\n\r\n..dot\r\nGr\xc3\xbc\xc3\x9fe\r\n.\r\n",
    )
    assert codes(answers) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "354", "250 2.0.0"]
    [message] = talk.messages
    assert message.header == b"From: a@example.com\r\n"
    assert message.body == b".dot\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    assert message.eight_bit and message.envelope.body == "8BITMIME"
    assert message.envelope.sender == "A.b@example.com"
    assert [each.address for each in message.envelope.recipients] == ["B@example.net", "c@example.net"]
    assert [each.notify for each in message.envelope.recipients] == ["DELAY,FAILURE", ""]
    assert message.envelope.recipients[0].orcpt == "rfc822;b+40example.net"
    assert (message.envelope.ret, message.envelope.envid) == ("HDRS", "x+2By")
    assert (message.client, message.ehlo, message.tls[:7], message.protocol) == (
        "192.0.2.7",
        "client",
        "TLSv1.3",
        "ESMTPSA",
    )


def test_the_final_reply_is_receptions_own(house: House) -> None:
    talk = Talk.ready(house)
    talk.outcome = Reply(250, "2.0.0", "Ok: queued as 06kp1")
    assert talk.say(MAIL, RCPT, b"DATA\r\n", MESSAGE + b".\r\n").endswith(b"250 2.0.0 Ok: queued as 06kp1\r\n")


def test_a_recipient_given_in_both_forms_of_its_domain_gets_one_message(house: House) -> None:
    talk = Talk.ready(house)
    forms = (b"q@xn--bcher-kva.example", "q@bücher.example".encode(), "q@Bücher.Example".encode())
    talk.say(b"MAIL FROM:<a@example.com> SMTPUTF8\r\n", *(b"RCPT TO:<%s>\r\n" % form for form in forms))
    talk.say(b"RCPT TO:<Q@xn--bcher-kva.example>\r\n", b"DATA\r\n", MESSAGE + b".\r\n")
    recipients = [recipient.address for recipient in talk.messages[0].envelope.recipients]
    assert recipients == ["q@xn--bcher-kva.example", "Q@xn--bcher-kva.example"]


@pytest.mark.parametrize(
    ("mail", "rcpt", "expected"),
    [
        pytest.param(MAIL, b"<Postmaster>", "Postmaster@example.com", id="of the sender's domain"),
        pytest.param(MAIL, b" <POSTMASTER> NOTIFY=NEVER", "POSTMASTER@example.com", id="in any case, with parameters"),
        pytest.param(b"MAIL FROM:<>\r\n", b"<postmaster>", "postmaster@relay.test", id="ours, without a sender"),
        pytest.param(MAIL, b"<postmaster@example.net>", "postmaster@example.net", id="of the domain that is given"),
    ],
)
def test_postmaster_needs_no_domain(house: House, mail: bytes, rcpt: bytes, expected: str) -> None:
    house.grant(credential(null_sender=True))
    talk = Talk.ready(house)
    talk.say(mail, b"RCPT TO:" + rcpt + b"\r\n", b"DATA\r\n", MESSAGE + b".\r\n")
    assert [recipient.address for recipient in talk.messages[0].envelope.recipients] == [expected]


def test_a_recipient_given_twice_gets_one_message(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT, RCPT, b"RCPT TO:<b@EXAMPLE.net>\r\n", b"DATA\r\n", MESSAGE + b".\r\n")
    assert [each.address for each in talk.messages[0].envelope.recipients] == ["b@example.net"]


def test_declared_8_bit_content_that_is_7_bit_is_7_bit(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(b"MAIL FROM:<a@example.com> BODY=8BITMIME\r\n", RCPT, b"DATA\r\n", MESSAGE + b".\r\n")
    assert talk.messages[0].envelope.body == "7BIT"


@pytest.mark.parametrize(
    ("tls", "trusted", "hello", "protocol"),
    [
        pytest.param("TLS", "", b"EHLO c\r\n" + LOGIN + MAIL, "ESMTPSA", id="TLS and AUTH"),
        pytest.param("", "shop", b"EHLO c\r\n" + MAIL, "ESMTP", id="trusted"),
        pytest.param("", "shop", b"HELO c\r\n" + MAIL, "SMTP", id="trusted, HELO"),
        pytest.param(
            "TLS",
            "",
            b"EHLO c\r\n" + LOGIN + "MAIL FROM:<ä@example.com> SMTPUTF8\r\n".encode(),
            "UTF8SMTPSA",
            id="SMTPUTF8",
        ),
    ],
)
def test_the_protocol_named_in_received(house: House, tls: str, trusted: str, hello: bytes, protocol: str) -> None:
    talk = Talk(house, tls=tls, trusted=trusted)
    talk.say(hello, RCPT, b"DATA\r\n", MESSAGE + b".\r\n")
    assert talk.messages[0].protocol == protocol


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([b"BDAT 27 LAST\r\nFrom: a@example.com\r\n\r\nHi\r\n"], b"Hi\r\n", id="one chunk"),
        pytest.param([b"BDAT 23\r\nFrom: a@example.com\r\n\r\n", b"BDAT 4 LAST\r\nHi\r\n"], b"Hi\r\n", id="two chunks"),
        pytest.param(
            [b"BDAT 27\r\nFrom: a@example.com\r\n\r\nHi\r\n", b"BDAT 0 LAST\r\n"], b"Hi\r\n", id="an empty last"
        ),
        pytest.param([b"BDAT 26 LAST\r\nFrom: a@example.com\r\n\r\n.\r\n"], b".\r\n", id="a dot is a dot"),
        pytest.param([b"BDAT 25 LAST\r\nFrom: a@example.com\r\n\r\nHi"], b"Hi", id="no line end at the end"),
        pytest.param(
            [b"BDAT 20\r\nFrom: a@example.com\r", b"BDAT 7 LAST\r\n\n\r\nHi\r\n"], b"Hi\r\n", id="cut in a CRLF"
        ),
        pytest.param([b"BDAT 27 last\r\nFrom: a@example.com\r\n\r\nHi\r\n"], b"Hi\r\n", id="LAST in lower case"),
        pytest.param([b"BDAT 27 LAST\r\nFrom: a@exa", b"mple.com\r\n\r\nHi", b"\r\n"], b"Hi\r\n", id="in three reads"),
    ],
)
def test_bdat(house: House, pieces: list[bytes], body: bytes) -> None:
    talk = Talk.ready(house)
    answers = codes(talk.say(MAIL, RCPT, *pieces))
    assert set(answers[2:]) == {"250 2.0.0"}
    assert talk.messages[0].header == b"From: a@example.com\r\n"
    assert talk.messages[0].body == body


@pytest.mark.parametrize(
    ("before", "code"),
    [
        pytest.param(b"", "503 5.5.1", id="without MAIL"),
        pytest.param(MAIL, "503 5.5.1", id="without a recipient"),
        pytest.param(MAIL + b"RCPT TO:<nonsense>\r\n", "503 5.5.1", id="after a recipient that was refused"),
    ],
)
def test_the_octets_of_a_refused_bdat_are_read(house: House, before: bytes, code: str) -> None:
    talk = Talk.ready(house)
    talk.say(before)
    assert codes(talk.say(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")) == [code, "250 2.0.0"]


def test_the_octets_of_a_bdat_before_auth_are_read(house: House) -> None:
    assert codes(Talk(house).say(b"EHLO c\r\nBDAT 6\r\nQU", b"IT\r\nNOOP\r\n")) == ["250", "530 5.7.0", "250 2.0.0"]


def test_after_a_chunk_that_failed_the_message_is_over(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT)
    assert codes(talk.say(b"BDAT 4\r\na\nb\n", b"BDAT 2 LAST\r\nab", MAIL)) == ["550 5.6.0", "503 5.5.1", "250 2.1.0"]
    assert talk.messages == []


def test_a_bdat_without_a_number_ends_the_session(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT)
    assert codes(talk.say(b"BDAT all LAST\r\nQUIT\r\n")) == ["501 5.5.4"]
    assert talk.is_closed


def test_data_is_not_mixed_with_bdat(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT, b"BDAT 2\r\nab")
    assert codes(talk.say(b"DATA\r\n", RCPT, MAIL, b"RSET\r\n", MAIL)) == [
        *["503 5.5.1"] * 3,
        "250 2.0.0",
        "250 2.1.0",
    ]


# -- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"MAIL FROM:<a@example.com>"], "530 5.7.0", id="MAIL before EHLO"),
        pytest.param([b"EHLO c", b"MAIL FROM:<a@example.com>"], "530 5.7.0", id="MAIL before AUTH"),
        pytest.param([b"EHLO c", b"RCPT TO:<b@example.net>"], "530 5.7.0", id="RCPT before AUTH"),
        pytest.param([b"EHLO c", b"DATA"], "530 5.7.0", id="DATA before AUTH"),
        pytest.param([b"EHLO c", b"STARTTLS"], "503 5.5.1", id="STARTTLS inside TLS"),
        pytest.param([b"AUTH PLAIN AGEAYg=="], "503 5.5.1", id="AUTH before EHLO"),
        pytest.param([b"EHLO c", LOGIN.strip(), LOGIN.strip()], "503 5.5.1", id="AUTH twice"),
        pytest.param(
            [b"EHLO c", LOGIN.strip(), MAIL.strip(), LOGIN.strip()], "503 5.5.1", id="AUTH inside a transaction"
        ),
        pytest.param([b"EHLO c", LOGIN.strip(), MAIL.strip(), MAIL.strip()], "503 5.5.1", id="MAIL inside one"),
        pytest.param([b"EHLO c", LOGIN.strip(), RCPT.strip()], "503 5.5.1", id="RCPT without MAIL"),
        pytest.param([b"EHLO c", LOGIN.strip(), MAIL.strip(), b"DATA"], "503 5.5.1", id="DATA without RCPT"),
        pytest.param([b"EHLO c", LOGIN.strip(), MAIL.strip(), b"EHLO c", RCPT.strip()], "503 5.5.1", id="EHLO is RSET"),
        pytest.param([b"EHLO c", LOGIN.strip(), MAIL.strip(), b"RSET", RCPT.strip()], "503 5.5.1", id="RSET"),
        pytest.param([b"VRFY postmaster"], "252 2.0.0", id="VRFY tells nothing"),
        pytest.param([b"NOOP ignored"], "250 2.0.0", id="NOOP"),
        pytest.param([b"HELP"], "214 2.0.0", id="HELP"),
        pytest.param([b"QUIT"], "221 2.0.0", id="QUIT"),
        pytest.param([b"quit"], "221 2.0.0", id="in lower case"),
        pytest.param([b"QUIT "], "221 2.0.0", id="with a space at its end"),
        pytest.param([b"EXPN list"], "500 5.5.2", id="an unknown command"),
        pytest.param([b""], "500 5.5.2", id="an empty line"),
        pytest.param([b"MAILFROM"], "500 5.5.2", id="a word that begins like one"),
    ],
)
def test_what_is_answered_last(house: House, lines: list[bytes], expected: str) -> None:
    assert codes(Talk(house).say(*(line + b"\r\n" for line in lines)))[-1] == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"AUTH PLAIN AGEAYg==", "538 5.7.11", id="AUTH with an initial response"),
        pytest.param(b"AUTH LOGIN", "538 5.7.11", id="AUTH without: no challenge"),
        pytest.param(b"MAIL FROM:<a@example.com>", "530 5.7.0", id="MAIL"),
        pytest.param(b"STARTTLS now", "501 5.5.4", id="STARTTLS takes no argument"),
    ],
)
def test_in_clear_text(house: House, line: bytes, expected: str) -> None:
    talk = Talk(house, tls="")
    assert codes(talk.say(b"EHLO c\r\n", line + b"\r\n"))[-1] == expected
    assert not talk.starts_tls


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"GET / HTTP/1.1", id="GET"),
        pytest.param(b"POST /x HTTP/1.0", id="POST"),
        pytest.param(b"PRI * HTTP/2.0", id="HTTP/2"),
        pytest.param(b"CONNECT x:25 HTTP/1.1", id="CONNECT"),
        pytest.param(b"Host: example.com", id="a header line"),
        pytest.param(b"User-Agent:x", id="a header line without a space"),
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b"\r\n", id="ended by CRLF"),
        pytest.param(b"\n", id="ended by a bare LF"),
        pytest.param(b"x" * 5000 + b"\r\n", id="too long"),
    ],
)
@pytest.mark.parametrize("trusted", ["", "shop"], ids=["AUTH", "trusted"])
def test_a_session_that_begins_as_http_is_closed(house: House, line: bytes, end: bytes, trusted: str) -> None:
    talk = Talk(house, trusted=trusted)
    assert codes(talk.say(line + end + b"EHLO c\r\n" + MAIL)) == ["421 4.7.0"]
    assert talk.is_closed


def test_tls_on_the_port_for_starttls_is_told_so(house: House) -> None:
    talk = Talk(house, tls="")
    assert codes(talk.say(b"\x16\x03\x01\x02\x00\x01")) == ["421 4.7.0"]
    assert talk.is_closed


def test_repeated_nonsense_ends_the_session(house: House) -> None:
    talk = Talk.ready(house)
    assert codes(talk.say(b"x\r\n" * 20)) == [*["500 5.5.2"] * 4, "421 4.7.0"]
    assert talk.is_closed


def test_twenty_commands_before_auth_are_enough(house: House) -> None:
    talk = Talk(house)
    assert codes(talk.say(b"NOOP\r\n" * 30)) == [*["250 2.0.0"] * 20, "421 4.7.0"]
    assert codes(Talk.ready(house).say(b"NOOP\r\n" * 30)) == ["250 2.0.0"] * 30


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        pytest.param(b"NOOP\nNOOP\r\n", ["500 5.5.2", "250 2.0.0"], id="a bare LF does not end a command"),
        pytest.param(b"NOOP\rNOOP\r\n", ["500 5.5.2"], id="nor does a bare CR"),
        pytest.param(b"MAIL FROM:<a@example.com>\rRCPT\r\n", ["501 5.1.7"], id="a CR inside an argument"),
        pytest.param(b"N" * 5000 + b"\r\nNOOP\r\n", ["500 5.5.2", "250 2.0.0"], id="a line that is too long"),
        pytest.param(b"NOOP " + b"x" * 4000 + b"\r\n", ["250 2.0.0"], id="a long one that is not"),
        pytest.param(b"N" * 5000 + b"\nNOOP\r\n", ["500 5.5.2", "250 2.0.0"], id="too long, and a bare LF"),
    ],
)
def test_lines(house: House, octets: bytes, expected: list[str]) -> None:
    assert codes(Talk.ready(house).say(octets)) == expected
    one_by_one = [octets[place : place + 1] for place in range(len(octets))]
    assert codes(Talk.ready(house).say(*one_by_one)) == expected


# -- pipelining ------------------------------------------------------------------------------------------------------


def test_a_pipelined_group_gets_one_write(house: House) -> None:
    talk = Talk.ready(house)
    answers = talk.say(MAIL + RCPT * 3 + b"DATA\r\n")
    assert codes(answers) == ["250 2.1.0", *["250 2.1.5"] * 3, "354"]
    assert len(talk.writes) == 1


def test_commands_behind_the_dot_are_answered_with_the_message_in_one_write(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL + RCPT + b"DATA\r\n")
    answers = talk.say(MESSAGE + b".\r\n" + MAIL + RCPT + b"DATA\r\n")
    assert codes(answers) == ["250 2.0.0", "250 2.1.0", "250 2.1.5", "354"]
    assert len(talk.writes) == 1


def test_nothing_is_read_while_a_message_is_committed(house: House) -> None:
    talk = Talk.ready(house)
    talk.outcome = None
    talk.say(MAIL, RCPT, b"DATA\r\n", MESSAGE + b".\r\n")
    assert talk.session.turn is Turn.COMMIT
    assert talk.say(b"NOOP\r\nQUIT\r\n") == b""
    assert talk.session.unread == 12
    assert codes(talk.finish(Reply(250, "2.0.0", "Ok"))) == ["250 2.0.0", "250 2.0.0", "221 2.0.0"]
    assert talk.is_closed


def test_a_whole_message_by_bdat_in_one_group_gets_one_write(house: House) -> None:
    talk = Talk.ready(house)
    answers = talk.say(MAIL + RCPT + b"BDAT %d LAST\r\n" % len(MESSAGE) + MESSAGE + b"QUIT\r\n")
    assert codes(answers) == ["250 2.1.0", "250 2.1.5", "250 2.0.0", "221 2.0.0"]
    assert len(talk.writes) == 1


def test_ten_thousand_commands_at_once_are_answered_in_bounded_writes(house: House) -> None:
    talk = Talk.ready(house)
    assert codes(talk.say(b"NOOP\r\n" * 10_000)) == ["250 2.0.0"] * 10_000
    assert max(map(len, talk.writes)) < 20_000


# -- content ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"a\nb\r\n", id="a bare LF"),
        pytest.param(b"a\rb\r\n", id="a bare CR"),
        pytest.param(b"a\n.\nMAIL FROM:<x@example.com>\r\n", id="LF dot LF"),
        pytest.param(b"a\n.\r\nMAIL FROM:<x@example.com>\r\n", id="LF dot CRLF"),
        pytest.param(b"a\r\n.\nMAIL FROM:<x@example.com>\r\n", id="CRLF dot LF"),
        pytest.param(b"a\r.\rMAIL FROM:<x@example.com>\r\n", id="CR dot CR"),
        pytest.param(b"a\r\n.\rMAIL FROM:<x@example.com>\r\n", id="CRLF dot CR"),
        pytest.param(b"a\r.\r\nMAIL FROM:<x@example.com>\r\n", id="CR dot CRLF"),
        pytest.param(b"a\r\r\n", id="CR CRLF"),
        pytest.param(b"a\n\r\n", id="LF CRLF"),
    ],
)
def test_bare_newlines_are_refused_or_made_crlf(house: House, body: bytes) -> None:
    content = b"From: a@example.com\r\n\r\n" + body
    for bare_newlines, expected in (("refuse", "550 5.6.0"), ("normalize", "250 2.0.0")):
        for pieces in ([content + b".\r\n"], [content[at : at + 1] for at in range(len(content))] + [b".\r\n"]):
            talk = Talk.ready(house, bare_newlines=bare_newlines)
            talk.say(MAIL, RCPT, b"DATA\r\n")
            assert codes(talk.say(*pieces, b"NOOP\r\n")) == [expected, "250 2.0.0"], "the session goes on where it was"
            for message in talk.messages:
                assert message.body.count(b"\r\n") == message.body.count(b"\n") == message.body.count(b"\r")


@pytest.mark.parametrize(
    ("settings", "mail", "content", "expected"),
    [
        pytest.param({}, MAIL, b"x" * 70_000 + b"\r\n", "550 5.6.0", id="a line over 64 KiB"),
        pytest.param({}, MAIL, b"x" * 60_000 + b"\r\n", "250 2.0.0", id="a line under 64 KiB"),
        pytest.param({}, MAIL, b"a\0b\r\n", "550 5.6.0", id="a NUL"),
        pytest.param({"message_size": 65536}, MAIL, b"x" * 60 + b"\r\n" * 40_000, "552 5.3.4", id="too large"),
        pytest.param({"limits": {"header_size": 1024}}, MAIL, b"", "550 5.6.0", id="too large a header"),
    ],
)
def test_what_content_may_not_be(
    house: House, settings: dict[str, Any], mail: bytes, content: bytes, expected: str
) -> None:
    talk = Talk.ready(house, **settings)
    header = b"From: a@example.com\r\n" + (b"X: " + b"y" * 500 + b"\r\n") * 3 + b"\r\n"
    talk.say(mail, RCPT, b"DATA\r\n")
    octets = header + content + b".\r\n"
    assert codes(talk.say(*(octets[at : at + 1000] for at in range(0, len(octets), 1000)))) == [expected]
    if expected != "250 2.0.0":
        [event] = house.events
        assert (event.kind, event.sender, event.message) == (Kind.REJECTED, "a@example.com", "id1")
    else:
        assert house.facts.words[-1] == "long lines 1"


def test_a_chunk_that_makes_a_message_too_large_is_refused_and_read(house: House) -> None:
    talk = Talk.ready(house, message_size=65536)
    talk.say(MAIL, RCPT)
    assert codes(talk.say(b"BDAT 70000 LAST\r\n" + b"x" * 70_000 + b"NOOP\r\n")) == ["552 5.3.4", "250 2.0.0"]


# -- MAIL and RCPT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("MAIL FROM:<a@example.com>", "250 2.1.0", id="a sender"),
        pytest.param("MAIL FROM: <a@example.com>", "250 2.1.0", id="a space before the address"),
        pytest.param("mail from:<a@example.com>", "250 2.1.0", id="in lower case"),
        pytest.param("MAIL FROM:<a@example.com> SIZE=26214400", "250 2.1.0", id="as large as it may be"),
        pytest.param("MAIL FROM:<a@example.com> SIZE=26214401", "552 5.3.4", id="larger"),
        pytest.param("MAIL FROM:<a@example.com> SIZE=x", "501 5.5.4", id="a bad parameter"),
        pytest.param("MAIL FROM:<a@example.com> FUTURE=1", "555 5.5.4", id="an unknown parameter"),
        pytest.param("MAIL FROM:<a@example.com> AUTH=b@example.org", "250 2.1.0", id="AUTH= is ignored"),
        pytest.param("MAIL FROM:<a@example.com> BODY=BINARYMIME", "501 5.5.4", id="BINARYMIME is not offered"),
        pytest.param("MAIL FROM:<ä@example.com>", "553 5.6.7", id="UTF-8 without SMTPUTF8"),
        pytest.param("MAIL FROM:a@example.com", "501 5.1.7", id="no brackets"),
        pytest.param("MAIL <a@example.com>", "501 5.5.4", id="no FROM:"),
        pytest.param("MAIL FROM:<a@example.org>", "550 5.7.1", id="somebody else's address"),
        pytest.param("MAIL FROM:<>", "550 5.7.1", id="the null sender, which it may not use"),
    ],
)
def test_mail(house: House, line: str, expected: str) -> None:
    assert codes(Talk.ready(house).say(line.encode() + b"\r\n")) == [expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("RCPT TO:<b@example.net>", "250 2.1.5", id="a recipient"),
        pytest.param("RCPT TO: <b@example.net>", "250 2.1.5", id="a space before the address"),
        pytest.param("RCPT TO:<b@example.net> NOTIFY=NEVER", "250 2.1.5", id="with NOTIFY"),
        pytest.param("RCPT TO:<b@example.net> NOTIFY=NEVER,DELAY", "501 5.5.4", id="a bad parameter"),
        pytest.param("RCPT TO:<b@example.net> X=1", "555 5.5.4", id="an unknown parameter"),
        pytest.param("RCPT TO:<b@[192.0.2.9]>", "550 5.1.3", id="an address literal"),
        pytest.param("RCPT TO:<b@[192.0.2.10]>", "250 2.1.5", id="an address literal that is allowed"),
        pytest.param("RCPT TO:<@x:b@example.net>", "501 5.1.3", id="a source route"),
        pytest.param("RCPT TO:<>", "501 5.1.3", id="nobody"),
        pytest.param("RCPT <b@example.net>", "501 5.5.4", id="no TO:"),
        pytest.param("RCPT TO:<dead@example.net>", "550 5.7.1", id="a suppressed one"),
    ],
)
def test_rcpt(house: House, line: str, expected: str) -> None:
    house.literals.add("[192.0.2.10]")
    house.suppressions["dead@example.net"] = Suppression("dead@example.net", Cause.HARD_BOUNCE, NOW)
    assert codes(Talk.ready(house).say(MAIL, line.encode() + b"\r\n"))[1] == expected


def test_a_suppressed_recipient_is_refused_with_the_date_and_the_cause_or_accepted(house: House) -> None:
    house.suppressions["dead@example.net"] = Suppression(
        "dead@example.net", Cause.HARD_BOUNCE, NOW, reply="550 5.1.1 No such user\x1b[31m"
    )
    answer = Talk.ready(house).say(MAIL, b"RCPT TO:<dead@example.net>\r\n")
    assert b"550 5.7.1 <dead@example.net> is suppressed since 2027-01-15, because of a hard bounce" in answer
    assert b"\x1b" not in answer
    assert house.events[0].recipient == "dead@example.net"
    house.grant(credential(suppressed=OnSuppressed.ACCEPT))
    assert codes(Talk.ready(house).say(MAIL, b"RCPT TO:<dead@example.net>\r\n"))[1] == "250 2.1.5"


def test_a_thousand_recipients_and_no_more(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL)
    answers = codes(talk.say(b"".join(b"RCPT TO:<u%d@example.net>\r\n" % number for number in range(1002))))
    assert answers == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 2


def test_a_credentials_own_number_of_recipients(house: House) -> None:
    house.grant(credential(limit_recipients=2))
    answers = codes(Talk.ready(house).say(MAIL, *(b"RCPT TO:<u%d@example.net>\r\n" % number for number in range(3))))
    assert answers[1:] == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]


def test_no_room_is_no_permanent_failure(house: House) -> None:
    house.has_room = False
    assert codes(Talk.ready(house).say(MAIL)) == ["452 4.3.1"]


def test_the_null_sender_for_a_credential_that_may(house: House) -> None:
    house.grant(credential(null_sender=True))
    assert codes(Talk.ready(house).say(b"MAIL FROM:<>\r\n")) == ["250 2.1.0"]


def test_refusals_after_auth_are_journaled_and_counted(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(b"MAIL FROM:<a@example.org>\r\n", MAIL, b"RCPT TO:<b@[192.0.2.9]>\r\n", b"RCPT TO:<oops\r\n")
    assert [(event.kind, event.sender, event.recipient, event.credential) for event in house.events] == [
        (Kind.REJECTED, "a@example.org", "", "shop"),
        (Kind.REJECTED, "a@example.com", "b@[192.0.2.9]", "shop"),
        (Kind.REJECTED, "a@example.com", "", "shop"),
    ]
    assert house.events[2].detail == "TO:<oops"
    assert house.facts.words[-3:] == ["message refused 550", "message refused 550", "message refused 501"]


# -- the credential, while a session is open -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"state": State.REVOKED}, id="revoked"),
        pytest.param({"expires_at": NOW - 1}, id="expired"),
        pytest.param({"login": "another"}, id="another one of the same name"),
        pytest.param({"secrets": (StoredSecret("0" * 64, 0.0),)}, id="the secret it logged in with has ended"),
    ],
)
def test_a_credential_that_is_good_no_longer_ends_the_session(house: House, changed: dict[str, Any]) -> None:
    at_mail, at_the_end = Talk.ready(house), Talk.ready(house)
    at_the_end.say(MAIL, RCPT, b"DATA\r\n")
    house.grant(credential(**changed))
    assert codes(at_mail.say(MAIL)) == ["421 4.7.0"]
    assert codes(at_the_end.say(MESSAGE + b".\r\n")) == ["421 4.7.0"]
    assert at_mail.is_closed and at_the_end.is_closed
    assert at_the_end.messages == []
    assert [(event.credential, event.sender, event.detail, event.reply[:9]) for event in house.events] == [
        ("shop", "", "FROM:<a@example.com>", "421 4.7.0"),
        ("shop", "a@example.com", "", "421 4.7.0"),
    ]


def test_a_message_under_way_when_its_credential_is_revoked_is_journaled_once(house: House) -> None:
    idle, under_way = Talk.ready(house), Talk.ready(house)
    under_way.say(MAIL, RCPT, b"DATA\r\n", b"From: ")
    house.grant(credential("another"))
    for talk in (idle, under_way):
        assert codes(talk.after(talk.session.dismiss_if_revoked())) == ["421 4.7.0"]
        assert talk.after(talk.session.dismiss_if_revoked()) == b""
    assert [(event.credential, event.sender) for event in house.events] == [("shop", "a@example.com")]


def test_a_trusted_listener_without_its_credential_refuses_mail_and_journals_it(house: House) -> None:
    talk = Talk(house, tls="", trusted="printer")
    assert codes(talk.say(b"EHLO p\r\n", MAIL)) == ["250", "421 4.7.0"]
    assert [(event.credential, event.reply[:9]) for event in house.events] == [("printer", "421 4.7.0")]


def test_a_credential_on_hold_is_handed_over_as_such(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT, b"DATA\r\n")
    house.grant(credential(state=State.HOLD))
    talk.say(MESSAGE + b".\r\n")
    assert talk.messages[0].credential.state is State.HOLD


def test_a_trusted_listener_submits_as_its_credential_without_auth(house: House) -> None:
    talk = Talk(house, tls="", trusted="shop")
    answers = talk.say(b"EHLO printer\r\n", LOGIN, MAIL, RCPT, b"DATA\r\n", MESSAGE + b".\r\n")
    assert codes(answers) == ["250", "503 5.5.1", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    assert talk.messages[0].credential.name == "shop"
    assert (
        codes(Talk(house, tls="", trusted="shop").say(b"EHLO p\r\n", b"MAIL FROM:<x@example.org>\r\n"))[1]
        == "550 5.7.1"
    )


# -- endings ---------------------------------------------------------------------------------------------------------


def test_a_dismissal_waits_for_a_commit_and_for_nothing_else(house: House) -> None:
    idle, in_data, committing = Talk.ready(house), Talk.ready(house), Talk.ready(house)
    committing.outcome = None
    in_data.say(MAIL, RCPT, b"DATA\r\n", b"From: ")
    committing.say(MAIL, RCPT, b"DATA\r\n", MESSAGE + b".\r\n", MAIL)
    assert codes(idle.after(idle.session.dismiss(replies.NOT_VALID))) == ["421 4.7.0"]
    assert codes(in_data.after(in_data.session.dismiss(replies.NOT_VALID))) == ["421 4.7.0"]
    assert committing.after(committing.session.dismiss(replies.NOT_VALID)) == b""
    assert codes(committing.finish(Reply(250, "2.0.0", "Ok"))) == ["250 2.0.0", "421 4.7.0"]
    assert idle.is_closed and in_data.is_closed and committing.is_closed


def test_draining_lets_a_message_under_way_come_to_its_end_and_no_other_begin(house: House) -> None:
    idle, busy = Talk.ready(house), Talk.ready(house)
    busy.say(MAIL)
    assert codes(idle.after(idle.session.dismiss_when_idle(replies.SHUTTING_DOWN))) == ["421 4.3.2"]
    assert busy.after(busy.session.dismiss_when_idle(replies.SHUTTING_DOWN)) == b""
    answers = busy.say(RCPT, b"DATA\r\n", MESSAGE + b".\r\n" + MAIL)
    assert codes(answers) == ["250 2.1.5", "354", "250 2.0.0", "421 4.3.2"]
    assert busy.is_closed


def test_who_sends_no_more_still_gets_its_answers(house: House) -> None:
    talk = Talk.ready(house)
    talk.outcome = None
    talk.say(MAIL, RCPT, b"DATA\r\n", MESSAGE + b".\r\nNOOP\r\n")
    assert talk.after(talk.session.end()) == b""
    assert not talk.is_closed
    assert codes(talk.finish(Reply(250, "2.0.0", "Ok"))) == ["250 2.0.0", "250 2.0.0"]
    assert talk.is_closed


def test_who_is_lost_in_the_middle_of_content_leaves_nothing_behind(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT, b"DATA\r\n", b"From: a@example.com\r\n\r\n" + b"line\r\n" * 20_000)
    [file] = house.files
    assert file.path.exists()
    talk.session.lost()
    assert not file.path.exists()
    assert talk.session.receive(b"NOOP\r\n") == []


def test_large_content_goes_to_a_file_as_it_comes(house: House) -> None:
    talk = Talk.ready(house)
    talk.say(MAIL, RCPT, b"DATA\r\n", b"From: a@example.com\r\n\r\n")
    for _ in range(100):
        talk.say(b"line\r\n" * 1000)
    talk.say(b".\r\n")
    [message] = talk.messages
    assert message.file is not None and message.body == b""
    assert message.file.size == message.file.path.stat().st_size == 600_000


def test_trouble_of_ours_is_451_and_says_nothing_but_where_to_look(house: House) -> None:
    def broken(_recipient: str, _credential: object) -> None:
        raise RuntimeError("disk I/O error\r\n250 injected")

    talk = Talk(house, services={"suppressed": broken})
    answers = talk.say(b"EHLO c\r\n", LOGIN, MAIL, RCPT, b"NOOP\r\n")
    assert codes(answers)[-2:] == ["451 4.3.0", "250 2.0.0"]
    assert b"disk" not in answers and b"injected" not in answers
    assert b"(id1)" in answers
    assert '"id":"id1"' in house.logged() and "disk I/O error" in house.logged()


def test_trouble_at_the_end_of_content_is_451_and_the_session_goes_on(house: House) -> None:
    def broken() -> str:
        raise RuntimeError("no more ids")

    talk = Talk(house, trusted="shop", services={"new_id": broken})
    answers = talk.say(b"EHLO c\r\n", MAIL, RCPT, b"DATA\r\n", MESSAGE + b".\r\n", b"NOOP\r\n", MAIL)
    assert codes(answers)[-3:] == ["451 4.3.0", "250 2.0.0", "250 2.1.0"]
    assert "no more ids" in house.logged()


# -- anything at all -------------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        b"EHLO c\r\n", b"HELO c\r\n", LOGIN, b"AUTH LOGIN\r\n", b"c2hvcA==\r\n", b"*\r\n", MAIL, RCPT, b"DATA\r\n",
        MESSAGE, b".\r\n", b"\r\n.\r\n", b"BDAT 5\r\n", b"BDAT 5 LAST\r\n", b"BDAT 0 LAST\r\n", b"hello", b"RSET\r\n",
        b"NOOP\r\n", b"STARTTLS\r\n", b"QUIT\r\n", b"\r", b"\n", b"x" * 5000, b"\0", b"\xff",
    ]
)  # fmt: skip


@contextmanager
def a_house() -> Iterator[House]:
    with tempfile.TemporaryDirectory() as directory:
        house = House(Path(directory))
        yield house
        house.log.output.close()


@settings(deadline=None)
@given(pieces=st.lists(FRAGMENTS | st.binary(max_size=40), max_size=40), tls=st.booleans(), trusted=st.booleans())
def test_no_input_raises_or_makes_a_session_hold_more_than_a_line(
    pieces: list[bytes], tls: bool, trusted: bool
) -> None:
    with a_house() as house:
        talk = Talk(house, tls="TLS" if tls else "", trusted="shop" if trusted else "")
        for piece in pieces:
            for line in talk.say(piece).split(b"\r\n")[:-1]:
                assert line[:1] in b"2345" and line[:3].isdigit()
            assert talk.session.unread <= 12288 + 2 or talk.starts_tls


@settings(deadline=None, max_examples=50)
@given(
    pieces=st.lists(FRAGMENTS, max_size=25),
    cuts=st.lists(st.integers(0, 5000), max_size=20),
)
def test_answers_do_not_depend_on_how_the_input_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(pieces)
    places = sorted({cut % (len(octets) + 1) for cut in cuts})
    parts = [octets[begin:end] for begin, end in zip([0, *places], [*places, len(octets)], strict=True)]
    with a_house() as house:
        whole, cut_up = Talk(house, trusted="shop"), Talk(house, trusted="shop")
        assert whole.say(octets) == cut_up.say(*parts)
        assert [message.body for message in whole.messages] == [message.body for message in cut_up.messages]
