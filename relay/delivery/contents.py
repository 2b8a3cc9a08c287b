"""delivery.contents: the octets to send, from memory when they were just accepted, else from the spool.

A message that is delivered at once is never read back from the disk. Bounded in octets; the oldest goes first, and what is gone
is read from the spool, which is the truth.
"""

from collections import OrderedDict

from relay.smtpclient import OutgoingContent
from relay.spool import Spool

CAPACITY = 32 * 1024 * 1024


class Contents:
    """`capacity`: octets kept."""

    def __init__(self, spool: Spool, *, capacity: int = CAPACITY) -> None:
        self._spool = spool
        self._capacity = capacity
        self._kept: OrderedDict[str, OutgoingContent] = OrderedDict()
        self._size = 0

    def keep(self, message_id: str, head: bytes, body: bytes) -> None:
        """A small message just accepted; large ones are in a file and are not offered here."""
        self._kept[message_id] = OutgoingContent(head=head, body=body)
        self._size += len(head) + len(body)
        while self._size > self._capacity:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest.head) + len(oldest.body)

    async def of(self, message_id: str) -> OutgoingContent:
        kept = self._kept.get(message_id)
        if kept is not None:
            return kept
        stored = await self._spool.content(message_id)
        size = stored.body_size if stored.path else 0
        return OutgoingContent(head=stored.head, body=stored.body, path=stored.path, size=size)

    def forget(self, message_id: str) -> None:
        """The message is settled; a deferred one is read again when its time comes."""
        kept = self._kept.pop(message_id, None)
        if kept is not None:
            self._size -= len(kept.head) + len(kept.body)
