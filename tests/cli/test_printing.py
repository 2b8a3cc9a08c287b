"""cli.printing: nothing a peer wrote acts on a terminal, and values read as people and programs expect."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.cli import printing


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain text", "plain text", id="plain text"),
        pytest.param("é 日本", "é 日本", id="letters beyond ASCII"),
        pytest.param("\x1b[31mred", "\\x1b[31mred", id="an escape sequence"),
        pytest.param("\x9b31m", "\\x9b31m", id="its eight-bit form"),
        pytest.param("a\r\nb\tc\x07\x7f", "a\\x0d\\x0ab\\x09c\\x07\\x7f", id="control characters"),
        pytest.param("a\u202eb", "a\\u202eb", id="a mark that turns text round"),
        pytest.param("\udcff", "\\udcff", id="half a character"),
        pytest.param("[red]x[/red] [link=http://x]y[/link]", "[red]x[/red] [link=http://x]y[/link]", id="markup"),
    ],
)
def test_text_is_escaped(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    printing.line(text)
    printing.table(("column",), [(text,)], empty="")
    assert capsys.readouterr().out == f"{shown}\ncolumn\n{shown}\n"


@given(st.text(st.characters()))
def test_safe_text_is_one_printable_line(text: str) -> None:
    shown = printing.safe(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    shown.encode()


@given(st.text(st.characters()))
def test_json_is_ascii_and_reads_back(text: str) -> None:
    written = json.dumps(text)
    assert written.isascii()
    assert json.loads(written) == text


def test_a_line_into_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(("a", "b"), [("x" * 500, "y" * 500)], empty="")
    assert "x" * 500 + "  " + "y" * 500 in capsys.readouterr().out


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    printing.table(("a",), [], empty="Nothing is waiting.")
    assert capsys.readouterr().out == "Nothing is waiting.\n"


def test_facts_stand_under_each_other_and_empty_ones_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    printing.facts([("a", "x"), ("none", None), ("empty", ""), ("longer", 0)])
    assert capsys.readouterr().out == "a       x\nlonger  0\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0.0 s"),
        (0.44, "0.4 s"),
        (12.6, "12 s"),
        (60, "1 min"),
        (3725, "1 h 2 min"),
        (7200, "2 h"),
        (93784, "1 d 2 h"),
    ],
)
def test_a_span_is_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert printing.span(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 octets"), (1023, "1023 octets"), (1024, "1.0 KiB"), (26214400, "25.0 MiB"), (2**41, "2.0 TiB")],
)
def test_a_size_is_in_its_unit(octets: int, text: str) -> None:
    assert printing.size(octets) == text


def test_times() -> None:
    assert printing.iso(0) is None
    assert printing.when(0) == ""
    assert printing.iso(1795192744.75) == "2026-11-20T16:39:04.750Z"
    assert printing.when(1795192744.75) == "2026-11-20 16:39:04Z"
    assert printing.moment(1795192744.75) == "2026-11-20 16:39:04.750Z"
    assert printing.moment(0) == ""


def test_counts() -> None:
    assert printing.count(1, "recipient") == "1 recipient"
    assert printing.count(0, "recipient") == "0 recipients"
    assert printing.count(2, "address", "addresses") == "2 addresses"


def test_a_folded_header_is_shown_as_it_looks(capsys: pytest.CaptureFixture[str]) -> None:
    printing.block("Received: from x\r\n\tby relay\x1b[31m")
    assert capsys.readouterr().out == "Received: from x\n        by relay\\x1b[31m\n"
