"""server.recipients: whom each credential has sent to before, for the limit of first-time recipients.

The journal is the memory. So the limit means the right thing from the moment it is set, a restart forgets nothing, and
a recipient is first-time again when retention has deleted the last day that knows of mail to it. What is still in the
shards is read first, then the days, the newest first, in a thread; measured, that takes under a millisecond a file for
one recipient, and 4 for a thousand. Whoever was found there, or whose mail was accepted here, is remembered for a day,
up to a number, so that most messages ask no file. Two messages that are under way at the same moment count their
recipients twice: too strict for once, never too lax.

What cannot be read knows nobody, and who stands there counts as first-time. To refuse them all would stop the mail that
the limit is to let pass; to take them all for known would lift the limit just when nobody can see what happens.

Of each credential one message is looked up at a time: a flood to first-time recipients, for whom every file is looked
into, holds up the mail of no other credential.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from relay.errors import RelayError
from relay.journal.search import Search
from relay.log import Log
from relay.mail.event import Event
from relay.spool import SpoolReader, shards_in

MOST = 20_000  # some 5 MB
REMEMBERED = 86400.0  # seconds; the journal keeps its days for longer
AT_ONCE = 2  # lookups, each in a thread that signing and large contents want too
PENDING = 10_000  # events read of a shard, the oldest; where more wait the journal cannot be written


class KnownRecipients:
    """A `services.Recipients` of one worker. spool: the directory that holds the shards. now: POSIX seconds. most:
    pairs of credential and recipient that are remembered.
    """

    def __init__(self, spool: Path, *, now: Callable[[], float], log: Log, most: int = MOST) -> None:
        self._spool = spool
        self._search = Search(spool)
        self._now = now
        self._log = log
        self._most = most
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()  # until when; the one used last at the end
        self._turns: dict[str, asyncio.Lock] = {}  # by credential
        self._threads = asyncio.Semaphore(AT_ONCE)
        self._told: set[str] = set()

    async def first_time(self, credential: str, recipients: Collection[str], /) -> int:
        """How many of them; addresses as `mail.address.comparable` has them."""
        if not self._unknown(credential, recipients):
            return 0
        async with self._turns.setdefault(credential, asyncio.Lock()):
            unknown = self._unknown(credential, recipients)  # those before may have asked for the same
            return await self._look_up(credential, unknown) if unknown else 0

    def sent_to(self, credential: str, recipients: Iterable[str], /) -> None:
        for recipient in recipients:
            self._known[credential, recipient] = self._now() + REMEMBERED
            self._known.move_to_end((credential, recipient))
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)

    def _unknown(self, credential: str, recipients: Iterable[str]) -> list[str]:
        return [each for each in recipients if not self._is_remembered((credential, each))]

    def _is_remembered(self, pair: tuple[str, str]) -> bool:
        """A clock that was set back makes nobody known for longer."""
        return 0.0 < self._known.get(pair, 0.0) - self._now() <= REMEMBERED

    async def _look_up(self, credential: str, unknown: Collection[str]) -> int:
        async with self._threads:
            pending, unreadable = await asyncio.to_thread(_pending, self._spool)
            found = await self._search.first_time(credential, unknown, pending=pending)
        self._tell({**unreadable, **found.unreadable})
        self.sent_to(credential, [each for each in unknown if each not in found.recipients])
        return len(found.recipients)

    def _tell(self, unreadable: Mapping[str, str]) -> None:
        """Of each file once."""
        for path, error in unreadable.items():
            if path not in self._told:
                self._told.add(path)
                self._log.error("first-time recipients not looked up", file=path, error=error)


def _pending(spool: Path) -> tuple[list[Event], dict[str, str]]:
    """What the journal does not have yet, to be read before the journal is; and which shards cannot be read."""
    events: list[Event] = []
    unreadable: dict[str, str] = {}
    for shard in shards_in(spool):
        try:
            with SpoolReader(spool, shard=shard) as reader:
                events += [event for _, event in reader.events(limit=PENDING)]
        except RelayError as error:
            unreadable[str(spool / f"shard-{shard}")] = str(error)
    return events, unreadable
