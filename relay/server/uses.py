"""server.uses: logins that succeeded, gathered until they are written.

Applications log in once per message, and only the newest login of each secret from each address matters, so that much
is kept: bounded, whatever the traffic. A batch that could not be written is kept with what came since.
"""

from collections import OrderedDict

from relay.registry.store import Registry
from relay.registry.usage import Use

MOST = 10_000  # beyond that the one longest ago is forgotten: a "last used" that is too old


class Uses:
    """`flush` about once a minute."""

    def __init__(self, registry: Registry, *, most: int = MOST) -> None:
        self._registry = registry
        self._most = most
        # Not a dict: to find its first, it walks over all that were dropped before.
        self._newest: OrderedDict[tuple[str, str, str], Use] = OrderedDict()

    def record(self, use: Use) -> None:
        key = (use.credential, use.sha256, use.address)
        self._newest[key] = use
        self._newest.move_to_end(key)
        if len(self._newest) > self._most:
            self._newest.popitem(last=False)

    def __len__(self) -> int:
        return len(self._newest)

    async def flush(self) -> None:
        """Raises RelayError; then everything is still to be written."""
        batch, self._newest = self._newest, OrderedDict()
        written = False
        try:
            await self._registry.record_use(batch.values())
            written = True
        finally:
            if not written:
                self._newest = batch | self._newest
