"""registry.suppression_rows: suppressions and strikes as rows of suppression.db, and the rules for both.

Functions of an open transaction. One row for each address and scope: when two say the same, the one that lasts longer
stays, with its evidence; of two that last equally long the earlier. So adding is idempotent and never weakens.

Strikes are counted by message: the same message deferred ten times is one. They are forgotten after 30 days, so that
two bad days half a year apart are not taken for one dead mailbox.
"""

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from relay.mail.address import AddressError, ascii_domain
from relay.mail.suppression import Cause, Strike, Suppression

STRIKE_SECONDS = 30 * 86400.0
CLEANED_AT_ONCE = 1000
# Expired rows stay for a while: a clock that jumped ahead and back must not have cost the evidence.
CLEANING_DELAY = 7 * 86400.0

_LOOKUP = "SELECT address, cause, created_at, expires_at, scope, message, reply FROM suppression WHERE address = ?"
_PAGE = (
    "SELECT address, cause, created_at, expires_at, scope, message, reply, id FROM suppression"
    " WHERE id > ? AND (expires_at = 0 OR expires_at > ?) ORDER BY id LIMIT ?"
)
ADD = (  # with the values of `row_of`
    "INSERT INTO suppression (address, cause, created_at, expires_at, scope, message, reply)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (address, scope) DO UPDATE SET cause = excluded.cause, created_at = excluded.created_at,"
    " expires_at = excluded.expires_at, message = excluded.message, reply = excluded.reply"
    " WHERE suppression.expires_at <> 0 AND (excluded.expires_at = 0 OR excluded.expires_at > suppression.expires_at)"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """What must hold; empty does not filter. domain: of the address. scope: exactly."""

    address: str = ""
    domain: str = ""
    cause: Cause | None = None
    scope: str = ""


def key(address: str) -> str:
    """What addresses are compared by: the domain in lower-case A-labels, the local part as it is (RFC 5321 2.4)."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain_key(domain)}"


def domain_key(domain: str) -> str:
    lowered = domain.lower()
    try:
        return lowered if lowered.isascii() else ascii_domain(lowered)
    except AddressError:
        return lowered


def row_of(suppression: Suppression) -> tuple[str | float, ...]:
    """The values `ADD` asks for."""
    return (
        *(key(suppression.address), suppression.cause.value, suppression.created_at, suppression.expires_at),
        *(suppression.scope, suppression.message, suppression.reply),
    )


def from_row(row: Sequence[object]) -> Suppression:
    address, cause, *rest = row
    return Suppression(address, Cause(cause), *rest)  # type: ignore[arg-type]  # the columns are STRICT


def lookup(connection: sqlite3.Connection, address: str, scopes: Collection[str], *, now: float) -> Suppression | None:
    """The one that lasts longest of those in force in these scopes."""
    # One address has few scopes: one read of the index, and the choice here.
    rows = connection.execute(_LOOKUP, (key(address),)).fetchall()
    if not rows:
        return None
    in_force = [from_row(row) for row in rows if row["scope"] in scopes and not 0 < row["expires_at"] <= now]
    return max(in_force, key=lambda each: each.expires_at or inf, default=None)


def add(connection: sqlite3.Connection, suppressions: Iterable[Suppression]) -> int:
    """How many were new or stronger than what was there."""
    return connection.executemany(ADD, map(row_of, suppressions)).rowcount


def remove(connection: sqlite3.Connection, address: str, scope: str) -> int:
    """How many there were. Strikes go too: whoever removes an address says that it works. scope: "" for every scope."""
    connection.execute("DELETE FROM strike WHERE address = ?", (key(address),))
    return connection.execute(
        "DELETE FROM suppression WHERE address = :address AND :scope IN ('', scope)",
        {"address": key(address), "scope": scope},
    ).rowcount


def select(connection: sqlite3.Connection, wanted: Filter, *, limit: int, offset: int, now: float) -> list[Suppression]:
    """In force at `now`, newest first."""
    condition, parameters = _condition(wanted, now=now)
    rows = connection.execute(
        "SELECT address, cause, created_at, expires_at, scope, message, reply FROM suppression"  # noqa: S608  # see _TERMS
        f" WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT :limit OFFSET :offset",
        parameters | {"limit": limit, "offset": offset},
    )
    return [from_row(row) for row in rows]


def count(connection: sqlite3.Connection, wanted: Filter, *, now: float) -> int:
    condition, parameters = _condition(wanted, now=now)
    question = f"SELECT count(*) FROM suppression WHERE {condition}"  # noqa: S608  # see _TERMS
    ((number,),) = connection.execute(question, parameters)
    return int(number)


def page(connection: sqlite3.Connection, *, after: int, limit: int, now: float) -> tuple[list[Suppression], int]:
    """Those in force with a row number over `after`, in its order, and the last number (`after` at the end)."""
    rows = connection.execute(_PAGE, (after, now, limit)).fetchall()
    return [from_row(row[:7]) for row in rows], rows[-1]["id"] if rows else after


_TERMS = MappingProxyType(
    {
        "address": "address = :address",
        "domain": "substr(address, -length(:domain)) = :domain",
        "cause": "cause = :cause",
        "scope": "scope = :scope",
    }
)


def _condition(wanted: Filter, *, now: float) -> tuple[str, dict[str, str | float]]:
    """Only the terms asked for, so that an index can serve them; every value is a parameter."""
    values: dict[str, str | float] = {
        "address": key(wanted.address) if wanted.address else "",
        "domain": f"@{domain_key(wanted.domain)}" if wanted.domain else "",
        "cause": wanted.cause or "",
        "scope": wanted.scope,
    }
    asked = {name: value for name, value in values.items() if value}
    terms = ["(expires_at = 0 OR expires_at > :now)", *(_TERMS[name] for name in asked)]
    return " AND ".join(terms), asked | {"now": now}


def absorb(
    connection: sqlite3.Connection, shard: int, rows: Iterable[tuple[int, Suppression | Strike]], *, now: float
) -> int:
    """Take over what a shard has found, each row once; returns how many were taken. rows: in the order of sequence."""
    done, done_at = connection.execute(
        "SELECT sequence, at FROM absorbed WHERE shard = ? UNION ALL SELECT 0, 0.0", (shard,)
    ).fetchone()
    # A row not over the last sequence, but later than anything taken, is of a shard that was made anew.
    fresh = [(sequence, row) for sequence, row in rows if sequence > done or time_of(row) > done_at]
    for _, row in fresh:
        if isinstance(row, Strike):
            _strike(connection, row)
        else:
            add(connection, (row,))
    if fresh:
        latest = max(done_at, *(time_of(row) for _, row in fresh))
        connection.execute("INSERT OR REPLACE INTO absorbed VALUES (?, ?, ?)", (shard, fresh[-1][0], latest))
    clean(connection, now=now)
    return len(fresh)


def time_of(row: Suppression | Strike) -> float:
    return row.at if isinstance(row, Strike) else row.created_at


def _strike(connection: sqlite3.Connection, strike: Strike) -> None:
    address = key(strike.address)
    connection.execute(
        "INSERT INTO strike VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (address, strike.cause, strike.message, strike.at),
    )
    messages, first, last = connection.execute(
        "SELECT count(*), min(at), max(at) FROM strike WHERE address = ? AND cause = ? AND at > ?",
        (address, strike.cause, strike.at - STRIKE_SECONDS),
    ).fetchone()
    if messages < strike.needed or last - first < strike.over:
        return
    expires_at = strike.at + strike.suppress_for if strike.suppress_for else 0.0
    proved = Suppression(address, strike.cause, strike.at, expires_at, "all", strike.message, strike.reply)
    add(connection, (proved,))
    connection.execute("DELETE FROM strike WHERE address = ? AND cause = ?", (address, strike.cause))


def clean(connection: sqlite3.Connection, *, now: float) -> None:
    """Forget some of what has long expired; called with each change, so that it never amounts to much."""
    connection.execute(
        "DELETE FROM suppression WHERE id IN"
        " (SELECT id FROM suppression WHERE expires_at > 0 AND expires_at <= ? LIMIT ?)",
        (now - CLEANING_DELAY, CLEANED_AT_ONCE),
    )
    connection.execute("DELETE FROM strike WHERE at <= ?", (now - STRIKE_SECONDS - CLEANING_DELAY,))
