"""spool.recent: the contents of messages just accepted, so that a first attempt reads nothing back.

Bounded in octets; the oldest go first, and are read from the spool when they are wanted after all.
"""

from collections import OrderedDict

from relay.spool.content import StoredContent

RECENT_OCTETS = 16 * 1024 * 1024


class RecentContents:
    def __init__(self, octets: int = RECENT_OCTETS) -> None:
        self._room = octets
        # Not a dict: to find its first, it walks over all that were dropped before.
        self._contents: OrderedDict[str, StoredContent] = OrderedDict()

    def get(self, message_id: str) -> StoredContent | None:
        return self._contents.get(message_id)

    def add(self, message_id: str, content: StoredContent) -> None:
        self._contents[message_id] = content
        self._room -= _octets(content)
        while self._room < 0:
            self.drop(next(iter(self._contents)))

    def drop(self, message_id: str) -> None:
        content = self._contents.pop(message_id, None)
        if content is not None:
            self._room += _octets(content)


def _octets(content: StoredContent) -> int:
    return len(content.head) + len(content.body)
