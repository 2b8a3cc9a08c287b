"""server.memory: how this process's memory is managed: Python's garbage collector and the C library's large blocks.

Looking through a full window's hundred thousands of objects after every 700 new ones took a fifth of a worker's time;
hardly anything here has to wait for the collector to be freed.

Each TLS connection has a block of 256 KiB from uvloop, of which it uses the first page as a rule. A block that is a
mapping of its own has one page in memory then; in the heap it takes part of two, and glibc moves such blocks to the
heap as soon as one has been freed. Naming the threshold forbids that: 23 KB an idle session instead of 28.
"""

import ctypes
import gc

GARBAGE = (20_000, 20, 20)

LARGE = 256 * 1024  # octets: a block from here on is a mapping of its own
TRIMMED = 2 * LARGE  # octets free at the heap's end that are given back; what glibc would have for that threshold

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def arrange_memory() -> None:
    """Once, when all that stays has been made; children that are forked inherit it. A C library without mallopt has
    other ways and is left to them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, TRIMMED)
