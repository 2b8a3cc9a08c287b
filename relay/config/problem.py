"""config.problem: what is wrong in relay.toml, said as one sentence with table, key, value, line and what to do.

A Problem is a place and a text; the place is a path as in tomllib's answer, ("submission", "trusted", 0, "listen").
`problems_of` translates pydantic's errors into Problems; `sentence` adds the table, the value and the line.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay.config.lines import KeyPath, Lines
from relay.config.models import Config
from relay.config.values import Table

_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong and what to do.

    subject: how the sentence begins; "" for the table, the key and its value. names_value: the text already speaks of
    the value, so it is not shown again.
    """

    path: KeyPath
    text: str
    subject: str = ""
    names_value: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads: the table as it is written in the file, its model, and the key in it ("" for the table)."""

    label: str
    model: type[Table]
    key: str


def place_of(path: KeyPath) -> Place:
    """("route", 1, "via") → [[route]], Route, "via"."""
    model: type[Table] = Config
    names: list[str] = []
    is_array = False
    steps = list(path)
    while steps:
        field = model.model_fields.get(str(steps[0]))
        inner = table_in(field) if field else None
        if field is None or inner is None:
            return Place(_label(names, is_array=is_array), model, str(steps[0]))
        names.append(str(steps.pop(0)))
        is_array = get_origin(field.annotation) is tuple
        if steps and get_origin(field.annotation) is dict:
            names.append(str(steps.pop(0)))
        elif steps and isinstance(steps[0], int):
            steps.pop(0)
        model = inner
    return Place(_label(names, is_array=is_array), model, "")


def table_in(field: FieldInfo) -> type[Table] | None:
    """The model of a field that is a table, a list of tables, or tables by name."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Table):
            return candidate
    return None


def _label(names: list[str], *, is_array: bool) -> str:
    name = ".".join(names)
    return f"[[{name}]]" if is_array else f"[{name}]" if name else ""


def sentence(problem: Problem, document: Mapping[str, Any], lines: Lines) -> str:
    """'[server] workers = "many", line 4: write a whole number or "auto"'."""
    line = lines.find(problem.path)
    where = f", line {line}" if line else ""
    if problem.subject:
        return f"{problem.subject}{where}; {problem.text}"
    place = place_of(problem.path)
    value = value_at(document, problem.path)
    shown = "" if problem.names_value or value is None or not place.key else f" = {_shown(value)}"
    return f"{place.label} {place.key}".strip() + f"{shown}{where}: {problem.text}"


def value_at(document: object, path: KeyPath) -> Any:
    """What the file has at a path; None when it has nothing there."""
    for step in path:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return None
    return document


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def problems_of(error: ValidationError, document: Mapping[str, Any]) -> list[Problem]:
    """Pydantic's errors as Problems; the errors of a union's branches become one, joined by "or"."""
    texts: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        texts.setdefault(_path(details, document), []).append(details)
    problems = [_problem(path, details, document) for path, details in texts.items()]
    # A list whose elements were refused is called too short as well; the elements' errors say it.
    return [problem for problem in problems if problem.text]


def _path(details: ErrorDetails, document: Mapping[str, Any]) -> KeyPath:
    """The error's place without the names of union branches and validators that pydantic appends."""
    path: KeyPath = ()
    for step in details["loc"]:
        if value_at(document, (*path, step)) is None:
            is_key = details["type"] in ("missing", "extra_forbidden")
            return (*path, step) if is_key else path
        path = (*path, step)
    return path


def _problem(path: KeyPath, errors: list[ErrorDetails], document: Mapping[str, Any]) -> Problem:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return _unknown(path, document)
    if first["type"] == "missing":
        return _missing(path)
    if first["type"] == "value_error":
        text = str(first.get("ctx", {}).get("error", first["msg"]))
        return Problem(path, text, names_value=text.startswith(('"', "'")))
    wanted = dict.fromkeys(_wanted(details, path) for details in errors)
    return Problem(path, "write " + " or ".join(filter(None, wanted)) if any(wanted) else "")


def _unknown(path: KeyPath, document: Mapping[str, Any]) -> Problem:
    place = place_of(path)
    is_table = not place.label and isinstance(value_at(document, path), dict | list)
    subject = (
        f"unknown table [{place.key}]" if is_table else f'unknown key "{place.key}" in {place.label or "no table"}'
    )
    close = difflib.get_close_matches(place.key, place.model.model_fields, n=1)
    homes = [label for label, model in _all_tables(Config, "") if place.key in model.model_fields]
    if close:
        text = "did you mean " + (f"[{close[0]}]?" if is_table else f'"{close[0]}"?')
    elif homes and not is_table:
        text = f"it belongs in {homes[0]}"
    else:
        text = f"the {'keys here' if place.label else 'tables'} are {', '.join(place.model.model_fields)}"
    return Problem(path, text, subject)


def _all_tables(model: type[Table], prefix: str) -> Iterator[tuple[str, type[Table]]]:
    for name, field in model.model_fields.items():
        inner = table_in(field)
        if inner is not None:
            label = f"[[{prefix}{name}]]" if get_origin(field.annotation) is tuple else f"[{prefix}{name}]"
            yield label, inner
            yield from _all_tables(inner, f"{prefix}{name}.")


def _missing(path: KeyPath) -> Problem:
    place = place_of(path)
    if place.key:
        return Problem(path, f"add {_example(place.model, place.key)}", f'"{place.key}" is missing in {place.label}')
    required = [name for name, field in place.model.model_fields.items() if field.is_required()]
    examples = " and ".join(_example(place.model, name) for name in required)
    return Problem(path, f"add it with {examples}", f"the table {place.label} is missing")


def _example(model: type[Table], key: str) -> str:
    return f"{key} = {json.dumps((model.model_fields[key].examples or ['...'])[0])}"


_BOUNDS = {
    "greater_than_equal": ("ge", "a number of {} or more"),
    "greater_than": ("gt", "a number above {}"),
    "less_than_equal": ("le", "a number of {} or less"),
    "less_than": ("lt", "a number below {}"),
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "string": "text in quotes",
    "path": "a path in quotes",
    "dict": "tables, each with its name",
}


def _wanted(details: ErrorDetails, path: KeyPath) -> str:
    """What should stand there instead."""
    kind = details["type"]
    context: dict[str, Any] = details.get("ctx", {})
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return text.format(f"{context[name]:g}")
    if kind == "literal_error":
        return str(context["expected"]).replace("'", '"')
    if kind == "too_short":
        return "at least one element" if len(details["input"]) < context["min_length"] else ""
    if kind == "tuple_type":
        place = place_of(path)
        return 'a list, such as ["..."]' if place.key else f"tables, each under {place.label}"
    if kind == "model_type":
        return f"a table, under {place_of(path).label}"
    return _KINDS.get(kind.partition("_")[0], details["msg"])
