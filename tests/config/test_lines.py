"""config.lines: the line of every key, whatever the TOML around it."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.lines import KeyPath, Lines

TEXT = """\
# a comment with [brackets] and = signs
[server]
hostname = "a#[b"  # ] a comment
"odd key" = 1
a.b . 'c d' = 2
list = [ # comment ]
  "]", \"\"\"
 [foo]
x = 1 \\"\"\"
\"\"\",
]
inline = { x = 1, y = [1,
] }
[[submission.trusted]]
listen = '"'
[submission.trusted.sub]
k = 1
[[submission.trusted]]
listen = '#'
[ a . "q.r" ]
z = '''
[nope]'''
last = 1\
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param(("server",), 2, id="a table's header"),
        pytest.param(("server", "hostname"), 3, id="a value with brackets and a number sign"),
        pytest.param(("server", "odd key"), 4, id="a quoted key"),
        pytest.param(("server", "a", "b", "c d"), 5, id="a dotted key with spaces"),
        pytest.param(("server", "list"), 6, id="a list over several lines"),
        pytest.param(("server", "list", 1), 6, id="an element has its key's line"),
        pytest.param(("server", "inline", "x"), 12, id="an inline table's key has the table's line"),
        pytest.param(("submission", "trusted", 0, "listen"), 15, id="the first of an array of tables"),
        pytest.param(("submission", "trusted", 0, "sub", "k"), 17, id="a table inside an array of tables"),
        pytest.param(("submission", "trusted", 1, "listen"), 19, id="the second of an array of tables"),
        pytest.param(("submission", "trusted", 1, "absent"), 18, id="an absent key has its table's line"),
        pytest.param(("a", "q.r", "z"), 21, id="a quoted part of a header"),
        pytest.param(("a", "q.r", "last"), 23, id="what follows a text over several lines"),
        pytest.param(("foo",), 0, id="what only a text's content looks like"),
        pytest.param(("nope",), 0, id="nothing at all"),
    ],
)
def test_the_line_of(path: KeyPath, line: int) -> None:
    tomllib.loads(TEXT)
    assert Lines(TEXT).find(path) == line


def test_lines_ended_by_crlf_count_once() -> None:
    assert Lines(TEXT.replace("\n", "\r\n")).find(("a", "q.r", "last")) == 23


KEYS = st.text("abc-_1", min_size=1, max_size=4)
TEXTS = st.text('a#[]{}=\n"\\,', max_size=12)


@given(st.dictionaries(KEYS, TEXTS | st.integers() | st.lists(TEXTS, max_size=3), max_size=6))
def test_every_key_of_a_generated_file_is_found(table: dict[str, Any]) -> None:
    text, expected = "", {}
    for key, value in table.items():
        expected[key] = text.count("\n") + 1
        text += f"{key} = {written(value)}\n"
    assert tomllib.loads(text).keys() == table.keys()
    assert {key: Lines(text).find((key,)) for key in table} == expected


def written(value: object) -> str:
    if isinstance(value, list):
        return "[\n" + "".join(f"  {written(element)}, # ]\n" for element in value) + "]"
    if isinstance(value, str) and "\n" in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{escaped}"""'
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
