"""delivery.known_hosts: what sessions have lately shown of receiving hosts, so that not each finds it out anew. No IO.

- A host that offers CHUNKING and does not know the command gets content by DATA for an hour. What found out is sent
  at once, over another session.

Nothing here is the machine's: each worker finds out for itself, which costs it one session.
"""

from collections import OrderedDict
from collections.abc import Callable

from relay.log import Log

WITHOUT_CHUNKS = 3600.0  # seconds
MOST = 10_000  # of a kind; the oldest is forgotten for one more


class Lately:
    """Of what something was found. seconds: for which it is believed. steady: seconds that never jump."""

    def __init__(self, seconds: float, steady: Callable[[], float]) -> None:
        self._seconds = seconds
        self._steady = steady
        self._found: OrderedDict[str, float] = OrderedDict()  # until when; the oldest first

    def __contains__(self, name: str) -> bool:
        return self._found.get(name, 0.0) > self._steady()

    def add(self, name: str) -> None:
        self._found.pop(name, None)
        if len(self._found) >= MOST:
            self._found.popitem(last=False)
        self._found[name] = self._steady() + self._seconds


class KnownHosts:
    """One shard's. steady: POSIX seconds that never jump."""

    def __init__(self, *, steady: Callable[[], float], log: Log) -> None:
        self._log = log
        self._without_chunks = Lately(WITHOUT_CHUNKS, steady)

    def discarded(self, host: str) -> tuple[str, ...]:
        """EHLO keywords that are not believed. host: by name."""
        return ("CHUNKING",) if host in self._without_chunks else ()

    def refused_chunks(self, host: str, said: str) -> None:
        """host: by name. said: the failure, in words."""
        if host not in self._without_chunks:
            self._log.warning("chunking not used", host=host, error=said, tried_again_in=round(WITHOUT_CHUNKS))
        self._without_chunks.add(host)
