"""Lists of suppressions as text: what is written reads back, and what cannot be read says where and why."""

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import DataError
from relay.mail.suppression import Cause, Suppression
from relay.registry.suppression_files import FIELDS, Format, header, read, write

NOW = 1_800_000_000.0

text = st.text(st.characters(codec="utf-8"), max_size=40)
# To the microsecond, as files have it.
times = st.integers(1, 4_000_000_000_000_000).map(lambda microseconds: microseconds / 1_000_000)
addresses = st.from_regex(r"[A-Za-z0-9.]{1,9}@[a-z0-9]{1,9}\.example", fullmatch=True).filter(
    lambda address: not address.startswith(".") and ".@" not in address and ".." not in address
) | st.sampled_from(['"a, b"@example.com', '"\\""@example.com', "ä@bücher.example", "a@[192.0.2.1]"])
suppressions = st.builds(
    Suppression,
    address=addresses,
    cause=st.sampled_from(Cause),
    created_at=times,
    expires_at=st.just(0.0) | times,
    scope=text.filter(bool),
    message=text,
    reply=text,
)


def parsed(content: str, form: Format) -> list[Suppression]:
    return list(read(io.StringIO(content, newline=""), form, now=NOW))


@given(several=st.lists(suppressions, max_size=5), form=st.sampled_from(Format))
def test_what_is_written_reads_back(several: list[Suppression], form: Format) -> None:
    back = parsed(header(form) + write(several, form), form)
    assert [(each.address, each.cause, each.scope, each.message, each.reply) for each in back] == [
        (each.address, each.cause, each.scope, each.message, each.reply) for each in several
    ]
    for old, new in zip(several, back, strict=True):
        assert math.isclose(old.created_at, new.created_at, abs_tol=1e-6, rel_tol=0)
        assert math.isclose(old.expires_at, new.expires_at, abs_tol=1e-6, rel_tol=0)


@given(content=st.text() | st.text(st.sampled_from('address,"@.x\r\n{}:[] 0e')), form=st.sampled_from(Format))
def test_whatever_is_read_is_suppressions_or_a_data_error(content: str, form: Format) -> None:
    try:
        assert all(isinstance(each, Suppression) for each in parsed(content, form))
    except DataError as error:
        assert error.text.startswith("line ")  # noqa: PT017  # either outcome is right; this is how the second must look


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            "address\na@example.com\n", Suppression("a@example.com", Cause.MANUAL, NOW), id="an address alone"
        ),
        pytest.param(
            "\ufeffADDRESS , cause\r\na@example.com,complaint\r\n",
            Suppression("a@example.com", Cause.COMPLAINT, NOW),
            id="as a spreadsheet saves it",
        ),
        pytest.param(
            "cause,address\nmanual, A@EXAMPLE.com \n\n",
            Suppression("A@example.com", Cause.MANUAL, NOW),
            id="columns in any order, an empty line, spaces",
        ),
        pytest.param(
            "address,created_at\na@example.com,1799999999.5\n",
            Suppression("a@example.com", Cause.MANUAL, 1799999999.5),
            id="a time in POSIX seconds",
        ),
        pytest.param(
            "address,created_at\na@example.com,2027-01-15T09:00:00+01:00\n",
            Suppression("a@example.com", Cause.MANUAL, NOW),
            id="a time with its zone",
        ),
        pytest.param(
            "address,expires_at\na@example.com,2027-01-15 08:00\n",
            Suppression("a@example.com", Cause.MANUAL, NOW, NOW),
            id="a time without a zone is UTC",
        ),
        pytest.param(
            "address,cause\na@example.com\n",
            Suppression("a@example.com", Cause.MANUAL, NOW),
            id="values left out at the end",
        ),
    ],
)
def test_csv(content: str, expected: Suppression) -> None:
    assert parsed(content, Format.CSV) == [expected]


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        pytest.param(
            Format.CSV, "email\na@example.com\n", 'line 1 names no column "address"', id="no column of addresses"
        ),
        pytest.param(Format.CSV, "address,color\n", 'line 1: "color" is no field', id="an unknown column"),
        pytest.param(Format.CSV, "address\na@example.com\nb\n", 'line 3: "b": ', id="what is no address"),
        pytest.param(
            Format.CSV,
            "address,cause\na@example.com,tired\n",
            'line 2: "tired" is no cause; there are hard_bounce,',
            id="an unknown cause",
        ),
        pytest.param(
            Format.CSV,
            "address,created_at\na@example.com,soon\n",
            'line 2: created_at "soon" is no time',
            id="what is no time",
        ),
        pytest.param(
            Format.CSV,
            "address,created_at\na@example.com,-1\n",
            'line 2: created_at "-1" is out of range',
            id="a time before 1970",
        ),
        pytest.param(
            Format.CSV,
            "address,created_at\na@example.com,inf\n",
            'line 2: created_at "inf" is out of range',
            id="an endless time",
        ),
        pytest.param(
            Format.CSV,
            "address\na@example.com,1\n",
            "line 2: it has 2 values for 1 columns",
            id="more values than columns",
        ),
        pytest.param(Format.CSV, 'address\n"a@example.com\n', "line 2: it is no CSV", id="a quote without its end"),
        pytest.param(Format.CSV, "", "line 1 names no column", id="an empty file"),
        pytest.param(Format.JSON_LINES, "\n{}\n", "line 2: .*empty", id="an object without an address"),
        pytest.param(Format.JSON_LINES, "[1]\n", "line 1: it is no JSON object", id="a list"),
        pytest.param(Format.JSON_LINES, "{\n", "line 1: it is no JSON", id="half an object"),
        pytest.param(Format.JSON_LINES, "[" * 100_000, "line 1: it is no JSON", id="nested without end"),
        pytest.param(Format.JSON_LINES, '{"address": 5}\n', "line 1: address is no text", id="a number for an address"),
        pytest.param(
            Format.JSON_LINES,
            '{"address": "a@example.com", "created_at": [1]}\n',
            "line 1: created_at .* is no time",
            id="a list for a time",
        ),
        pytest.param(
            Format.JSON_LINES,
            '{"address": "a@example.com", "reply": "\\ud800"}\n',
            "line 1: reply is not Unicode",
            id="half a surrogate pair",
        ),
        pytest.param(
            Format.JSON_LINES,
            '{"address": "a@example.com", "colour": 1}\n',
            'line 1: "colour" is no field',
            id="an unknown key",
        ),
    ],
)
def test_what_cannot_be_taken(form: Format, content: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as refused:
        parsed(content, form)
    assert refused.value.remedy


def test_what_is_not_utf8_is_said_to_be_so() -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"address\na@example.com\n\xff\n"), encoding="utf-8", newline="")
    with pytest.raises(DataError, match="not UTF-8"):
        list(read(lines, Format.CSV, now=NOW))


def test_the_fields_of_a_file_are_those_of_a_suppression() -> None:
    assert FIELDS == ("address", "cause", "created_at", "expires_at", "scope", "message", "reply")
