"""server.fixed: keys of relay.toml that are read at the start only; a reload names those that changed.

What they stand for is built once and shared by everything: the spool, the processes, the resolver's cache, the size
of the window. Their old values stay in force until the next start, for workers that are started again too.
"""

from functools import reduce
from typing import Any, TypeVar

from relay.config.models import Config
from relay.config.values import Table

AnyTable = TypeVar("AnyTable", bound=Table)

FIXED = (
    "server.spool",
    "server.workers",
    "submission.limits.auth_failures",
    "submission.limits.auth_window",
    "dns",
    "delivery.window",
    "delivery.connections",
    "log.file",
)


def changed_in_vain(old: Config, new: Config) -> list[str]:
    """Keys whose new value takes effect at the next start, as they are written in relay.toml."""
    return [key for key in FIXED if _value(old, key) != _value(new, key)]


def without_them(old: Config, new: Config) -> Config:
    """`new`, with the fixed keys as they were in `old`."""
    return reduce(lambda config, key: _with(config, key.split("."), _value(old, key)), FIXED, new)


def _value(config: Config, key: str) -> Any:
    return reduce(getattr, key.split("."), config)


def _with(table: AnyTable, path: list[str], value: Any) -> AnyTable:
    name, *rest = path
    return table.model_copy(update={name: _with(getattr(table, name), rest, value) if rest else value})
