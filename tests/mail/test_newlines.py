"""Line ends: CRLF and nothing else, also when content comes in chunks."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.newlines import (
    NewlineCheck,
    NewlineNormalizer,
    count_long_lines,
    has_bare_newline,
    is_8bit,
    normalize_newlines,
)


@pytest.mark.parametrize(
    ("data", "bare", "normalized"),
    [
        pytest.param(b"", False, b"", id="nothing"),
        pytest.param(b"a\r\nb\r\n", False, b"a\r\nb\r\n", id="CRLF"),
        pytest.param(b"a\r\nb", False, b"a\r\nb", id="no line end at the end"),
        pytest.param(b"a\nb\r\n", True, b"a\r\nb\r\n", id="an LF alone"),
        pytest.param(b"a\rb\r\n", True, b"a\r\nb\r\n", id="a CR alone"),
        pytest.param(b"a\r\r\n", True, b"a\r\n\r\n", id="a CR before a CRLF"),
        pytest.param(b"a\r\n\n", True, b"a\r\n\r\n", id="an LF after a CRLF"),
        pytest.param(b"a\n\rb", True, b"a\r\n\r\nb", id="LF CR"),
        pytest.param(b"a\rb\nc", True, b"a\r\nb\r\nc", id="a CR and an LF, both alone"),
        pytest.param(b"a\r", True, b"a\r\n", id="a CR at the end"),
        pytest.param(b"\n.\r\n", True, b"\r\n.\r\n", id="a dot after an LF alone"),
    ],
)
def test_bare_newlines(data: bytes, bare: bool, normalized: bytes) -> None:
    assert has_bare_newline(data) is bare
    assert normalize_newlines(data) == normalized
    assert not has_bare_newline(normalized)


OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"."]), max_size=20).map(b"".join)


@given(OCTETS, st.lists(st.integers(0, 30), max_size=5))
@example(b"a\r\nb", [2])
@example(b"a\r", [1, 2])
def test_chunks_do_not_matter(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    check, normalizer = NewlineCheck(), NewlineNormalizer()
    normalized = b""
    for start, end in pairwise(edges):
        early = check.update(data[start:end])
        normalized += normalizer.update(data[start:end])
        assert not early or has_bare_newline(data)
    assert check.finish() is has_bare_newline(data)
    assert normalized + normalizer.finish() == normalize_newlines(data)


def test_8bit() -> None:
    assert is_8bit("é".encode())
    assert not is_8bit(b"e\x7f")


@pytest.mark.parametrize(
    ("data", "limit", "count"),
    [
        pytest.param(b"", 4, 0, id="nothing"),
        pytest.param(b"abcd\r\nabcd\r\n", 4, 0, id="lines of exactly the limit"),
        pytest.param(b"abcde\r\nabcd\r\nabcde\r\n", 4, 2, id="two of three over the limit"),
        pytest.param(b"abcd", 4, 0, id="a last line of the limit without an end"),
        pytest.param(b"abcd\r", 4, 0, id="a last line that ends in a CR"),
        pytest.param(b"abcde", 4, 1, id="a last line over it without an end"),
        pytest.param(b"abcdefghijkl", 4, 1, id="one line far over it"),
        pytest.param(b"a\r\n" * 9 + b"abcde\r\n" + b"a\r\n" * 9, 4, 1, id="one among many"),
        pytest.param(b"a" * 998 + b"\r\n" + b"a" * 999 + b"\r\n", 998, 1, id="RFC 5322's limit"),
    ],
)
def test_long_lines_are_counted(data: bytes, limit: int, count: int) -> None:
    assert count_long_lines(data, limit=limit) == count


@given(st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")), max_size=12))
def test_long_lines_are_counted_as_by_splitting(lines: list[bytes]) -> None:
    assert count_long_lines(b"\r\n".join(lines), limit=6) == sum(len(line) > 6 for line in lines)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: b"\r" * n * 10, id="CRs"),
        pytest.param(lambda n: b"\r\n" * n * 10, id="empty lines"),
        pytest.param(lambda n: b"a" * n * 10, id="one line"),
    ],
)
def test_hostile_length_costs_no_more_than_its_share(make: Callable[[int], bytes], linear: Callable[..., None]) -> None:
    linear(make, lambda data: (has_bare_newline(data), normalize_newlines(data), count_long_lines(data)))
