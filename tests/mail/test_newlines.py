"""Line ends: CRLF and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.newlines import normalize_newlines


@pytest.mark.parametrize(
    ("data", "normalized"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"a\r\nb\r\n", b"a\r\nb\r\n", id="CRLF"),
        pytest.param(b"a\r\nb", b"a\r\nb", id="no line end at the end"),
        pytest.param(b"a\nb\r\n", b"a\r\nb\r\n", id="an LF alone"),
        pytest.param(b"a\rb\r\n", b"a\r\nb\r\n", id="a CR alone"),
        pytest.param(b"a\r\r\n", b"a\r\n\r\n", id="a CR before a CRLF"),
        pytest.param(b"a\r\n\n", b"a\r\n\r\n", id="an LF after a CRLF"),
        pytest.param(b"a\n\rb", b"a\r\n\r\nb", id="LF CR"),
        pytest.param(b"a\r", b"a\r\n", id="a CR at the end"),
        pytest.param(b"\n.\r\n", b"\r\n.\r\n", id="a dot after an LF alone"),
    ],
)
def test_every_line_end_becomes_crlf(data: bytes, normalized: bytes) -> None:
    assert normalize_newlines(data) == normalized


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"."]), max_size=20).map(b"".join))
def test_what_is_normalized_has_no_cr_or_lf_alone(data: bytes) -> None:
    rest = normalize_newlines(data).replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest
