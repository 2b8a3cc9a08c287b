"""registry.suspensions: what an operator has suspended or put to rest, as values and as rows of registry.db.

A site that is suspended stands here under its name, an address that is to rest under `from_source`.

They are kept here rather than in a worker's memory, so that a suspension outlives restarts and reloads, holds for every
worker, and may be ended while no server runs. One whose time is over says for a day who ended it, for the log.

Functions of an open transaction; `relay.registry.store` gives them one.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

KEPT = 86400.0  # seconds
_FROM = "from "  # no site's name has a space
_COLUMNS = "site, mx_hosts, since, until, suspended_by, reason, resumed_by"


class Suspension(Struct, frozen=True):
    """site: its name, or its place where it is suspended for one of our addresses (`mail.site`), or `from_source` of an
    address that is to rest at all of them. mx_hosts: those it had when it was suspended. since, until: POSIX seconds;
    until 0: until it is resumed. by: who suspended it. resumed_by: who ended it before its time.
    """

    site: str
    mx_hosts: tuple[str, ...]
    since: float
    until: float
    by: str
    reason: str = ""
    resumed_by: str = ""

    @property
    def source(self) -> str:
        """The address that is to rest; "" where a site is suspended."""
        return self.site.removeprefix(_FROM) if self.site.startswith(_FROM) else ""

    @property
    def words(self) -> str:
        """As in "by root, until 2026-11-20 10:00:00Z: their request"."""
        ends = datetime.fromtimestamp(self.until, UTC)
        until = f"{ends:%Y-%m-%d %H:%M:%SZ}" if self.until else "it is resumed"
        return f"by {self.by}, until {until}" + (f": {self.reason}" if self.reason else "")

    def is_in_force(self, *, now: float) -> bool:
        return not self.resumed_by and (self.until == 0 or now < self.until)


def from_source(address: str) -> str:
    """What a Suspension names where it is for all sites, and one address of ours."""
    return _FROM + address


def load_all(connection: sqlite3.Connection) -> tuple[Suspension, ...]:
    """By site; those that are over, too."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM suspension ORDER BY site")  # noqa: S608 - a constant
    return tuple(Suspension(site, tuple(json.loads(hosts)), *rest) for site, hosts, *rest in rows)


def suspend(
    connection: sqlite3.Connection,
    sites: Iterable[tuple[str, Sequence[str]]],
    *,
    until: float,
    by: str,
    reason: str,
    now: float,
    anew: bool = True,
) -> list[str]:
    """Those that it changes something for. sites: names with their MX hosts. Where one is suspended already, the new
    time and reason count from now on if it is to be `anew`; else it stays as it was ordered.
    """
    changed = []
    change = "UPDATE SET until = excluded.until, suspended_by = excluded.suspended_by, reason = excluded.reason"
    connection.execute("DELETE FROM suspension WHERE until > 0 AND until <= ?", (now - KEPT,))
    for site, mx_hosts in sites:
        over = "(until > 0 AND until <= ?) OR resumed_by != ''"  # the clock may have been set back since
        connection.execute(f"DELETE FROM suspension WHERE site = ? AND ({over})", (site, now))  # noqa: S608 - a constant
        done = connection.execute(
            f"INSERT INTO suspension ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, '')"  # noqa: S608 - a constant
            f" ON CONFLICT (site) DO {change if anew else 'NOTHING'}",
            (site, json.dumps(list(mx_hosts)), now, until, by, reason),
        )
        if done.rowcount:
            changed.append(site)
    return changed


def resume(connection: sqlite3.Connection, sites: Iterable[str], *, by: str, now: float) -> list[str]:
    """The sites that were suspended and are not any more."""
    return [
        site
        for site in sites
        if connection.execute(
            "UPDATE suspension SET until = ?, resumed_by = ? WHERE site = ? AND resumed_by = ''"
            " AND (until = 0 OR until > ?)",
            (now, by, site, now),
        ).rowcount
    ]
