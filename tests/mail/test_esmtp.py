"""The arguments of MAIL and RCPT, and the reply for each that cannot be taken."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.envelope import Recipient
from relay.mail.esmtp import MailCommand, SyntaxRefused, parse_mail, parse_rcpt
from relay.mail.reply import Reply


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        pytest.param(b"<a@b.example>", MailCommand("a@b.example"), id="a sender alone"),
        pytest.param(b" <a@B.example>", MailCommand("a@b.example"), id="a space after the colon"),
        pytest.param(b"<>", MailCommand(""), id="the null sender"),
        pytest.param(b"<a@b.example> SIZE=4096", MailCommand("a@b.example", size=4096), id="SIZE"),
        pytest.param(
            b"<a@b.example> size=0", MailCommand("a@b.example", size=0), id="a size of nothing, in lower case"
        ),
        pytest.param(
            b"<a@b.example> BODY=8bitmime", MailCommand("a@b.example", body="8BITMIME"), id="BODY in any case"
        ),
        pytest.param(b"<a@b.example> BODY=7BIT", MailCommand("a@b.example", body="7BIT"), id="BODY=7BIT"),
        pytest.param(b"<a@b.example> SMTPUTF8", MailCommand("a@b.example", smtputf8=True), id="SMTPUTF8"),
        pytest.param(
            "<jörg@b.example> SMTPUTF8".encode(),
            MailCommand("jörg@b.example", smtputf8=True),
            id="a UTF-8 address with SMTPUTF8",
        ),
        pytest.param(b"<a@b.example> RET=hdrs", MailCommand("a@b.example", ret="HDRS"), id="RET in any case"),
        pytest.param(
            b"<a@b.example> ENVID=QQ314159+2Bx",
            MailCommand("a@b.example", envid="QQ314159+2Bx"),
            id="ENVID to the letter",
        ),
        pytest.param(b"<a@b.example> AUTH=<>", MailCommand("a@b.example"), id="AUTH is ignored"),
        pytest.param(
            b"<a@b.example> AUTH=e+3Dmc2@example.com", MailCommand("a@b.example"), id="AUTH as xtext is ignored"
        ),
        pytest.param(
            b"<a@b.example> SIZE=1  BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x ",
            MailCommand("a@b.example", 1, "8BITMIME", True, "FULL", "x"),
            id="all of them, two spaces between",
        ),
    ],
)
def test_mail_is_taken(argument: bytes, command: MailCommand) -> None:
    assert parse_mail(argument) == command


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        pytest.param(b"", "501 5.1.7", id="nothing"),
        pytest.param(b"a@b.example", "501 5.1.7", id="no angle brackets"),
        pytest.param(b"<a b@c.example>", "501 5.1.7", id="no address"),
        pytest.param(b"<@r.example:a@b.example>", "501 5.1.7", id="a source route"),
        pytest.param(b"<a@b.example>SIZE=1", "501 5.1.7", id="no space before a parameter"),
        pytest.param("<jörg@b.example>".encode(), "553 5.6.7", id="a UTF-8 address without SMTPUTF8"),
        pytest.param("<jörg@b.example> SIZE=1".encode(), "553 5.6.7", id="a UTF-8 address with only another parameter"),
        pytest.param(b"<a@b.example> SMTPUTF8=yes", "501 5.5.4", id="SMTPUTF8 with a value"),
        pytest.param(b"<a@b.example> SIZE", "501 5.5.4", id="SIZE without a value"),
        pytest.param(b"<a@b.example> SIZE=", "501 5.5.4", id="SIZE with an empty value"),
        pytest.param(b"<a@b.example> SIZE=12k", "501 5.5.4", id="SIZE that is no number"),
        pytest.param(b"<a@b.example> SIZE=-1", "501 5.5.4", id="SIZE below nothing"),
        pytest.param(b"<a@b.example> SIZE=" + b"9" * 21, "501 5.5.4", id="SIZE of 21 digits"),
        pytest.param(b"<a@b.example> BODY=BINARYMIME", "501 5.5.4", id="BODY=BINARYMIME, which is not offered"),
        pytest.param(b"<a@b.example> BODY", "501 5.5.4", id="BODY without a value"),
        pytest.param(b"<a@b.example> RET=ALL", "501 5.5.4", id="RET of another word"),
        pytest.param(b"<a@b.example> ENVID=a+4", "501 5.5.4", id="ENVID that is no xtext"),
        pytest.param(b"<a@b.example> ENVID=a+4b", "501 5.5.4", id="ENVID with lower-case hex"),
        pytest.param("<a@b.example> ENVID=é".encode(), "501 5.5.4", id="ENVID outside ASCII"),
        pytest.param(b"<a@b.example> ENVID=" + b"x" * 101, "501 5.5.4", id="ENVID of 101 characters"),
        pytest.param(b"<a@b.example> ENVID", "501 5.5.4", id="ENVID without a value"),
        pytest.param(b"<a@b.example> SIZE=1 SIZE=1", "501 5.5.4", id="a parameter twice"),
        pytest.param(b"<a@b.example> =1", "501 5.5.4", id="a parameter without a name"),
        pytest.param(b"<a@b.example> -X=1", "501 5.5.4", id="a name that begins with a hyphen"),
        pytest.param(b"<a@b.example> SIZE=1=2", "501 5.5.4", id="an equals sign in a value"),
        pytest.param(b"<a@b.example> SIZE=1\tBODY=7BIT", "501 5.5.4", id="a tab between parameters"),
        pytest.param(b"<a@b.example> \x00", "501 5.5.4", id="a NUL"),
        pytest.param(b"<a@b.example> HOLDFOR=60", "555 5.5.4", id="an extension that is not offered"),
        pytest.param(b"<a@b.example> NOTIFY=NEVER", "555 5.5.4", id="RCPT's parameter on MAIL"),
        pytest.param(b"<a@b.example> MT-PRIORITY=3", "555 5.5.4", id="a keyword with a hyphen that is not offered"),
    ],
)
def test_mail_is_refused(argument: bytes, reply: str) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_mail(argument)
    assert str(refused.value.reply).startswith(reply + " ")


@pytest.mark.parametrize(
    ("argument", "smtputf8", "recipient"),
    [
        pytest.param(b"<a@b.example>", False, Recipient("a@b.example"), id="a recipient alone"),
        pytest.param(b"<a@b.example>", True, Recipient("a@b.example"), id="an ASCII recipient with SMTPUTF8"),
        pytest.param(
            "<jörg@b.example>".encode(), True, Recipient("jörg@b.example"), id="a UTF-8 recipient with SMTPUTF8"
        ),
        pytest.param(b"<a@[192.0.2.1]>", False, Recipient("a@[192.0.2.1]"), id="a literal is syntactically right"),
        pytest.param(b"<a@b.example> NOTIFY=never", False, Recipient("a@b.example", "NEVER"), id="NOTIFY=NEVER"),
        pytest.param(
            b"<a@b.example> notify=Success,DELAY", False, Recipient("a@b.example", "SUCCESS,DELAY"), id="NOTIFY's list"
        ),
        pytest.param(
            b"<a@b.example> ORCPT=rfc822;A+40b.example NOTIFY=FAILURE",
            False,
            Recipient("a@b.example", "FAILURE", "rfc822;A+40b.example"),
            id="ORCPT to the letter",
        ),
        pytest.param(
            b"<a@b.example> ORCPT=utf-8;j\\x{F6}rg@b.example",
            False,
            Recipient("a@b.example", "", "utf-8;j\\x{F6}rg@b.example"),
            id="ORCPT in UTF-8, as ASCII (RFC 6533)",
        ),
        pytest.param(
            "<a@b.example> ORCPT=UTF-8;jörg@b.example".encode(),
            True,
            Recipient("a@b.example", "", "UTF-8;jörg@b.example"),
            id="ORCPT in UTF-8 with SMTPUTF8",
        ),
    ],
)
def test_rcpt_is_taken(argument: bytes, smtputf8: bool, recipient: Recipient) -> None:
    assert parse_rcpt(argument, smtputf8=smtputf8) == recipient


@pytest.mark.parametrize(
    ("argument", "smtputf8", "reply"),
    [
        pytest.param(b"<>", False, "501 5.1.3", id="nobody"),
        pytest.param(b"<postmaster>", False, "501 5.1.3", id="postmaster without a domain, and no home"),
        pytest.param(b"<a@b..example>", False, "501 5.1.3", id="no address"),
        pytest.param(b"<a@b.example> x", False, "555 5.5.4", id="a parameter that is not offered"),
        pytest.param(b"<a@b.example> SIZE=1", False, "555 5.5.4", id="MAIL's parameter on RCPT"),
        pytest.param("<jörg@b.example>".encode(), False, "553 5.6.7", id="a UTF-8 address without SMTPUTF8"),
        pytest.param("<a@bücher.example>".encode(), False, "553 5.6.7", id="a U-label without SMTPUTF8"),
        pytest.param(b"<a@b.example> NOTIFY", False, "501 5.5.4", id="NOTIFY without a value"),
        pytest.param(b"<a@b.example> NOTIFY=NEVER,SUCCESS", False, "501 5.5.4", id="NEVER with another word"),
        pytest.param(b"<a@b.example> NOTIFY=SUCCESS,SUCCESS", False, "501 5.5.4", id="a word of NOTIFY twice"),
        pytest.param(b"<a@b.example> NOTIFY=SUCCESS,", False, "501 5.5.4", id="an empty word in NOTIFY"),
        pytest.param(b"<a@b.example> NOTIFY=ALWAYS", False, "501 5.5.4", id="a word NOTIFY does not know"),
        pytest.param(b"<a@b.example> ORCPT=a@b.example", False, "501 5.5.4", id="ORCPT without a type"),
        pytest.param(b"<a@b.example> ORCPT=rfc822;", False, "501 5.5.4", id="ORCPT without an address"),
        pytest.param(b"<a@b.example> ORCPT=rfc822;a+zz", False, "501 5.5.4", id="ORCPT that is no xtext"),
        pytest.param(b"<a@b.example> ORCPT=;x", False, "501 5.5.4", id="ORCPT with an empty type"),
        pytest.param("<a@b.example> ORCPT=utf-8;ö".encode(), False, "501 5.5.4", id="ORCPT in UTF-8 without SMTPUTF8"),
        pytest.param(b"<a@b.example> ORCPT=utf-8;\xff", True, "501 5.5.4", id="ORCPT in octets that are not UTF-8"),
        pytest.param(b"<a@b.example> ORCPT=rfc822;" + b"x" * 500, False, "501 5.5.4", id="ORCPT of 507 characters"),
    ],
)
def test_rcpt_is_refused(argument: bytes, smtputf8: bool, reply: str) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        parse_rcpt(argument, smtputf8=smtputf8)
    assert str(refused.value.reply).startswith(reply + " ")


def refusals(argument: bytes, *, smtputf8: bool) -> list[Reply]:
    """What MAIL and RCPT say to it, where they refuse it."""
    replies = []
    for parse in (parse_mail, lambda octets: parse_rcpt(octets, smtputf8=smtputf8)):
        try:
            parse(argument)
        except SyntaxRefused as refused:
            replies.append(refused.reply)
    return replies


@given(
    st.binary(max_size=40).map(lambda tail: b"<a@b.example> " + tail)
    | st.lists(st.sampled_from([b"SIZE=1", b"BODY=7BIT", b"NOTIFY=NEVER", b"ORCPT=rfc822;x", b"\xc3", b"ENVID=+"])).map(
        b" ".join
    ),
    st.booleans(),
)
@example(b"<a@b.example> ORCPT=rfc822;\xc3\xa9", True)
def test_any_octets_are_a_command_or_a_refusal_with_a_5xx(argument: bytes, smtputf8: bool) -> None:
    for reply in refusals(argument, smtputf8=smtputf8):
        assert reply.code in (501, 553, 555)
        assert reply.status[0] == "5"
        assert reply.wire().isascii()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: b"<a@b.example> " + b" " * n, id="spaces"),
        pytest.param(lambda n: b"<a@b.example> " + b"A " * n, id="parameters"),
        pytest.param(lambda n: b"<a@b.example> ENVID=" + b"+" * n, id="plus signs"),
        pytest.param(lambda n: b"<a@b.example> AUTH=" + b"a-" * n, id="one long value"),
        pytest.param(lambda n: b"<a@b.example> " + b"A-" * n, id="one long keyword"),
        pytest.param(lambda n: b"<a@b.example> NOTIFY=" + b"DELAY," * n, id="commas"),
    ],
)
def test_hostile_length_costs_no_more_than_its_share(make: Callable[[int], bytes], linear: Callable[..., None]) -> None:
    linear(make, lambda argument: refusals(argument, smtputf8=False))
