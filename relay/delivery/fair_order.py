"""delivery.fair_order: whose message is next, of all that share a site. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a message begins where the last one of its stream and credential
ended, a message later than that began; the one that begins first is next. So as long as all have mail they have equal
shares, whatever their queues. Who had less for a while cannot make all of it up, only a few messages: with these it
comes before all others, so a password reset waits for no campaign, however many of them there are.
"""

from collections.abc import Iterable

Sharer = tuple[str, str]  # a stream and a credential

CREDIT = 5  # messages
_FEW = 100  # sharers before they are looked through for what may be forgotten


class FairOrder:
    """Places are counted in messages, from the beginning on."""

    def __init__(self) -> None:
        self._ends: dict[Sharer, float] = {}  # of the last message of each
        self._reached = 0.0  # where the furthest that was next began
        self._most = _FEW

    def first(self, sharers: Iterable[Sharer]) -> Sharer:
        """Of those that have a message."""
        return min(sharers, key=self._begins)

    def place(self, sharer: Sharer, *, count: int = 1) -> float:
        """Where its next message begins, of so many messages' length; the one after that begins where it ends."""
        if len(self._ends) >= self._most:
            self._forget()
        begins = self._begins(sharer)
        self._ends[sharer] = begins + count
        return begins

    def give_up(self, sharer: Sharer, *, count: int = 1) -> None:
        """Its last message was not sent, and waits again."""
        if sharer in self._ends:
            self._ends[sharer] -= count

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
