"""What the cache keeps costs the same however much it has dropped before."""

import time

import pytest

from relay.resolver.answer import NoRecords
from relay.resolver.cache import Cache

SIZE = 10_000


def duration(cache: Cache, first: int) -> float:
    """Seconds of this thread's own work for as many new answers as the cache holds."""
    began = time.thread_time()
    for number in range(first, first + SIZE):
        cache.keep((f"h{number}.test", "A"), NoRecords(), now=0.0, ttl=300.0)
    return time.thread_time() - began


@pytest.mark.alone
def test_a_full_cache_takes_a_new_answer_as_fast_as_an_empty_one() -> None:
    cache = Cache(size=SIZE, stale=0.0)
    empty = duration(cache, 0)
    full = [duration(cache, turn * SIZE) for turn in range(1, 9)]
    assert len(cache) == SIZE
    assert max(full) < 4 * empty


def test_the_one_asked_for_longest_ago_is_dropped_first() -> None:
    cache = Cache(size=2, stale=0.0)
    for name in ("a", "b"):
        cache.keep((name, "A"), NoRecords(), now=0.0, ttl=300.0)
    cache.fresh(("a", "A"), now=1.0)
    cache.keep(("c", "A"), NoRecords(), now=1.0, ttl=300.0)
    assert [name for name in "abc" if cache.fresh((name, "A"), now=2.0)] == ["a", "c"]
