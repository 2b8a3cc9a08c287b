"""server.steady: POSIX seconds that pass as those of a stopwatch do, whatever becomes of the machine's clock.

For what is only remembered: until when a site is left alone, how long a connection is idle, when an answer of DNS is
old. By the machine's clock, one that is set back by a day would have all of that wait a day. What is kept on disk or
told goes by the machine's clock.
"""

from collections.abc import Callable


def steady(now: Callable[[], float], *, monotonic: Callable[[], float]) -> Callable[[], float]:
    """Begins at `now()`."""
    began_at = now() - monotonic()
    return lambda: began_at + monotonic()
