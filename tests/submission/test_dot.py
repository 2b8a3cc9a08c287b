"""Where DATA ends, and what is content: any octets in, the same octets out, in whatever pieces they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.dot import DotReader

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n..", b"a", b"bc", b"\0", b"\xff"])
    | st.binary(max_size=9),
    max_size=30,
)


def stuffed(content: bytes) -> bytes:
    """As a client sends it, RFC 5321 4.5.2; content ends in CRLF, or is empty."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def cut(octets: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(octets) + 1) for place in at})
    return [octets[begin:end] for begin, end in zip([0, *places], [*places, len(octets)], strict=True)]


def read(pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """(content, what lies beyond its end)."""
    reader, content, beyond = DotReader(), b"", None
    for piece in pieces:
        if beyond is not None:
            beyond += piece
            continue
        taken, left = reader.feed(piece)
        content += taken
        if left is not None:
            beyond = piece[len(piece) - left :]
    return content, beyond


@given(pieces=PIECES, at=st.lists(st.integers(0, 200)), beyond=st.binary(max_size=20))
def test_any_content_comes_out_as_it_went_in_however_it_is_cut(
    pieces: list[bytes], at: list[int], beyond: bytes
) -> None:
    content = b"".join(pieces)
    content += b"" if content.endswith(b"\r\n") or not content else b"\r\n"
    assert read(cut(stuffed(content) + beyond, at)) == (content, beyond)


@given(octets=st.binary(max_size=200), at=st.lists(st.integers(0, 200)))
def test_cutting_changes_nothing_whatever_comes(octets: bytes, at: list[int]) -> None:
    whole, cut_up = read([octets]), read(cut(octets, at))
    assert (whole[1] is None) == (cut_up[1] is None)
    assert whole[0] == cut_up[0]


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"a\n.\n", id="LF dot LF"),
        pytest.param(b"a\n.\r\n", id="LF dot CRLF"),
        pytest.param(b"a\r\n.\n", id="CRLF dot LF"),
        pytest.param(b"a\r.\r", id="CR dot CR"),
        pytest.param(b"a\r\n.\r", id="CRLF dot CR"),
        pytest.param(b"a\r.\r\n", id="CR dot CRLF"),
        pytest.param(b"a\r\n.\r\rb", id="CRLF dot CR CR"),
        pytest.param(b"a\n\n.\n\n", id="LF LF dot LF LF"),
        pytest.param(b"a\r\r\n.\n\r", id="CR CRLF dot LF CR"),
        pytest.param(b"a\0\r\n.\0\r\n", id="a NUL after the dot"),
        pytest.param(b"a\r\n.\x00\r\n", id="a NUL where CRLF should be"),
        pytest.param(b"a\r\n..\r\n", id="two dots"),
        pytest.param(b"a\r\n. \r\n", id="a dot and a space"),
        pytest.param(b".\n", id="a dot and LF at once"),
        pytest.param(b"\n.\r\n", id="LF dot CRLF at once"),
    ],
)
def test_what_is_no_end(octets: bytes) -> None:
    assert read([octets])[1] is None


@pytest.mark.parametrize(
    ("octets", "content", "beyond"),
    [
        pytest.param(b".\r\n", b"", b"", id="nothing at all"),
        pytest.param(b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n", id="a command follows"),
        pytest.param(b"..\r\n.\r\n", b".\r\n", b"", id="a line that is a dot"),
        pytest.param(b".\r\n.\r\n", b"", b".\r\n", id="the first end counts"),
        pytest.param(b"\r\n.\r\n", b"\r\n", b"", id="an empty line"),
        pytest.param(b"a\r\n\r\n.\r\n", b"a\r\n\r\n", b"", id="an empty line before the end"),
        pytest.param(b"a\r\r\n.\r\n", b"a\r\r\n", b"", id="CR CRLF dot CRLF ends, and the CR is content"),
    ],
)
def test_what_is_an_end(octets: bytes, content: bytes, beyond: bytes) -> None:
    assert read([octets]) == (content, beyond)
    assert read([octets[place : place + 1] for place in range(len(octets))]) == (content, beyond)
