"""resolver.cache: answers kept for their TTL, the least recently used dropped first.

Nothing here asks or waits, and the time is an argument. An answer is fresh until its TTL has passed. One with records
may then still be served, marked stale, while the servers fail (RFC 8767 4); a refusal (NXDOMAIN, no records, a null
MX) never is: it would end mail on the word of yesterday.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from relay.resolver.answer import Failure, Found, NoDomain, NoRecords, NullMx

Question = tuple[str, str]  # name in lower case, type: ("example.com", "MX")
Answer = Found[Any] | NullMx | NoRecords | NoDomain | Failure


@dataclass(frozen=True, slots=True)
class _Entry:
    answer: Answer
    fresh_until: float
    stale_until: float


class Cache:
    """size: answers kept. stale: seconds past its TTL that an answer may still be served."""

    __slots__ = ("_entries", "_size", "_stale")

    def __init__(self, *, size: int, stale: float) -> None:
        # Not a dict: to find its first, it walks over all that were dropped before.
        self._entries: OrderedDict[Question, _Entry] = OrderedDict()
        self._size = size
        self._stale = stale

    def __len__(self) -> int:
        return len(self._entries)

    def fresh(self, question: Question, *, now: float) -> Answer | None:
        entry = self._entries.get(question)
        if entry is None or entry.fresh_until <= now:
            return None
        self._entries.move_to_end(question)
        return entry.answer

    def keep(self, question: Question, answer: Answer, *, now: float, ttl: float) -> None:
        fresh_until = now + ttl
        stale_until = fresh_until + self._stale if isinstance(answer, Found) else fresh_until
        self._put(question, _Entry(answer, fresh_until, stale_until))

    def fall_back(self, question: Question, failure: Failure, *, now: float, recheck: float) -> Answer:
        """What to answer when asking failed: the stale answer or the failure, kept for `recheck` seconds."""
        entry = self._entries.get(question)
        if entry is None or entry.stale_until <= now or not isinstance(entry.answer, Found):
            self._put(question, _Entry(failure, now + recheck, now + recheck))
            return failure
        stale = replace(entry.answer, stale=True)
        self._put(question, _Entry(stale, min(now + recheck, entry.stale_until), entry.stale_until))
        return stale

    def _put(self, question: Question, entry: _Entry) -> None:
        self._entries[question] = entry
        self._entries.move_to_end(question)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
