"""spool.pages: a database's rows without SQLite, page by page, for when SQLite gives up.

SQLite finds rows by walking down from the root of a table, so one damaged page hides all below it. Here every page is
looked at for itself, as its last committed version in the log or else in the file (sqlite.org/fileformat2.html). What
is a leaf, or a page between of a table without rowid, gives its rows; what cannot be understood gives none and keeps no
other from being read. Pages given up are zeros (secure_delete), so nothing that was deleted comes back. Nothing is
written.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay.spool.database import PAGE_OCTETS
from relay.spool.failure import translated

TABLE_LEAF: Final = 0x0D
INDEX_LEAF: Final = 0x0A
INDEX_BETWEEN: Final = 0x02
NARROW: Final = 6  # columns: fewer has an index, more a table without rowid
NARROW_AT_MOST: Final = 4

_POINTER_MAP_EVERY: Final = PAGE_OCTETS // 5 + 1  # pages 2, 822, ... say where the others belong (auto_vacuum)
_LEAST_LOCAL: Final = (PAGE_OCTETS - 12) * 32 // 255 - 23
_MOST_LOCAL = {TABLE_LEAF: PAGE_OCTETS - 35}
_MOST_LOCAL_OF_INDEX: Final = (PAGE_OCTETS - 12) * 64 // 255 - 23
_INTEGER_OCTETS = (0, 1, 2, 3, 4, 6, 8)
_FRAME = struct.Struct(">6I")
_LOG_HEADER = struct.Struct(">8I")

Value = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Record:
    """rowid: None in a table that has none. values: its columns as they are stored."""

    rowid: int | None
    values: tuple[Value, ...]


class Pages:
    """path: the database's. Raises SpoolError where it cannot be read at all."""

    def __init__(self, path: Path) -> None:
        with translated(f"{path} cannot be read"):
            self._file = path.open("rb")
            log = path.with_name(f"{path.name}-wal")
            self._log = log.read_bytes() if log.exists() else b""
        self._in_log, count = _committed(self._log)
        self._count = count or path.stat().st_size // PAGE_OCTETS

    def close(self) -> None:
        self._file.close()

    def records(self) -> Iterator[Record]:
        """Of all tables, in no order."""
        for number in range(3, self._count + 1):
            if (number - 2) % _POINTER_MAP_EVERY:
                yield from self._records_of(self._page(number))

    def _page(self, number: int) -> bytes:
        """Empty where there is none, or the disk does not give it back."""
        at = self._in_log.get(number)
        if at is not None:
            return self._log[at : at + PAGE_OCTETS]
        try:
            self._file.seek((number - 1) * PAGE_OCTETS)
            page = self._file.read(PAGE_OCTETS)
        except OSError:
            return b""
        return page if len(page) == PAGE_OCTETS else b""

    def _records_of(self, page: bytes) -> Iterator[Record]:
        kind = page[0] if page else 0
        if kind not in (TABLE_LEAF, INDEX_LEAF, INDEX_BETWEEN):
            return
        cells = int.from_bytes(page[3:5], "big")
        first, narrow = 12 if kind == INDEX_BETWEEN else 8, 0
        for at in range(first, min(first + 2 * cells, PAGE_OCTETS), 2):
            try:
                record = self._record(page, int.from_bytes(page[at : at + 2], "big"), kind)
            except (IndexError, ValueError, struct.error):  # no cell of ours
                continue
            narrow += kind != TABLE_LEAF and len(record.values) < NARROW
            if narrow > NARROW_AT_MOST:  # an index, which says nothing that its table does not
                return
            yield record

    def _record(self, page: bytes, at: int, kind: int) -> Record:
        if kind == INDEX_BETWEEN:
            at += 4
        size, at = _varint(page, at)
        rowid = None
        if kind == TABLE_LEAF:
            rowid, at = _varint(page, at)
            rowid = rowid - (1 << 64) if rowid >= 1 << 63 else rowid
        return Record(rowid, _values(self._payload(page, at, size, kind)))

    def _payload(self, page: bytes, at: int, size: int, kind: int) -> bytes:
        if size > self._count * PAGE_OCTETS:
            raise ValueError("longer than the file")
        most = _MOST_LOCAL.get(kind, _MOST_LOCAL_OF_INDEX)
        if size <= most:
            return _whole(page[at : at + size], size)
        local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % (PAGE_OCTETS - 4)
        local = local if local <= most else _LEAST_LOCAL
        parts, left = [page[at : at + local]], size - local
        following = int.from_bytes(_whole(page[at + local : at + local + 4], 4), "big")
        while left > 0:
            overflow = _whole(self._page(following), PAGE_OCTETS)
            parts.append(overflow[4 : 4 + left])
            left -= PAGE_OCTETS - 4
            following = int.from_bytes(overflow[:4], "big")
        return _whole(b"".join(parts), size)


def _whole(octets: bytes, size: int) -> bytes:
    if len(octets) != size:
        raise ValueError("cut short")
    return octets


def _values(payload: bytes) -> tuple[Value, ...]:
    header, at = _varint(payload, 0)
    types, end = [], header
    while at < header:
        one, at = _varint(payload, at)
        types.append(one)
    values: list[Value] = []
    for one in types:
        size = _size(one)
        values.append(_value(one, _whole(payload[end : end + size], size)))
        end += size
    if end != len(payload):
        raise ValueError("its values do not fill it")
    return tuple(values)


def _size(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    if kind == 7:
        return 8
    return _INTEGER_OCTETS[kind] if kind < 7 else 0


def _value(kind: int, octets: bytes) -> Value:
    if kind >= 12:
        return octets.decode("utf-8", "surrogateescape") if kind % 2 else octets
    if kind == 7:
        number: float = struct.unpack(">d", octets)[0]
        return number
    if kind in (8, 9):
        return kind - 8
    if kind in (10, 11):
        raise ValueError("no type")
    return int.from_bytes(octets, "big", signed=True) if kind else None


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        octet = octets[at + index]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + index + 1
    return value << 8 | octets[at + 8], at + 9


def _committed(log: bytes) -> tuple[dict[int, int], int]:
    """Where the last committed version of each page begins in the log, and of how many pages the database is then."""
    if len(log) < _LOG_HEADER.size:
        return {}, 0
    magic, _, _, _, *salts, first, second = _LOG_HEADER.unpack_from(log)
    order = ">" if magic & 1 else "<"
    sums = _summed(log[:24], (0, 0), order)
    known: dict[int, int] = {}
    waiting: dict[int, int] = {}
    count = 0
    if sums != (first, second):
        return {}, 0
    step = _FRAME.size + PAGE_OCTETS
    for at in range(_LOG_HEADER.size, len(log) - step + 1, step):
        page, size, *rest = _FRAME.unpack_from(log, at)
        sums = _summed(log[at + _FRAME.size : at + step], _summed(log[at : at + 8], sums, order), order)
        if rest != [*salts, *sums]:
            break
        waiting[page] = at + _FRAME.size
        if size:
            known |= waiting
            waiting, count = {}, size
    return known, count


def _summed(octets: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's checksum of its log."""
    first, second = sums
    words: Any = struct.unpack(f"{order}{len(octets) // 4}I", octets)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
