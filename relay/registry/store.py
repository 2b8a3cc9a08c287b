"""registry.store: the registry as the rest of Relay sees it.

Promise: `snapshot()` is a value and costs nothing; `refresh()` notices within one call what any process changed (a
revocation too) and costs some microseconds when nothing did; a verb returns once its change is on disk and in this
process's snapshot. Verbs raise UsageError, NotFound, or what `relay.registry.database` raises; a refresh that fails
leaves the snapshot as it was.

How a change is noticed: `PRAGMA data_version` differs after any commit of another connection; then the revision is
read, and only if that grew are credentials and domains loaded again, in a thread. So flushing last use wakes nobody.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from relay.mail.address import Pattern
from relay.registry import credential_changes, credential_rows, domain_rows, setbacks, suspensions, usage
from relay.registry.credential_changes import Adjust, Issued, unchanged
from relay.registry.credentials import Credential, Verb
from relay.registry.database import Database, schema, translated
from relay.registry.domains import DkimKey, NewKey, SenderDomain
from relay.registry.secrets import Random
from relay.registry.setbacks import Setback
from relay.registry.snapshot import EMPTY, Snapshot
from relay.registry.usage import UsageKey, Use, network_of

T = TypeVar("T")

FILE_NAME = "registry.db"


class Registry:
    """Make one with `open`, after forking; end it with `close`."""

    def __init__(self, database: Database, *, now: Callable[[], float], random: Random) -> None:
        self._database = database
        self._now = now
        self._random = random
        self._reader = database.reader()
        self._seen = -1
        self._snapshot = EMPTY
        self._refreshing = asyncio.Lock()

    @classmethod
    async def open(
        cls, directory: Path, *, now: Callable[[], float], random: Random = secrets.token_bytes, patience: float = 30.0
    ) -> "Registry":
        """Make or migrate `directory`/registry.db and read it. patience: seconds to wait for other processes'
        changes.
        """
        database = Database(directory / FILE_NAME, scripts=schema("registry"), patience=patience)
        await database.open()
        registry = cls(database, now=now, random=random)
        await registry.refresh()
        return registry

    async def close(self) -> None:
        self._reader.close()
        await self._database.close()

    def snapshot(self) -> Snapshot:
        return self._snapshot

    async def refresh(self) -> bool:
        """Whether there is a new snapshot. Call it four times a second."""
        if self._data_version() == self._seen:
            return False
        async with self._refreshing:
            return await self._reload()

    async def add_credential(self, name: str, *, senders: Iterable[Pattern], adjust: Adjust = unchanged) -> Issued:
        """`adjust` is given the credential with its defaults and returns it as it shall be."""
        return await self._change(
            lambda connection: credential_changes.add(
                connection, name, senders, adjust, now=self._now(), random=self._random
            )
        )

    async def update_credential(self, name: str, adjust: Adjust) -> Credential:
        return await self._change(lambda connection: credential_changes.update(connection, name, adjust))

    async def rotate(self, name: str, *, keep_until: float = 0.0) -> Issued:
        """keep_until: POSIX seconds until which the secret before stays valid; 0: until `finish_rotation`."""
        return await self._change(
            lambda connection: credential_changes.rotate(
                connection, name, keep_until=keep_until, now=self._now(), random=self._random
            )
        )

    async def finish_rotation(self, name: str) -> Credential:
        return await self._change(lambda connection: credential_changes.finish_rotation(connection, name))

    async def add_trial(self, name: str, *, valid_until: float) -> Issued:
        return await self._change(
            lambda connection: credential_changes.add_trial(
                connection, name, valid_until=valid_until, now=self._now(), random=self._random
            )
        )

    async def end_trial(self, secret: str) -> None:
        await self._change(lambda connection: credential_changes.end_trial(connection, secret, now=self._now()))

    async def hold(self, name: str) -> Credential:
        return await self._turn(name, Verb.HOLD)

    async def release(self, name: str) -> Credential:
        return await self._turn(name, Verb.RELEASE)

    async def revoke(self, name: str) -> Credential:
        return await self._turn(name, Verb.REVOKE)

    async def remove_credential(self, name: str) -> Credential:
        """The credential as it was."""
        return await self._change(lambda connection: credential_changes.remove(connection, name))

    async def add_domain(self, name: str, keys: Iterable[NewKey]) -> SenderDomain:
        return await self._change(lambda connection: domain_rows.add(connection, name, keys, now=self._now()))

    async def rotate_domain(self, name: str, keys: Iterable[NewKey]) -> SenderDomain:
        return await self._change(lambda connection: domain_rows.rotate(connection, name, keys, now=self._now()))

    async def mark_seen(self, name: str, selectors: Collection[str]) -> SenderDomain:
        return await self._change(
            lambda connection: domain_rows.mark_seen(connection, name, selectors, now=self._now())
        )

    async def drop_retired(self, *, before: float) -> tuple[DkimKey, ...]:
        return await self._change(lambda connection: domain_rows.drop_retired(connection, before=before))

    async def remove_domain(self, name: str) -> SenderDomain:
        return await self._change(lambda connection: domain_rows.remove(connection, name))

    async def suspend_sites(
        self, sites: Iterable[tuple[str, Sequence[str]]], *, until: float, by: str, reason: str, anew: bool = True
    ) -> list[str]:
        """Those that it changes something for. sites: names with their MX hosts; for an address that is to rest
        `suspensions.from_source`, and none. until: POSIX seconds, 0 until they are resumed. anew: what is suspended
        already has other words and another end from now on.
        """
        named = tuple(sites)
        return await self._change(
            lambda connection: suspensions.suspend(
                connection, named, until=until, by=by, reason=reason, now=self._now(), anew=anew
            )
        )

    async def resume_sites(self, names: Iterable[str], *, by: str) -> list[str]:
        """Those of them that were suspended."""
        wanted = tuple(names)
        return await self._change(lambda connection: suspensions.resume(connection, wanted, by=by, now=self._now()))

    async def note_setback(self, setback: Setback) -> bool:
        """Whether it is the first of its day."""
        return await self._change(lambda connection: setbacks.note(connection, setback))

    async def record_use(self, uses: Iterable[Use]) -> None:
        batch = tuple(uses)
        if batch:
            await self._database.write(lambda connection: usage.record(connection, batch))

    def known_addresses(self, login: str) -> dict[str, float]:
        """Networks, as `usage.network_of` writes them, from which `login` succeeded within 30 days, and when last."""
        with translated(self._database.path):
            return usage.known(self._reader, login, now=self._now())

    def last_login_from(self, login: str, address: str) -> float:
        """When `login` last succeeded from this IPv4 address or IPv6 /64 (POSIX seconds), 0.0 if not within 30 days."""
        return self.known_addresses(login).get(network_of(address), 0.0)

    async def save_usage(self, counters: Mapping[UsageKey, int]) -> None:
        """Keep the counts of the limits' windows; those older than two days are forgotten."""
        values = dict(counters)
        await self._database.write(lambda connection: usage.save_counters(connection, values, now=self._now()))

    async def load_usage(self) -> dict[UsageKey, int]:
        return await self._database.read(usage.load_counters)

    async def _turn(self, name: str, verb: Verb) -> Credential:
        return await self._change(lambda connection: credential_changes.turn(connection, name, verb))

    async def _change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        result = await self._database.write(lambda connection: _revised(connection, change))
        await self.refresh()
        return result

    def _data_version(self) -> int:
        try:
            return int(self._reader.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.OperationalError as error:
            if (
                error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            ):  # another process recovers the WAL: ask again later
                return self._seen
            with translated(self._database.path):
                raise

    async def _reload(self) -> bool:
        version = self._data_version()  # before reading, so that a change meanwhile is seen by the next refresh
        with translated(self._database.path):
            ((revision,),) = self._reader.execute("SELECT number FROM revision")
        changed = bool(revision != self._snapshot.revision)
        if changed:
            self._snapshot = await self._database.read(_load)
        self._seen = version
        return changed


def _load(connection: sqlite3.Connection) -> Snapshot:
    ((revision,),) = connection.execute("SELECT number FROM revision")
    return Snapshot.of(
        credential_rows.load_all(connection),
        domain_rows.load_all(connection),
        suspensions.load_all(connection),
        setbacks.load_all(connection),
        revision=revision,
    )


def _revised(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
    result = change(connection)
    connection.execute("UPDATE revision SET number = number + 1")
    return result
