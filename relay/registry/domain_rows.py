"""registry.domain_rows: sender domains and their keys as rows of registry.db, and what may be done to them.

Functions of an open transaction. A selector says its day and algorithm (`r20261120`, `e20261120`) and is never used
twice in a domain while a key of that name is kept: a verifier may have its record cached.
"""

import sqlite3
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from string import ascii_lowercase

from relay.errors import UsageError
from relay.mail.address import AddressError, ascii_domain, is_literal
from relay.registry.domains import DkimKey, KeyState, NewKey, SenderDomain
from relay.registry.nearest import not_found

_KEYS = (
    "SELECT domain.name, selector, algorithm, private_pem, public_record, dkim_key.created_at, state, seen_at,"
    " retired_at FROM dkim_key JOIN domain ON domain.id = dkim_key.domain"
    " ORDER BY dkim_key.created_at DESC, dkim_key.id"
)


def load_all(connection: sqlite3.Connection) -> tuple[SenderDomain, ...]:
    """By name."""
    keys: dict[str, list[DkimKey]] = {}
    for domain, selector, algorithm, pem, record, created, state, seen, retired in connection.execute(_KEYS):
        key = DkimKey(domain, selector, algorithm, pem, record, created, KeyState(state), seen, retired)
        keys.setdefault(domain, []).append(key)
    rows = connection.execute("SELECT name, created_at FROM domain ORDER BY name")
    return tuple(SenderDomain(name, created, tuple(keys.get(name, ()))) for name, created in rows)


def add(connection: sqlite3.Connection, name: str, keys: Iterable[NewKey], *, now: float) -> SenderDomain:
    """A new domain whose keys sign at once. Raises UsageError for a name that is taken or is none."""
    domain = _a_labels(name)
    if connection.execute("SELECT 1 FROM domain WHERE name = ?", (domain,)).fetchone():
        raise UsageError(
            f'there is a domain "{domain}" already',
            remedy=f"See its records with: relay domain show {domain}; for new keys: relay domain rotate {domain}",
        )
    connection.execute("INSERT INTO domain (name, created_at) VALUES (?, ?)", (domain, now))
    _add_keys(connection, domain, keys, KeyState.ACTIVE, now=now)
    return existing(connection, domain)


def rotate(connection: sqlite3.Connection, name: str, keys: Iterable[NewKey], *, now: float) -> SenderDomain:
    """New keys that sign once `mark_seen` has seen them. Raises UsageError while an earlier rotation is under way."""
    domain = existing(connection, name)
    pending = [key.record_name for key in domain.keys if key.state is KeyState.PENDING]
    if pending:
        raise UsageError(
            f"a rotation of {domain.name} is under way: {', '.join(pending)} not yet seen in DNS",
            remedy=f"Publish the records, then: relay domain check {domain.name}",
        )
    _add_keys(connection, domain.name, keys, KeyState.PENDING, now=now)
    return existing(connection, domain.name)


def mark_seen(connection: sqlite3.Connection, name: str, selectors: Collection[str], *, now: float) -> SenderDomain:
    """These records are in DNS: their keys sign from now on, and the ones they replace are retired."""
    domain = existing(connection, name)
    for key in domain.keys:
        if key.selector in selectors:
            _mark_one(connection, key, now=now)
    return existing(connection, domain.name)


def _mark_one(connection: sqlite3.Connection, key: DkimKey, *, now: float) -> None:
    if key.state is KeyState.PENDING:
        connection.execute(
            "UPDATE dkim_key SET state = 'retired', retired_at = ? WHERE state = 'active' AND algorithm = ?"
            " AND domain = (SELECT id FROM domain WHERE name = ?)",
            (now, key.algorithm, key.domain),
        )
    connection.execute(
        "UPDATE dkim_key SET seen_at = ?, state = CASE state WHEN 'pending' THEN 'active' ELSE state END"
        " WHERE selector = ? AND domain = (SELECT id FROM domain WHERE name = ?)",
        (now, key.selector, key.domain),
    )


def drop_retired(connection: sqlite3.Connection, *, before: float) -> tuple[DkimKey, ...]:
    """Forget keys retired before then (POSIX seconds); their records may be taken out of DNS."""
    dropped = tuple(
        key
        for domain in load_all(connection)
        for key in domain.keys
        if key.state is KeyState.RETIRED and key.retired_at < before
    )
    connection.execute("DELETE FROM dkim_key WHERE state = 'retired' AND retired_at < ?", (before,))
    return dropped


def remove(connection: sqlite3.Connection, name: str) -> SenderDomain:
    """The domain as it was, so that its records can be listed for removal."""
    domain = existing(connection, name)
    connection.execute("DELETE FROM domain WHERE name = ?", (domain.name,))
    return domain


def existing(connection: sqlite3.Connection, name: str) -> SenderDomain:
    """Raises NotFound with the nearest name."""
    domains = {domain.name: domain for domain in load_all(connection)}
    domain = domains.get(_a_labels(name))
    if domain is None:
        raise not_found("domain", name, among=domains)
    return domain


def _add_keys(
    connection: sqlite3.Connection, domain: str, keys: Iterable[NewKey], state: KeyState, *, now: float
) -> None:
    ((number,),) = connection.execute("SELECT id FROM domain WHERE name = ?", (domain,))
    for key in keys:
        connection.execute(
            "INSERT INTO dkim_key (domain, selector, algorithm, private_pem, public_record, created_at, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                _free_selector(connection, number, key.algorithm, now=now),
                *(key.algorithm, key.private_pem, key.public_record),
                *(now, state),
            ),
        )


def _free_selector(connection: sqlite3.Connection, domain: int, algorithm: str, *, now: float) -> str:
    day = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
    taken = {text for (text,) in connection.execute("SELECT selector FROM dkim_key WHERE domain = ?", (domain,))}
    for suffix in ("", *ascii_lowercase[1:]):
        if (selector := f"{algorithm[0]}{day}{suffix}") not in taken:
            return selector
    raise UsageError("this domain has had 26 new keys today", remedy="Rotate again tomorrow.")


def _a_labels(name: str) -> str:
    try:
        domain = ascii_domain(name)
    except AddressError as error:
        raise UsageError(
            f'"{name}" is no domain: {error}', remedy="Write it as in an address, such as example.com"
        ) from None
    if is_literal(domain):
        raise UsageError(f'"{name}" is an address literal', remedy="DKIM needs a name in DNS, such as example.com")
    return domain
