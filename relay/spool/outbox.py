"""spool.outbox: rows that wait to be carried to the journal and the suppression list, as values.

One that cannot be understood must keep none of the others here: it is given apart, to be told of and left out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outbox(Generic[T]):
    """By sequence. damaged: as they are stored."""

    rows: list[tuple[int, T]]
    damaged: list[tuple[int, bytes]]


def unpacked(found: Iterable[tuple[int, bytes]], unpack: Callable[[bytes], T]) -> Outbox[T]:
    outbox: Outbox[T] = Outbox([], [])
    for sequence, packed in found:
        value = _understood(packed, unpack)
        if value is None:
            outbox.damaged.append((sequence, packed))
        else:
            outbox.rows.append((sequence, value))
    return outbox


def _understood(packed: bytes, unpack: Callable[[bytes], T]) -> T | None:
    try:
        return unpack(packed)
    except (msgspec.MsgspecError, TypeError, ValueError):
        return None
