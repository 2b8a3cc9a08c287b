"""delivery.fair_order: whose message is next, of all that share a site. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a message begins where the last one of its stream and credential
ended, a message later than that began; the one that begins first is next, of several that begin together the one that
has waited longest. So as long as all have mail they have equal shares, whatever their queues. Who had less for a while
cannot make all of it up, only a few messages: with these it comes before all others, so a password reset waits for no
campaign, however many of them there are.

Those that wait are in a heap, so that a turn costs the logarithm of how many they are. An entry is put right when it
comes to the top, for where its sharer begins may be later by then; where it may be sooner, there is a new one at once.
"""

from heapq import heapify, heappop, heappush
from typing import NamedTuple

Sharer = tuple[str, str]  # a stream and a credential

CREDIT = 5  # messages
_FEW = 100  # sharers before they are looked through for what may be forgotten


class _Entry(NamedTuple):
    """begins: where its next message does, or sooner. since: how many had begun to wait by then."""

    begins: float
    since: int
    sharer: Sharer


class FairOrder:
    """Places are counted in messages, from the beginning on."""

    def __init__(self) -> None:
        self._ends: dict[Sharer, float] = {}  # of the last message of each
        self._reached = 0.0  # where the furthest that was next began
        self._most = _FEW
        self._waiting: dict[Sharer, _Entry] = {}  # the entry that counts, of those that it has in the heap
        self._line: list[_Entry] = []  # a heap
        self._came = 0

    # Who waits.

    def wait(self, sharer: Sharer) -> None:
        """It has a message."""
        if sharer not in self._waiting:
            self._came += 1
            self._enter(sharer, self._came)

    def leave(self, sharer: Sharer) -> None:
        """It has none any more."""
        self._waiting.pop(sharer, None)

    def clear(self) -> None:
        """Nobody has one."""
        self._waiting.clear()
        self._line.clear()

    def first(self) -> Sharer:
        """Of those that wait, of whom there is one at least."""
        while not self._is_right(self._line[0]):
            entry = heappop(self._line)
            if self._counts(entry):
                self._enter(entry.sharer, entry.since)
        return self._line[0].sharer

    # Places.

    def place(self, sharer: Sharer, *, count: int = 1) -> float:
        """Where its next message begins, of so many messages' length; the one after that begins where it ends."""
        if len(self._ends) >= self._most:
            self._forget()
        begins = self._begins(sharer)
        self._ends[sharer] = begins + count
        return begins

    def give_up(self, sharer: Sharer, *, count: int = 1) -> None:
        """Its last message was not sent, and waits again."""
        if sharer not in self._ends:
            return
        self._ends[sharer] -= count
        entry = self._waiting.get(sharer)
        if entry is not None and entry.begins > self._begins(sharer):
            self._enter(sharer, entry.since)

    def reach(self, begins: float) -> None:
        """The message that begins there was next."""
        self._reached = max(self._reached, begins)

    def _begins(self, sharer: Sharer) -> float:
        return max(self._reached - CREDIT, self._ends.get(sharer, 0.0))

    def _forget(self) -> None:
        """Those that begin where anybody would who never had one."""
        oldest = self._reached - CREDIT
        self._ends = {sharer: ends for sharer, ends in self._ends.items() if ends > oldest}
        self._most = max(_FEW, 2 * len(self._ends))

    # The heap.

    def _enter(self, sharer: Sharer, since: int) -> None:
        entry = self._waiting[sharer] = _Entry(self._begins(sharer), since, sharer)
        heappush(self._line, entry)
        if len(self._line) > 2 * len(self._waiting) + _FEW:
            self._line = [each for each in self._line if self._counts(each)]
            heapify(self._line)

    def _counts(self, entry: _Entry) -> bool:
        return self._waiting.get(entry.sharer) is entry

    def _is_right(self, entry: _Entry) -> bool:
        return self._counts(entry) and self._begins(entry.sharer) == entry.begins
