"""What is kept of a message while it arrives, and what is found wrong with it, however it is cut."""

import re
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import SpoolError, SpoolFull
from relay.spool.content import IncomingFile
from relay.submission.content import Bounds, Content

BOUNDS = Bounds(message_size=1_000_000, header_size=2000, line_length=65536, normalize=False)
NORMALIZING = Bounds(message_size=1_000_000, header_size=2000, line_length=65536, normalize=True)


def no_file() -> IncomingFile:
    raise AssertionError("no file is wanted")


def content_of(pieces: list[bytes], bounds: Bounds = BOUNDS, incoming: Callable[[], IncomingFile] = no_file) -> Content:
    content = Content(bounds, incoming)
    for piece in pieces:
        content.add(piece)
    content.finish()
    return content


def bytewise(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]


@pytest.mark.parametrize(
    ("octets", "header", "body"),
    [
        pytest.param(b"A: b\r\n\r\nbody\r\n", b"A: b\r\n", b"body\r\n", id="header and body"),
        pytest.param(b"A: b\r\nC: d\r\n\r\n", b"A: b\r\nC: d\r\n", b"", id="no body"),
        pytest.param(b"\r\nbody\r\n", b"", b"body\r\n", id="no header"),
        pytest.param(b"A: b\r\n", b"A: b\r\n", b"", id="no empty line"),
        pytest.param(b"A: b", b"A: b\r\n", b"", id="not even a line end"),
        pytest.param(b"", b"", b"", id="nothing"),
        pytest.param(b"\r\n", b"", b"", id="an empty line"),
        pytest.param(b"A: b\r\n\r\n\r\n\r\n", b"A: b\r\n", b"\r\n\r\n", id="a body of empty lines"),
    ],
)
def test_header_and_body(octets: bytes, header: bytes, body: bytes) -> None:
    for pieces in ([octets], bytewise(octets)):
        content = content_of(pieces)
        assert (content.problem, content.header, content.body) == (None, header, body)


@given(
    octets=st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\xe4", b": "])).map(b"".join),
    cuts=st.lists(st.integers(0, 60)),
)
def test_what_is_found_does_not_depend_on_the_pieces(octets: bytes, cuts: list[int]) -> None:
    places = sorted({cut % (len(octets) + 1) for cut in cuts})
    pieces = [octets[begin:end] for begin, end in zip([0, *places], [*places, len(octets)], strict=True)]
    content = content_of(pieces)
    is_bare = re.search(rb"\r(?!\n)|(?<!\r)\n", octets) is not None
    assert (content.problem is not None) == is_bare
    if not is_bare:
        assert content.eight_bit == (b"\xe4" in octets)
    normalized = content_of(pieces, NORMALIZING)
    expected = content_of([re.sub(rb"\r\n|\r|\n", b"\r\n", octets)])
    assert normalized.problem is expected.problem is None
    assert (normalized.header, normalized.body, normalized.size) == (expected.header, expected.body, expected.size)


@settings(deadline=None)
@given(
    lines=st.lists(st.sampled_from([0, 1, 500, 997, 998, 999, 1000, 5000]), max_size=12),
    size=st.sampled_from([1, 7, 999, 1000, 100_000]),
)
def test_long_lines_are_counted_once_each(lines: list[int], size: int) -> None:
    octets = b"\r\n" + b"".join(b"x" * length + b"\r\n" for length in lines)
    content = content_of([octets[at : at + size] for at in range(0, len(octets), size)])
    assert content.problem is None
    assert content.long_lines == sum(length > 998 for length in lines)


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        pytest.param(b"A: b\r\n\r\n" + b"x" * 65537, "A line is longer than 65536 octets", id="a line without end"),
        pytest.param(
            b"A: b\r\n" + b"C: d\r\n" * 400, "The header is larger than 2000 octets", id="a header without end"
        ),
        pytest.param(b"A: b\r\n" + b"C: d\r\n" * 400 + b"\r\n", "The header is larger than 2000 octets", id="a header"),
        pytest.param(b"A: b\r\n\r\n" + b"x\r\n" * 400_000, "The message is larger than 1000000 octets", id="a body"),
        pytest.param(b"A: \0\r\n\r\n", "The message has a NUL (RFC 5321 4.5.2)", id="a NUL in the header"),
        pytest.param(b"A: b\r\n\r\n\0", "The message has a NUL (RFC 5321 4.5.2)", id="a NUL in the body"),
    ],
)
def test_bounds(octets: bytes, text: str, tmp_path: Path) -> None:
    for size in (1000, 10_000_000):
        path = tmp_path / str(size)
        pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
        content = content_of(pieces, incoming=partial(IncomingFile, path))
        assert content.problem is not None
        assert content.problem.text == text
        assert content.problem.is_permanent
        assert (content.header, content.body, content.file) == (b"", b"", None)
        assert not path.exists()


def test_a_body_over_64_kib_is_in_a_file_with_the_same_octets() -> None:
    with tempfile.TemporaryDirectory() as directory:
        body = b"".join(b"%d\r\n" % number for number in range(30_000))
        content = content_of(
            [(b"A: b\r\n\r\n" + body)[at : at + 7001] for at in range(0, len(body) + 8, 7001)],
            incoming=lambda: IncomingFile(Path(directory, "x")),
        )
        assert content.file is not None
        assert (content.header, content.body) == (b"A: b\r\n", b"")
        assert content.file.path.read_bytes() == body
        content.discard()
        assert not Path(directory, "x").exists()


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        pytest.param(SpoolFull("no space left"), 452, "4.3.1", id="a full disk"),
        pytest.param(SpoolError("Input/output error"), 451, "4.3.0", id="a broken disk"),
    ],
)
def test_trouble_of_ours_is_transient(error: SpoolError, code: int, status: str) -> None:
    def incoming() -> IncomingFile:
        raise error

    content = content_of([b"A: b\r\n\r\n" + b"line\r\n" * 20_000], incoming=incoming)
    assert content.problem is not None
    assert (content.problem.code, content.problem.status, content.trouble) == (code, status, error)
    assert "Input" not in content.problem.text


@pytest.mark.parametrize("pieces", [pytest.param(1, id="in one piece"), pytest.param(40, id="in pieces")])
def test_a_disk_that_fills_while_a_body_is_written_is_transient_trouble(tmp_path: Path, pieces: int) -> None:
    octets = b"A: b\r\n\r\n" + b"line\r\n" * 40_000
    size = len(octets) // pieces + 1
    cut = [octets[at : at + size] for at in range(0, len(octets), size)]
    with no_file_larger_than(1000):
        content = content_of(cut, incoming=lambda: IncomingFile(tmp_path / "x"))
    assert content.problem is not None
    assert (content.problem.code, content.problem.status) == (451, "4.3.0")
    assert (content.header, content.body, content.file) == (b"", b"", None)
    assert not (tmp_path / "x").exists()


@contextmanager
def no_file_larger_than(octets: int) -> Iterator[None]:
    """Writing more fails with EFBIG: the nearest to a full disk that needs no disk of one's own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_is_kept_of_what_will_be_refused() -> None:
    content = Content(BOUNDS, no_file)
    content.add(b"a\nb\r\n")
    for _ in range(1000):
        content.add(b"x" * 1000)
    assert content.size == 0
    assert content.body == b""
