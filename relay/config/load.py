"""config.load: relay.toml → Config, or one ConfigError that says everything that is wrong.

Each problem is one sentence with table, key, value, line and what to do; all problems are told at once, in the order of
the file. Relative paths are relative to the config file, and ${CREDENTIALS_DIRECTORY} is what systemd set for
LoadCredential= (left as it stands when it is not set, so that an operator's command works outside the unit).

`load` looks at nothing but the file itself; `config.files` looks at the files it names, for a server that starts.
"""

import os
import time
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from relay.config.consistency import contradictions
from relay.config.files import CREDENTIALS_VARIABLE
from relay.config.lines import Lines
from relay.config.models import Config
from relay.config.problem import Problem, problems_of, sentence
from relay.config.values import Table
from relay.errors import ConfigError

AnyTable = TypeVar("AnyTable", bound=Table)

_REMEDY = "relay.toml.example has every key with its default; `relay check` reads the file again."


def load(path: Path, *, environment: Mapping[str, str] = os.environ, now: Callable[[], float] = time.time) -> Config:
    """Read and check relay.toml. now: POSIX seconds. Raises ConfigError."""
    text = _read(path)
    document = _parse(text, path)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise _refusal(problems_of(error, document), path, document, text) from None
    problems = list(contradictions(config, today=datetime.fromtimestamp(now(), UTC).date()))
    if problems:
        raise _refusal(problems, path, document, text)
    return _resolve(config, path.absolute().parent, environment.get("CREDENTIALS_DIRECTORY", CREDENTIALS_VARIABLE))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # a byte order mark is no error
    except FileNotFoundError:
        remedy = "Run `relay quickstart` to make one, or copy relay.toml.example; name another with --config PATH."
        raise ConfigError(f"{path} does not exist.", remedy=remedy) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text.", remedy="Save the file as UTF-8.") from None
    except OSError as error:
        remedy = "Give a readable file with --config PATH."
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy=remedy) from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its text ends with "(at line 3, column 5)"
        remedy = "Correct the line, or one shortly before it: text needs quotes, a list needs its bracket."
        raise ConfigError(f"{path} is not TOML: {error}.", remedy=remedy) from None


def _refusal(problems: list[Problem], path: Path, document: Mapping[str, Any], text: str) -> ConfigError:
    lines = Lines(text)
    sentences = [
        sentence(problem, document, lines) for problem in sorted(problems, key=lambda one: lines.find(one.path))
    ]
    if len(sentences) == 1:
        return ConfigError(f"{path}: {sentences[0]}", remedy=_REMEDY)
    return ConfigError("\n".join([f"{path} has {len(sentences)} problems:", *sentences]), remedy=_REMEDY)


def _resolve(table: AnyTable, directory: Path, credentials: str) -> AnyTable:
    """The table with every path made absolute."""
    changes = {name: _resolved(value, directory, credentials) for name, value in table}
    return table.model_copy(update=changes)


def _resolved(value: object, directory: Path, credentials: str) -> object:
    if isinstance(value, Path):
        text = str(value).replace(CREDENTIALS_VARIABLE, credentials)
        return Path(text) if text.startswith(CREDENTIALS_VARIABLE) else directory / text
    if isinstance(value, Table):
        return _resolve(value, directory, credentials)
    if isinstance(value, tuple):
        return tuple(_resolved(element, directory, credentials) for element in value)
    if isinstance(value, dict):
        return {name: _resolved(element, directory, credentials) for name, element in value.items()}
    return value
