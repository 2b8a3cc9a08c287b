"""registry.setbacks: days on which a provider would have less of an address in its warm-up, as values and as rows.

The schedule of a warm-up goes on from there as if such a day had not been (`delivery.warming`). They are kept here so
that every worker goes by the same, over restarts.

Functions of an open transaction; `relay.registry.store` gives them one.
"""

import sqlite3
from datetime import date, timedelta

from msgspec import Struct

KEPT = timedelta(days=400)  # longer than a warm-up takes


class Setback(Struct, frozen=True):
    """source: the address. day: UTC's. reply: the first one that said so, and whose."""

    source: str
    provider: str
    day: date
    reply: str


def load_all(connection: sqlite3.Connection) -> tuple[Setback, ...]:
    rows = connection.execute("SELECT source, provider, day, reply FROM setback ORDER BY source, provider, day")
    return tuple(Setback(source, provider, date.fromisoformat(day), reply) for source, provider, day, reply in rows)


def note(connection: sqlite3.Connection, setback: Setback) -> bool:
    """Of a day the first; whether it is."""
    connection.execute("DELETE FROM setback WHERE day < ?", ((setback.day - KEPT).isoformat(),))
    done = connection.execute(
        "INSERT INTO setback (source, provider, day, reply) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (setback.source, setback.provider, setback.day.isoformat(), setback.reply),
    )
    return bool(done.rowcount)
