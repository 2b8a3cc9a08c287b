"""config.lines: on which line of a TOML text a key stands, so that an error can say it.

tomllib gives values without places. This reads a text that tomllib has already accepted, so it knows only as much of
TOML as finding keys takes: headers, the keys before "=", and where a value ends. A path is what leads to a value in
tomllib's answer: ("submission", "trusted", 0, "networks"). What stands inside a value (a list's element, an inline
table's key) has the line of the value's key.
"""

import re
from collections.abc import Iterator

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BASIC = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LITERAL = re.compile(r"'([^']*)'")
# What may stand in a value: strings of all four kinds first, since they may hold brackets, "#" and line ends.
_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[{]|[\]}]|\n"
    r"|[^\"'\#\[\]{}\n]+",
    re.DOTALL,
)


class Lines:
    """The lines of a TOML text's keys, counted from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}  # the last index of each [[table]]
        prefix: KeyPath = ()
        for line, statement in _statements(text):
            if statement.startswith("["):
                prefix = self._header(statement)
                self._lines.setdefault(prefix, line)
            else:
                self._add_key(prefix, _keys(statement), line)

    def find(self, path: KeyPath) -> int:
        """The line of a path, or of the nearest key or table that leads to it; 0 when nothing of it is in the text."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line:
                return line
        return 0

    def _header(self, statement: str) -> KeyPath:
        names = _keys(statement.lstrip("["))
        path: KeyPath = ()
        for position, name in enumerate(names, start=1):
            path = (*path, name)
            if position == len(names) and statement.startswith("[["):
                self._arrays[path] = self._arrays.get(path, -1) + 1
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _add_key(self, prefix: KeyPath, names: tuple[str, ...], line: int) -> None:
        for length in range(1, len(names) + 1):
            self._lines.setdefault((*prefix, *names[:length]), line)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line, what stands there) for each header and each key with its value, however many lines the value takes."""
    line, start, depth, statement = 1, 1, 0, ""
    for match in _PIECE.finditer(text.replace("\r\n", "\n") + "\n"):
        piece = match[0]
        if piece == "\n" and depth == 0:
            if statement.strip():
                yield start, statement.strip()
            statement, start = "", line + 1
        elif not piece.startswith("#"):
            # A header's brackets balance within its line, so one count serves both.
            depth += (piece in ("[", "{")) - (piece in ("]", "}"))
            statement += piece
        line += piece.count("\n")


def _keys(text: str) -> tuple[str, ...]:
    """The dotted key at the beginning of a text: 'a."b.c" = 1' → ("a", "b.c")."""
    keys: list[str] = []
    rest = text.lstrip()
    while True:
        match = _BARE.match(rest) or _BASIC.match(rest) or _LITERAL.match(rest)
        if match is None:
            return tuple(keys)
        keys.append(match[match.lastindex or 0])
        rest = rest[match.end() :].lstrip()
        if not rest.startswith("."):
            return tuple(keys)
        rest = rest[1:].lstrip()
