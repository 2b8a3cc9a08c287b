"""registry.usage: what was used when and from where, and the counters of the limits.

Written in batches about once a minute, never on a message's way, and without waking those who wait for changes: none of
this is in a snapshot that somebody decides by, but for the last use a command shows.

The networks from which a login succeeded within 30 days are kept for the guessing guard: an application is never locked
out by what others guess. At most the newest 100 per credential, so that one used from everywhere cannot fill the disk.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

KNOWN_SECONDS = 30 * 86400.0
KNOWN_NETWORKS = 100
COUNTERS_SECONDS = 2 * 86400.0  # the longest window is a day

UsageKey = tuple[str, str, int]  # credential's name, window ("hour", "day", "first_time"), when it began (POSIX)


@dataclass(frozen=True, slots=True)
class Use:
    """A login that succeeded. at: POSIX seconds. address: the client's IP address. sha256: of the secret, as stored."""

    credential: str
    at: float
    address: str
    sha256: str = ""


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address itself, the /64 of an IPv6 address; a network in text stays itself."""
    if "/" in address:
        return str(ip_network(address, strict=False))
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))


def record(connection: sqlite3.Connection, uses: Iterable[Use]) -> None:
    """Uses of credentials that are gone by now are forgotten."""
    newest: dict[tuple[str, str, str], Use] = {}
    for use in sorted(uses, key=lambda use: use.at):
        newest[use.credential, use.sha256, use.address] = use
    for use in newest.values():
        _record_one(connection, use)
    for name in {use.credential for use in newest.values()}:
        _prune(connection, name)


def _record_one(connection: sqlite3.Connection, use: Use) -> None:
    connection.execute(
        "UPDATE credential SET last_used_at = :at, last_used_from = :address"
        " WHERE name = :credential AND last_used_at <= :at",
        {"at": use.at, "address": use.address, "credential": use.credential},
    )
    connection.execute("UPDATE secret SET last_used_at = max(last_used_at, ?) WHERE sha256 = ?", (use.at, use.sha256))
    connection.execute(
        "INSERT INTO known_network (credential, network, seen_at) SELECT id, ?, ? FROM credential WHERE name = ?"
        " ON CONFLICT DO UPDATE SET seen_at = max(seen_at, excluded.seen_at)",
        (network_of(use.address), use.at, use.credential),
    )


def _prune(connection: sqlite3.Connection, name: str) -> None:
    connection.execute(
        "DELETE FROM known_network WHERE credential = (SELECT id FROM credential WHERE name = :name) AND network NOT IN"
        " (SELECT network FROM known_network WHERE credential = (SELECT id FROM credential WHERE name = :name)"
        "  ORDER BY seen_at DESC LIMIT :newest)",
        {"name": name, "newest": KNOWN_NETWORKS},
    )


def known(connection: sqlite3.Connection, login: str, *, now: float) -> dict[str, float]:
    """Networks (as `network_of` writes them) from which this login succeeded within 30 days, and when last."""
    rows = connection.execute(
        "SELECT network, seen_at FROM known_network JOIN credential ON credential.id = known_network.credential"
        " WHERE login = ? AND seen_at > ?",
        (login, now - KNOWN_SECONDS),
    )
    return {str(network): float(seen_at) for network, seen_at in rows}


def save_counters(connection: sqlite3.Connection, counters: Mapping[UsageKey, int], *, now: float) -> None:
    connection.executemany(
        "INSERT INTO usage VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = excluded.count",
        [(*key, count) for key, count in counters.items()],
    )
    connection.execute("DELETE FROM usage WHERE bucket_start < ?", (now - COUNTERS_SECONDS,))
    connection.executemany(
        "DELETE FROM usage WHERE credential = ? AND window = ? AND bucket_start > ?",
        [(*of, start) for of, start in _newest(counters).items()],
    )


def _newest(counters: Mapping[UsageKey, int]) -> dict[tuple[str, str], int]:
    """When the newest of each began. One beyond it was counted before the clock was set back, and is in it by now."""
    newest: dict[tuple[str, str], int] = {}
    for credential, window, start in counters:
        newest[credential, window] = max(start, newest.get((credential, window), start))
    return newest


def load_counters(connection: sqlite3.Connection) -> dict[UsageKey, int]:
    rows = connection.execute("SELECT credential, window, bucket_start, count FROM usage")
    return {(credential, window, start): count for credential, window, start, count in rows}
