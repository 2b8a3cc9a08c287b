"""cli.quoting: a value as it stands in somebody's configuration or program, so that it is read back as it was.

An address may hold what a syntax takes for its own ("o'brien@example.com", "a#b@example.com"), and so may a path. What
needs no quotes in a syntax that knows bare values gets none.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from types import MappingProxyType

_PLAIN = re.compile(r"[A-Za-z0-9@._/+-]*")


def as_json(value: str) -> str:
    """Also a string of Python, JavaScript, Go, C# and YAML."""
    return json.dumps(value, ensure_ascii=False)


def single(value: str) -> str:
    """PHP and Ruby: within single quotes only the quote and the backslash mean anything."""
    return "'" + re.sub(r"([\\'])", r"\\\1", value) + "'"


def dotenv(value: str) -> str:
    """As phpdotenv, Ruby's dotenv and systemd's EnvironmentFile read it alike."""
    return value if _PLAIN.fullmatch(value) else '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def ini(value: str) -> str:
    """go-ini's, where # and ; begin a comment anywhere."""
    return value if _PLAIN.fullmatch(value) else f'"""{value}"""'


def properties(value: str) -> str:
    """Java's, read as ISO 8859-1."""
    return value.replace("\\", "\\\\").encode("ascii", "backslashreplace").decode("ascii")


def exim(value: str) -> str:
    """A string that is expanded."""
    return re.sub(r"([\\$])", r"\\\1", value)


def postfix(value: str) -> str:
    """A value of main.cf, where $ begins a parameter's name."""
    return value.replace("$", "$$")


def plain(value: str) -> str:
    """Where the syntax takes everything up to the end of the line, or the value has no sign of its own."""
    return value


SYNTAXES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "": plain,
        "json": as_json,
        "php": single,
        "ruby": single,
        "shell": shlex.quote,
        "dotenv": dotenv,
        "ini": ini,
        "properties": properties,
        "exim": exim,
        "postfix": postfix,
    }
)
