"""spool.verifying: a whole shard looked at, each checksum, each row's counterpart, each file; nothing is changed.

Reads as any other process does, beside an owner that works or with none. Pages of some hundred rows are a read each,
so that no reader keeps the owner's log from being used anew; what seems wrong is asked once more, for a message may
have ended between two looks. Only while nobody owns the shard SQLite's own check goes through all of it, indexes and
contents too; beside an owner it does where that takes moments (`integrity`), and the contents are read row by row.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.errors import SpoolDamaged, SpoolError
from relay.spool import failure, integrity, lock, rows, stored
from relay.spool.content import StoredContent
from relay.spool.database import refuse_foreign
from relay.spool.numbering import id_of
from relay.spool.outbox import unpacked
from relay.spool.recovery import CONTENT, DATABASE, shard_directory
from relay.spool.setting_aside import NO_CONTENT, damage_of_file

PAGE = 100
COMING_IN = 300.0  # seconds a file may be written to before its row is there
MOST_TOLD = 100  # findings of SQLite's check
NO_RECIPIENT = "it has no recipient"
OF_NO_MESSAGE = "a content whose message is not in the shard"
NOT_DECODED = "it cannot be understood"

_SET_ASIDE = "Set aside when it is to be delivered. To end it: relay queue cancel {id}"
_LEFT_OUT = "The server tells its log of it, with its octets, and leaves it out."
_IS_ASIDE = "Set aside. To have it looked at again: relay queue release {id}; to end it: relay queue cancel {id}"


@dataclass(frozen=True, slots=True)
class Damage:
    """message: a queue id, "" where it is no message's. what, remedy: sentences. is_aside: it keeps nothing waiting."""

    message: str
    what: str
    remedy: str = failure.DAMAGED
    is_aside: bool = False


@dataclass(slots=True)
class Verified:
    """What was looked at and what was found. leftovers: content files no row knows, which the next start removes."""

    file: Path
    owned: bool
    thorough: bool
    messages: int = 0
    recipients: int = 0
    contents: int = 0
    events: int = 0
    damages: list[Damage] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def is_to_be_recovered(self) -> bool:
        """Anything is damaged but what is set aside already."""
        aside = {each.message for each in self.damages if each.is_aside and each.message}
        return any(not each.is_aside and each.message not in aside for each in self.damages)


def verify(directory: Path, *, shard: int, now: Callable[[], float] = time.time, by_owner: bool = False) -> Verified:
    """directory: the spool's. by_owner: the caller has the lock. Blocks.

    Raises SpoolVersion, SpoolError where the shard cannot be looked at.
    """
    own = shard_directory(directory, shard)
    path, owned = own / DATABASE, not by_owner and lock.is_held(own / "lock")
    if not path.exists():
        raise SpoolError(f"{path} does not exist", remedy="Check server.spool in relay.toml, or start Relay once.")
    thorough = not owned or path.stat().st_size <= integrity.THOROUGH_OCTETS
    found = Verified(path, owned=owned, thorough=thorough)
    try:
        refuse_foreign(path)
        with failure.translated(f"{path} cannot be read"), closing(integrity.connected(path)) as connection:
            _Look(connection, found, shard=shard, contents=own / CONTENT, now=now).run()
    except SpoolDamaged as error:
        found.damages.append(Damage("", error.text))
    return found


class _Look:
    def __init__(
        self, connection: sqlite3.Connection, found: Verified, *, shard: int, contents: Path, now: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._found = found
        self._shard = shard
        self._contents = contents
        self._now = now
        self._sums = _has_column(connection, "message", "checksum")

    def run(self) -> None:
        look = integrity.damages if self._found.thorough else integrity.damages_of_structure
        told = look(self._connection, limit=MOST_TOLD)
        self._found.damages += [Damage("", text) for text in told]
        if told:  # what a row says is only worth telling where the rows are in order
            return
        self._messages()
        self._recipients()
        self._all_contents()
        self._outbox()
        self._files()

    def _messages(self) -> None:
        sql = (
            f"SELECT number, sender, credential, facts, {self._column('checksum')},"
            " EXISTS (SELECT 1 FROM content WHERE message = number),"
            " EXISTS (SELECT 1 FROM recipient WHERE message = number) FROM message"
            " WHERE number > ? ORDER BY number LIMIT ?"
        )
        for number, *facts, has_content, has_recipient in self._paged(sql, (-1,)):
            self._found.messages += 1
            reason = stored.damage_of_message(number, *facts)
            reason = reason or ("" if has_content else NO_CONTENT)
            if reason:
                self._tell(number, reason, _SET_ASIDE)
            elif not has_recipient:
                self._tell(number, NO_RECIPIENT, failure.DAMAGED)

    def _recipients(self) -> None:
        sql = (
            f"SELECT message, position, address, domain, notify, orcpt, {self._column('checksum')},"
            f" {self._column('damage')}, EXISTS (SELECT 1 FROM message WHERE number = recipient.message) FROM recipient"
            " WHERE (message, position) > (?, ?) ORDER BY message, position LIMIT ?"
        )
        for *fields, checksum, damage, has_message in self._paged(sql, (-1, -1)):
            self._found.recipients += 1
            reason = stored.damage_of_recipient(tuple(fields), checksum)
            if damage is not None:
                self._tell(fields[0], str(damage), _IS_ASIDE, is_aside=True)
            elif reason or not has_message:
                self._tell(fields[0], reason or stored.NO_MESSAGE, _SET_ASIDE)

    def _all_contents(self) -> None:
        sql = (
            f"SELECT message, head, body, body_size, file, {self._column('checksum')},"
            " EXISTS (SELECT 1 FROM message WHERE number = content.message) FROM content"
            " WHERE message > ? ORDER BY message LIMIT ?"
        )
        for number, head, body, size, file, checksum, has_message in self._paged(sql, (-1,)):
            self._found.contents += 1
            path = None if file is None else self._contents / str(file)
            reason = damage_of_file(number, StoredContent(head, body, path, size, checksum))
            if reason and self._is_still("SELECT 1 FROM content WHERE message = ?", number):
                self._tell(number, reason, _SET_ASIDE)
            elif not has_message and self._is_still("SELECT 1 FROM content WHERE message = ?", number):
                self._tell(number, OF_NO_MESSAGE, failure.DAMAGED)

    def _outbox(self) -> None:
        """What is not in the journal and the suppression list yet."""
        kinds: tuple[tuple[str, Callable[[bytes], object]], ...] = (
            ("event", rows.unpack_event),
            ("suppression", rows.unpack_suppression),
        )
        for table, unpack in kinds:
            page = f"SELECT sequence, {table} FROM {table} WHERE sequence > ? ORDER BY sequence LIMIT ?"
            for row in self._paged(page, (-1,)):
                self._found.events += 1
                for sequence, _ in unpacked([row], unpack).damaged:
                    told = Damage("", f"{table} {sequence}: {NOT_DECODED}", _LEFT_OUT, is_aside=True)
                    self._found.damages.append(told)

    def _files(self) -> None:
        """An owner writes a file before its row, and removes it after."""
        oldest = self._now() - COMING_IN
        for path in sorted(self._contents.iterdir()):
            known = "SELECT 1 FROM content WHERE file = ?"
            if self._is_still(known, path.name) or not path.exists():
                continue
            if not self._found.owned or path.stat().st_mtime < oldest:
                self._found.leftovers.append(path.name)

    def _paged(self, sql: str, after: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
        while page := self._connection.execute(sql, (*after, PAGE)).fetchall():
            yield from page
            after = page[-1][: len(after)]

    def _is_still(self, sql: str, key: object) -> bool:
        return self._connection.execute(sql, (key,)).fetchone() is not None

    def _column(self, name: str) -> str:
        return name if self._sums else "NULL"

    def _tell(self, number: int, what: str, remedy: str, *, is_aside: bool = False) -> None:
        message = id_of(number, shard=self._shard)
        one = Damage(message, what, remedy.format(id=message), is_aside)
        if one not in self._found.damages[-1:]:  # once for recipients that share it
            self._found.damages.append(one)


def _has_column(connection: sqlite3.Connection, table: str, name: str) -> bool:
    return any(row[1] == name for row in connection.execute(f"PRAGMA table_info({table})"))
