"""Replies: read from any chunks, written so that any client can read them, never with a peer's control characters."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.reply import LINE_LIMIT, REPLY_LIMIT, Reply, ReplyError, ReplyParser, escape


@pytest.mark.parametrize(
    ("octets", "replies"),
    [
        pytest.param(b"250 2.1.0 Ok\r\n", [Reply(250, "2.1.0", "Ok")], id="one line"),
        pytest.param(b"250 Ok\r\n", [Reply(250, "", "Ok")], id="no enhanced code"),
        pytest.param(b"250\r\n", [Reply(250, "", "")], id="the code alone"),
        pytest.param(b"250 \r\n", [Reply(250, "", "")], id="the code and a space"),
        pytest.param(b"550 5.1.1\r\n", [Reply(550, "5.1.1", "")], id="an enhanced code without text"),
        pytest.param(b"354 Go ahead\n", [Reply(354, "", "Go ahead")], id="a bare LF ends a line"),
        pytest.param(
            b"250-mx.example\r\n250-SIZE 1000\r\n250 DSN\r\n",
            [Reply(250, "", "mx.example\nSIZE 1000\nDSN")],
            id="an EHLO reply keeps its lines",
        ),
        pytest.param(
            b"550-5.1.1 No such\r\n550-5.1.1 user.\r\n550 5.1.1 Goodbye\r\n",
            [Reply(550, "5.1.1", "No such\nuser.\nGoodbye")],
            id="the enhanced code on every line",
        ),
        pytest.param(
            b"550-No such user\r\n550 5.1.1 here\r\n",
            [Reply(550, "5.1.1", "No such user\nhere")],
            id="the enhanced code only on the last line",
        ),
        pytest.param(
            b"550-5.1.1 No\r\n550 5.7.1 no\r\n",
            [Reply(550, "5.1.1", "No\n5.7.1 no")],
            id="two enhanced codes: the first",
        ),
        pytest.param(
            b"550 4.7.1 What\r\n", [Reply(550, "", "4.7.1 What")], id="an enhanced code of another class is text"
        ),
        pytest.param(b"550 5.1.1234 x\r\n", [Reply(550, "", "5.1.1234 x")], id="too many digits are text"),
        pytest.param(b"550 5.7.1: x\r\n", [Reply(550, "", "5.7.1: x")], id="an enhanced code needs a space after it"),
        pytest.param(b"550 5.7.26  x\r\n", [Reply(550, "5.7.26", "x")], id="two spaces after the enhanced code"),
        pytest.param(b"571 no\r\n", [Reply(571, "", "no")], id="a middle digit the RFC does not know"),
        pytest.param(
            b"220 h\xc3\xa9 \xe9\r\n", [Reply(220, "", "hé \\xe9")], id="UTF-8 is read and other octets are shown"
        ),
        pytest.param(b"220 a\x1b[2Jb\r\n", [Reply(220, "", "a\x1b[2Jb")], id="control characters stay in the value"),
        pytest.param(
            b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go\r\n",
            [Reply(250, "2.1.0", "Ok"), Reply(250, "2.1.5", "Ok"), Reply(354, "", "Go")],
            id="several replies at once",
        ),
        pytest.param(b"250 O", [], id="a line that has not ended"),
        pytest.param(b"250-Ok\r\n", [], id="a reply that has not ended"),
    ],
)
def test_replies_are_read(octets: bytes, replies: list[Reply]) -> None:
    assert ReplyParser().feed(octets) == replies


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        pytest.param(b"\r\n", "no SMTP reply", id="an empty line"),
        pytest.param(b"HTTP/1.1 400 Bad\r\n", "no SMTP reply", id="another protocol"),
        pytest.param(b"25\r\n", "no SMTP reply", id="two digits"),
        pytest.param(b"2500 Ok\r\n", "no SMTP reply", id="four digits"),
        pytest.param(b"250_Ok\r\n", "no SMTP reply", id="a wrong mark after the code"),
        pytest.param(b"150 Ok\r\n", "no SMTP reply", id="a code below 200"),
        pytest.param(b"600 Ok\r\n", "no SMTP reply", id="a code above 599"),
        pytest.param(b" 250 Ok\r\n", "no SMTP reply", id="a space first"),
        pytest.param("２５０ Ok\r\n".encode(), "no SMTP reply", id="digits that are not ASCII"),
        pytest.param(b"250-a\r\n550 b\r\n", "changes", id="the code changes"),
        pytest.param(b"250 " + b"x" * LINE_LIMIT + b"\r\n", "line is longer", id="a line too long"),
        pytest.param(b"250 " + b"x" * LINE_LIMIT, "line is longer", id="a line too long that has not ended"),
        pytest.param(b"250-x\r\n" * (REPLY_LIMIT // 7 + 1), "reply is longer", id="a reply without end"),
    ],
)
def test_what_is_no_reply_is_an_error_from_then_on(octets: bytes, reason: str) -> None:
    parser = ReplyParser()
    with pytest.raises(ReplyError, match=reason):
        parser.feed(octets)
    with pytest.raises(ReplyError, match=reason):
        parser.feed(b"250 2.0.0 Ok\r\n")


def test_a_reply_before_garbage_in_the_same_chunk_counts() -> None:
    parser = ReplyParser()
    assert parser.feed(b"250 2.0.0 Ok\r\n\x00garbage\r\n250 2.0.0 Ok\r\n") == [Reply(250, "2.0.0", "Ok")]
    assert parser.failure and parser.pending
    with pytest.raises(ReplyError, match="garbage"):
        parser.feed(b"")


def test_an_error_shows_the_line_escaped() -> None:
    with pytest.raises(ReplyError) as error:
        ReplyParser().feed(b"\x1b]0;owned\x07\r\n")
    assert str(error.value) == '"\\x1b]0;owned\\x07" is no SMTP reply'


def test_a_line_of_the_longest_is_taken_whatever_the_chunks() -> None:
    line = b"250 " + b"x" * (LINE_LIMIT - 4) + b"\r\n"
    parser = ReplyParser()
    replies = [reply for octet in line for reply in parser.feed(bytes([octet]))]
    assert replies == ReplyParser().feed(line) == [Reply(250, "", "x" * (LINE_LIMIT - 4))]


def test_pending_tells_whether_a_reply_has_begun() -> None:
    parser = ReplyParser()
    states = [(parser.feed(chunk), parser.pending) for chunk in (b"25", b"0-a\r\n", b"250 b\r\n", b"")]
    assert [pending for _, pending in states] == [True, True, False, False]


REPLY_OCTETS = st.lists(
    st.sampled_from(
        [b"250 ", b"250-", b"550 5.1.1 x", b"354", b"\r\n", b"\n", b"\r", b"text", b"\xff", b"2", b"5", b" "]
    ),
    max_size=30,
).map(b"".join)


def outcome(chunks: list[bytes]) -> tuple[list[Reply], str]:
    parser, replies = ReplyParser(), list[Reply]()
    try:
        for chunk in chunks:
            replies += parser.feed(chunk)
    except ReplyError as error:
        return replies, str(error)
    return replies, parser.failure


@given(REPLY_OCTETS | st.binary(max_size=100), st.lists(st.integers(0, 100), max_size=8))
@example(b"250 Ok\r\n", [7])
def test_chunks_do_not_matter_and_nothing_but_a_reply_error_is_raised(octets: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets)]
    chunks = [octets[start:end] for start, end in pairwise(edges)]
    assert outcome(chunks) == outcome([octets])


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=600)


@given(
    st.integers(200, 599),
    st.sampled_from(["", "1.1", "7.26"]),
    st.lists(PRINTABLE, min_size=1, max_size=4).map("\n".join),
)
@example(250, "", " leading space")
def test_what_is_written_is_read_again(code: int, status: str, text: str) -> None:
    status = f"{code // 100}.{status}" if status and code // 100 != 3 else ""
    wire = Reply(code, status, text).wire()
    lines = wire.removesuffix(b"\r\n").split(b"\r\n")
    assert all(len(line) <= 510 and line.isascii() for line in lines)
    (reply,) = ReplyParser().feed(wire)
    assert reply.code == code
    if status:
        assert reply.status == status
        assert reply.text.split() == text.split() or max(map(len, text.split(" "))) > 490
    assert str(Reply(code, status, text)).isprintable()


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        pytest.param(Reply(250, "2.0.0", "Ok"), b"250 2.0.0 Ok\r\n", id="one line"),
        pytest.param(Reply(250, "", "mx\nSIZE 1"), b"250-mx\r\n250 SIZE 1\r\n", id="no enhanced code in an EHLO reply"),
        pytest.param(Reply(550, "5.1.1", "a\nb"), b"550-5.1.1 a\r\n550 5.1.1 b\r\n", id="both codes on every line"),
        pytest.param(Reply(250, "2.0.0", ""), b"250 2.0.0\r\n", id="no text"),
        pytest.param(Reply(354, "", ""), b"354\r\n", id="only a code"),
        pytest.param(
            Reply(550, "5.0.0", "a\r\n250 Ok"), b"550-5.0.0 a\\r\r\n550 5.0.0 250 Ok\r\n", id="no second reply"
        ),
        pytest.param(Reply(550, "5.0.0", "a\x1b[0m\0é"), b"550 5.0.0 a\\x1b[0m\\x00\\xe9\r\n", id="escaped and ASCII"),
    ],
)
def test_the_wire_form(reply: Reply, wire: bytes) -> None:
    assert reply.wire() == wire


@given(
    status=st.sampled_from(["", "2.0.0", "5.999.999"]),
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=420),
)
def test_a_short_line_is_written_as_any_other_is(status: str, text: str) -> None:
    reply = Reply(250, status, text)
    assert reply.wire() == reply._wire_of_any(smtputf8=False)


def test_utf8_goes_out_only_to_who_reads_it_and_is_not_cut_within_a_character() -> None:
    reply = Reply(553, "5.6.7", "x" + "é" * 600)
    assert reply.wire().isascii()
    lines = reply.wire(smtputf8=True).removesuffix(b"\r\n").split(b"\r\n")
    assert len(lines) == 3 and all(len(line) <= 510 for line in lines)
    assert "".join(line.decode()[10:] for line in lines) == "x" + "é" * 600


def test_a_long_line_is_cut_at_a_space() -> None:
    lines = Reply(550, "5.7.1", ("word " * 250).strip()).wire().split(b"\r\n")[:-1]
    assert [line[:9] for line in lines] == [b"550-5.7.1", b"550-5.7.1", b"550 5.7.1"]
    assert all(line.endswith(b"word") for line in lines)


@pytest.mark.parametrize(
    ("code", "positive", "transient", "permanent"),
    [(250, True, False, False), (354, True, False, False), (421, False, True, False), (550, False, False, True)],
)
def test_the_kind_of_a_reply(code: int, positive: bool, transient: bool, permanent: bool) -> None:
    reply = Reply(code, "", "")
    assert (reply.is_positive, reply.is_transient, reply.is_permanent) == (positive, transient, permanent)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain text", "plain text", id="plain text"),
        pytest.param("Grüße, 世界 👩\u200d🚀", "Grüße, 世界 👩\u200d🚀", id="letters and joined emoji stay"),
        pytest.param("a\r\nb\tc", "a\\r\\nb\\tc", id="line ends and tabs"),
        pytest.param("\x1b[31m\x9b", "\\x1b[31m\\x9b", id="escape sequences"),
        pytest.param("\u202eevil\u2066", "\\u202eevil\\u2066", id="marks of direction"),
        pytest.param("a\u2028b\u200b\ufeff", "a\\u2028b\\u200b\\ufeff", id="separators and invisible characters"),
        pytest.param("\udcff\U000e0041", "\\udcff\\U000e0041", id="lone surrogates and tags"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown
    assert str(Reply(550, "", text)) == "550 " + shown.replace("\\n", " ")
