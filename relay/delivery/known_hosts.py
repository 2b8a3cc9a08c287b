"""delivery.known_hosts: what sessions have lately shown of receiving hosts, so that not each finds it out anew. No IO.

- A host that offers CHUNKING and does not know the command gets content by DATA for an hour. What found out is sent
  at once, over another session.
- Of a host with addresses of both families that are dialled one beside the other, the one that did not answer in time
  is dialled second for ten minutes, so that a dead path does not cost each session its delay; the preferred family is
  looked at again after that (RFC 6555 4.2, on which RFC 8305 builds). It is believed no longer once it answers.

Nothing here is the machine's: each worker finds out for itself, which costs it one session.
"""

from collections import OrderedDict
from collections.abc import Callable

from relay.log import Log

WITHOUT_CHUNKS = 3600.0  # seconds
SILENT = 600.0  # seconds
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

    def discard(self, name: str) -> None:
        self._found.pop(name, None)


class KnownHosts:
    """One shard's. steady: POSIX seconds that never jump."""

    def __init__(self, *, steady: Callable[[], float], log: Log) -> None:
        self._log = log
        self._without_chunks = Lately(WITHOUT_CHUNKS, steady)
        self._silent = Lately(SILENT, steady)

    def discarded(self, host: str) -> tuple[str, ...]:
        """EHLO keywords that are not believed. host: by name."""
        return ("CHUNKING",) if host in self._without_chunks else ()

    def refused_chunks(self, host: str, said: str) -> None:
        """host: by name. said: the failure, in words."""
        if host not in self._without_chunks:
            self._log.warning("chunking not used", host=host, error=said, tried_again_in=round(WITHOUT_CHUNKS))
        self._without_chunks.add(host)

    def is_silent(self, address: str) -> bool:
        return address in self._silent

    def did_not_answer(self, address: str) -> None:
        """Its host's address of the other family has connected meanwhile."""
        self._silent.add(address)

    def answered(self, address: str) -> None:
        self._silent.discard(address)
