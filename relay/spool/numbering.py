"""spool.numbering: queue ids, and the numbers messages are kept under.

A number is a queue id without its shard: milliseconds shifted by the 20 random bits, so that numbers ascend with time
and need no counter on disk. Ids never repeat within a process: one that would not be greater than the last becomes
the last plus one. Only after the clock was set back by more than an hour do ids follow it, since an id says its
message's day.

After a restart the last is not known, only the last that is still queued: those that followed it may have been given,
and be in the journal. So where the clock was set back meanwhile, ids go on from a random place in the millisecond
after it, not from its number plus one.
"""

from collections.abc import Callable
from functools import lru_cache

from relay.mail import queue_id

_BITS = queue_id.RANDOM_BITS
_MASK = (1 << _BITS) - 1
_SHARD_BITS = 10
_LATEST = 1 << 43  # milliseconds; more cannot be kept in SQLite's 63 bits (the year 2248)
_HOUR = 3_600_000
# From the alphabet to the digits int() knows; every other octet to one it refuses.
_DIGITS = bytes.maketrans(
    bytes(range(256)),
    bytes(
        b"0123456789abcdefghijklmnopqrstuv"[at] if (at := queue_id.ALPHABET.find(chr(n))) >= 0 else 33
        for n in range(256)
    ),
)
_PAIRS = tuple(first + second for first in queue_id.ALPHABET for second in queue_id.ALPHABET)


@lru_cache(maxsize=1024)  # asked several times on a message's way
def number_of(message_id: str, *, shard: int) -> int | None:
    """The number of an id of this shard; None for another shard's id, or what is none."""
    if len(message_id) != queue_id.LENGTH or not message_id.isascii():
        return None
    try:
        value = int(message_id.encode().translate(_DIGITS), 32)
    except ValueError:
        return None
    milliseconds = value >> (_BITS + _SHARD_BITS)
    if value >> _BITS & (queue_id.MAX_SHARDS - 1) != shard or milliseconds >= _LATEST:
        return None
    return milliseconds << _BITS | value & _MASK


def id_of(number: int, *, shard: int) -> str:
    """What `queue_id.new` gives, by pairs of letters: it is asked for every message that is read."""
    high, low = (number >> _BITS) << _SHARD_BITS | shard, number & _MASK
    return (
        queue_id.ALPHABET[high >> 50]
        + _PAIRS[high >> 40 & 1023]
        + _PAIRS[high >> 30 & 1023]
        + _PAIRS[high >> 20 & 1023]
        + _PAIRS[high >> 10 & 1023]
        + _PAIRS[high & 1023]
        + _PAIRS[low >> 10]
        + _PAIRS[low & 1023]
    )


def time_of(number: int) -> float:
    """POSIX seconds, to the millisecond."""
    return (number >> _BITS) / 1000


def first_at(moment: float) -> int:
    """The least number of a message accepted at `moment` (POSIX seconds) or later."""
    return max(0, min(int(moment * 1000), _LATEST)) << _BITS


class Numbering:
    """Gives ids. last: the greatest number that is queued, 0 if none."""

    def __init__(self, *, shard: int, now: Callable[[], float], random: Callable[[int], int], last: int) -> None:
        self._shard = shard
        self._now = now
        self._random = random
        self._last = ((last >> _BITS) + 1) << _BITS | random(_BITS) if last else 0

    def next_id(self) -> str:
        milliseconds = int(self._now() * 1000)
        number = milliseconds << _BITS | self._random(_BITS)
        if number <= self._last and milliseconds > (self._last >> _BITS) - _HOUR:
            number = self._last + 1
        self._last = number
        return id_of(number, shard=self._shard)
