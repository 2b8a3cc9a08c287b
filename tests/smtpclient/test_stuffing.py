"""Dot-stuffing: whatever the octets and wherever they are cut, the server gets them back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtpclient.stuffing import Stuffer, stuff

# Mostly what matters here: dots, line ends, halves of line ends; and any octet.
PIECES = st.sampled_from([b".", b"..", b"\r\n", b"\r", b"\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\x00", b"\xff"])
CONTENT = st.lists(PIECES | st.binary(max_size=5), max_size=40).map(b"".join)


def unstuffed(wire: bytes) -> bytes:
    """As RFC 5321 4.5.2 has the receiver do it, written from the RFC: line by line."""
    assert wire.endswith(b"\r\n.\r\n") or wire == b".\r\n"
    lines = wire.split(b"\r\n")[:-2]
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines)


def ended(content: bytes) -> bytes:
    """Content as it must arrive: it always ends with a line end."""
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


@given(CONTENT)
def test_what_is_stuffed_arrives_unchanged(content: bytes) -> None:
    assert unstuffed(stuff(content)) == ended(content)


@given(CONTENT)
def test_nothing_within_ends_the_content_early(content: bytes) -> None:
    wire = stuff(content)
    assert (b"\r\n" + wire).find(b"\r\n.\r\n") == len(wire) - 3


@given(CONTENT, st.data())
def test_blocks_cut_anywhere_give_the_same_octets(content: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=10)))
    stuffer = Stuffer()
    wire = b"".join(
        stuffer.stuff(content[start:end]) for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)
    )
    assert wire + stuffer.end() == stuff(content)


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        pytest.param(b"", b".\r\n", id="nothing"),
        pytest.param(b"a\r\n", b"a\r\n.\r\n", id="one line"),
        pytest.param(b"a", b"a\r\n.\r\n", id="a last line without its end gets one"),
        pytest.param(b".", b"..\r\n.\r\n", id="only a dot"),
        pytest.param(b".a\r\n.\r\n..\r\n", b"..a\r\n..\r\n...\r\n.\r\n", id="dots at line starts"),
        pytest.param(b"a.b\r\nc.\r\n", b"a.b\r\nc.\r\n.\r\n", id="dots elsewhere"),
    ],
)
def test_examples(content: bytes, wire: bytes) -> None:
    assert stuff(content) == wire
