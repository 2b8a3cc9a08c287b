"""spool.setting_aside: what is damaged is not sent, not dropped, does not expire and keeps nothing else waiting.

A row is looked at when it is read for a delivery (`stored`), a content before the first octet of it is given out: a
small one in memory, a file by reading it through, in a thread, whenever it is asked for. (Two thirds of a second for a
gigabyte of CPU, and the disk is asked once, since what was read is in the page cache when it is sent. To find it out at
the end, and keep the final dot back, would cost the receiver a transaction each time.) What comes from memory, of mail
just accepted, is as it was given.

Set aside is held, with the reason beside it: an operator sees it as "damaged", cancels it, or releases it, upon which
it is looked at again. The journal and the log have each one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from zlib import crc32

from relay.errors import MessageDamaged, NotFound, SpoolDamaged
from relay.spool import checksums, operations, queries, verbs
from relay.spool.changes import Changes
from relay.spool.content import StoredContent
from relay.spool.numbering import number_of
from relay.spool.queries import Query
from relay.spool.reads import Reads
from relay.spool.stored import Damaged, Found
from relay.spool.values import QueuedRecipient
from relay.spool.verbs import Changed

NO_CONTENT = "its content is not in the shard"
CONTENT_DAMAGED = "its content is damaged"

log = logging.getLogger(__name__)


class SettingAside:
    """One shard's. committed: what follows from any order."""

    def __init__(
        self,
        *,
        shard: int,
        now: Callable[[], float],
        changes: Changes,
        reads: Reads,
        committed: Callable[[Changed], None],
    ) -> None:
        self._shard = shard
        self._now = now
        self._changes = changes
        self._reads = reads
        self._committed = committed

    async def sound(self, ask: Callable[[], Awaitable[Found]], *, doubt: str = "") -> Found:
        """What a question finds once all damaged of it is set aside: asked again, so that its limit is filled.

        doubt: what is to be added to each reason. Raises SpoolError.
        """
        before: list[Damaged] = []
        while (found := await ask()).damaged and found.damaged != before:
            before = found.damaged
            await self._set_aside([replace(one, reason=one.reason + doubt) for one in before])
        return found

    async def _set_aside(self, damaged: Sequence[Damaged]) -> None:
        for reason, group in groupby(damaged, key=attrgetter("reason")):
            await self._order([one.recipient for one in group], reason)

    async def _order(self, recipients: Sequence[QueuedRecipient], reason: str) -> None:
        work = partial(verbs.change, verb=verbs.SET_ASIDE, recipients=recipients, now=self._now(), by=reason)
        changed = await self._changes.make(work, committed=self._committed, insists=True)
        for change in changed.changes:
            log.error(
                "recipient set aside", extra={"id": change.message_id, "position": change.position, "reason": reason}
            )

    async def leave_out(self, table: str, damaged: Sequence[tuple[int, bytes]]) -> None:
        """Rows of the outbox that cannot be understood: the log has them now."""
        for sequence, packed in damaged:
            extra = {"table": table, "sequence": sequence, "octets": packed.hex()}
            log.error("a row of the outbox is damaged and left out", extra=extra)
        sequences = [sequence for sequence, _ in damaged]
        await self._changes.make(partial(operations.leave_out, table=table, sequences=sequences), insists=True)

    async def content(
        self, message_id: str, known: StoredContent | None, ask: Query[StoredContent | None]
    ) -> StoredContent:
        """known: what memory has. Raises NotFound, MessageDamaged, SpoolError."""
        if known is not None and known.path is None:
            return known
        try:
            stored = known or await self._reads.ask(ask)
            damage = NO_CONTENT if stored is None else await damage_of_content(self._number(message_id), stored)
        except SpoolDamaged as error:
            stored, damage = None, error.text
        if stored is not None and not damage:
            return stored
        raise await self._set_message_aside(message_id, damage)

    async def _set_message_aside(self, message_id: str, damage: str) -> NotFound | MessageDamaged:
        """A message of which nothing is owed is none: its file may have gone while it was asked for."""
        owed = await self._reads.ask(queries.recipients_of(message_id, shard=self._shard))
        if not owed:
            return queries.not_found(message_id)
        await self._order(owed, damage)
        return MessageDamaged(
            f"{message_id} is set aside: {damage}", remedy=f"See it with: relay queue why {message_id}"
        )

    def _number(self, message_id: str) -> int:
        return number_of(message_id, shard=self._shard) or 0


async def damage_of_content(number: int, content: StoredContent) -> str:
    """What is wrong with it, "" if it is as it was accepted. Raises SpoolError where a file cannot be read now."""
    if content.path is None:
        return _damage(number, content, size=len(content.body), body_checksum=crc32(content.body))
    return await asyncio.to_thread(damage_of_file, number, content)


def damage_of_file(number: int, content: StoredContent) -> str:
    """The same, reading the file where it is one; blocks."""
    size = body_checksum = 0
    try:
        for chunk in content.chunks():
            size += len(chunk)
            body_checksum = crc32(chunk, body_checksum)
    except SpoolDamaged as error:
        return error.text
    return _damage(number, content, size=size, body_checksum=body_checksum)


def _damage(number: int, content: StoredContent, *, size: int, body_checksum: int) -> str:
    if size != content.body_size:
        return f"{CONTENT_DAMAGED}: its body has {size} octets and not {content.body_size}"
    known = content.checksum
    if known is not None and checksums.of_content(number, content.head, body_checksum) != known:
        return f"{CONTENT_DAMAGED}: its checksum is another"
    return ""
