"""registry.credential_rows: credentials as rows of registry.db and back.

Functions of an open transaction; `relay.registry.store` gives them one. A row that cannot be read (somebody edited
the file by hand) is a SpoolError that names the credential, never a credential that allows more than was meant.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network

from relay.errors import SpoolError
from relay.mail.address import Pattern
from relay.registry.credentials import Credential, OnSuppressed, Reports, State, StoredSecret

# What `set` may change; name, login and creation never do.
_SETTINGS = (
    *("senders", "networks", "stream", "limit_second", "limit_hour", "limit_day", "limit_recipients"),
    *("limit_first_time", "expires_at"),
    *("state", "null_sender", "allow_unsigned", "encode_8bit", "reports", "suppressed"),
)
_WRITTEN = ("name", "login", "created_at", *_SETTINGS)
_READ = (*_WRITTEN, "last_used_at", "last_used_from")
# The names above are all that is put into these statements.
_SELECT = f"SELECT id, {', '.join(_READ)} FROM credential"  # noqa: S608
_INSERT = f"INSERT INTO credential ({', '.join(_WRITTEN)}) VALUES ({', '.join(f':{name}' for name in _WRITTEN)})"  # noqa: S608
_UPDATE = f"UPDATE credential SET {', '.join(f'{name} = :{name}' for name in _SETTINGS)} WHERE name = :name"  # noqa: S608


def load_all(connection: sqlite3.Connection) -> tuple[Credential, ...]:
    """By name."""
    secrets = _by_owner(
        connection.execute(
            "SELECT credential, sha256, created_at, last_used_at, valid_until FROM secret"
            " ORDER BY created_at DESC, id DESC"
        )
    )
    trials = _by_owner(connection.execute("SELECT credential, sha256, created_at, 0.0, valid_until FROM trial"))
    rows = connection.execute(f"{_SELECT} ORDER BY name").fetchall()
    return tuple(_credential(row, secrets.get(row["id"], ()), trials.get(row["id"], ())) for row in rows)


def _by_owner(rows: Iterable[sqlite3.Row]) -> dict[int, list[StoredSecret]]:
    found: dict[int, list[StoredSecret]] = {}
    for owner, *values in rows:
        found.setdefault(owner, []).append(StoredSecret(*values))
    return found


def find(connection: sqlite3.Connection, name: str) -> Credential | None:
    """name: in any case."""
    row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    secrets = connection.execute(
        "SELECT sha256, created_at, last_used_at, valid_until FROM secret WHERE credential = ?"
        " ORDER BY created_at DESC, id DESC",
        (row["id"],),
    )
    trials = connection.execute(
        "SELECT sha256, created_at, 0.0, valid_until FROM trial WHERE credential = ?", (row["id"],)
    )
    return _credential(row, [StoredSecret(*values) for values in secrets], [StoredSecret(*values) for values in trials])


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM credential")]


def login_is_taken(connection: sqlite3.Connection, login: str) -> bool:
    return connection.execute("SELECT 1 FROM credential WHERE login = ?", (login,)).fetchone() is not None


def insert(connection: sqlite3.Connection, credential: Credential) -> None:
    connection.execute(_INSERT, _parameters(credential))
    for secret in credential.secrets:
        add_secret(connection, credential.name, secret)


def update(connection: sqlite3.Connection, credential: Credential) -> None:
    connection.execute(_UPDATE, _parameters(credential))


def delete(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute("DELETE FROM credential WHERE name = ?", (name,)).rowcount > 0


def add_secret(connection: sqlite3.Connection, name: str, secret: StoredSecret) -> None:
    connection.execute(
        "INSERT INTO secret (credential, sha256, created_at, valid_until)"
        " SELECT id, ?, ?, ? FROM credential WHERE name = ?",
        (secret.sha256, secret.created_at, secret.valid_until, name),
    )


def limit_secret(connection: sqlite3.Connection, secret: StoredSecret, *, valid_until: float) -> None:
    connection.execute("UPDATE secret SET valid_until = ? WHERE sha256 = ?", (valid_until, secret.sha256))


def delete_secrets(connection: sqlite3.Connection, secrets: Iterable[StoredSecret]) -> None:
    connection.executemany("DELETE FROM secret WHERE sha256 = ?", [(secret.sha256,) for secret in secrets])


def add_trial(connection: sqlite3.Connection, name: str, secret: StoredSecret) -> None:
    connection.execute(
        "INSERT INTO trial (sha256, credential, created_at, valid_until)"
        " SELECT ?, id, ?, ? FROM credential WHERE name = ?",
        (secret.sha256, secret.created_at, secret.valid_until, name),
    )


def delete_trial(connection: sqlite3.Connection, sha256: str, *, now: float) -> None:
    """And those whose time is over: whoever made them died."""
    connection.execute("DELETE FROM trial WHERE sha256 = ? OR valid_until <= ?", (sha256, now))


def _parameters(credential: Credential) -> dict[str, object]:
    values = {name: getattr(credential, name) for name in _WRITTEN}
    values["senders"] = json.dumps([str(pattern) for pattern in credential.senders], ensure_ascii=False)
    values["networks"] = json.dumps([str(network) for network in credential.networks])
    return values


def _credential(row: sqlite3.Row, secrets: Iterable[StoredSecret], trials: Iterable[StoredSecret]) -> Credential:
    try:
        plain = Credential(**{name: row[name] for name in _READ}, secrets=tuple(secrets), trials=tuple(trials))
        return replace(
            plain,
            senders=tuple(Pattern.parse(text) for text in json.loads(row["senders"])),
            networks=tuple(ip_network(text) for text in json.loads(row["networks"])),
            state=State(row["state"]),
            null_sender=bool(row["null_sender"]),
            allow_unsigned=bool(row["allow_unsigned"]),
            encode_8bit=bool(row["encode_8bit"]),
            reports=Reports(row["reports"]),
            suppressed=OnSuppressed(row["suppressed"]),
        )
    except (ValueError, TypeError) as error:
        raise SpoolError(
            f'credential "{row["name"]}" in registry.db cannot be read: {error}',
            remedy="Restore registry.db from a backup.",
        ) from error
