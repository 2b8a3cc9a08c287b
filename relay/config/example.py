"""config.example: writes relay.toml.example from the models, so that the two cannot differ.

`python -m relay.config.example` prints it; `make example` puts it at the repository's root, and a test holds the
committed file equal. A comment is a key's description. "#key = value", without a space, is a default (or, where
nothing is the default, an example); what has no default stands without the "#".
"""

import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from relay.config.models import Config
from relay.config.problem import table_in
from relay.config.values import Table

_WIDTH = 100
_NAMES = {"smarthost": "provider", "stream": "bulk"}  # an example of a name, for tables that are chosen by name

_HEAD = """\
Relay's configuration. Copy it to relay.toml; only what differs from the defaults needs to stay.

A line that begins with "#" and no space is a default, or an example where the default is nothing: take the "#" away and
change it. Times are written "90s", "10m", "4h", "5d"; sizes are in octets; file paths are relative to this file, and
${CREDENTIALS_DIRECTORY} stands for the directory of systemd's LoadCredential=. `relay check` reads this file and says
what is wrong with it; SIGHUP makes a running server reread it."""


def example() -> str:
    """The text of relay.toml.example."""
    lines = [*_comment(_HEAD), *_tables(Config, "")]
    return "\n".join(lines) + "\n"


def _tables(model: type[Table], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = table_in(field)
        if inner is not None:
            yield ""
            yield from _table(inner, field, prefix + name)
            yield from _tables(inner, f"{prefix}{name}.")


def _table(model: type[Table], field: FieldInfo, name: str) -> Iterator[str]:
    kind = get_origin(field.annotation)
    yield from _comment(inspect.getdoc(model) or "")
    if kind is tuple:
        yield f"#[[{name}]]"
    elif kind is dict:
        yield f"#[{name}.{_NAMES[name]}]"
    else:
        yield f"[{name}]"
    for key, inner in model.model_fields.items():
        if table_in(inner) is None:
            yield from _comment(inner.description or "")
            yield _key(model, key, inner, is_active=inner.is_required() and kind is None)


def _key(model: type[Table], key: str, field: FieldInfo, *, is_active: bool) -> str:
    default = None if field.is_required() else field.get_default()
    value = field.examples[0] if default in (None, "") and field.examples else _written(model, key, default)
    return f"{'' if is_active else '#'}{key} = {_toml(value)}"


def _written(model: type[Table], key: str, default: object) -> Any:
    """The default as it is written in TOML: "30s", not 30.0."""
    return model.model_construct(None, **{key: default}).model_dump(mode="json", include={key})[key]


def _toml(value: object) -> str:
    """Text, numbers and lists of them are written in TOML as in JSON."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    paragraphs = [textwrap.wrap(paragraph, _WIDTH - 2) for paragraph in text.split("\n\n")]
    return ["# " + line if line else "#" for paragraph in paragraphs for line in (*paragraph, "")][:-1]


if __name__ == "__main__":
    sys.stdout.write(example())
