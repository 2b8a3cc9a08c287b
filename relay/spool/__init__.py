"""spool: keep accepted mail until it is delivered or reported.

`accept` returns only once a message is on disk; `settle` records what became of its recipients together with
everything that follows from it. One process owns a shard; what it has claimed lives in its memory, so that after a
crash everything not settled is due again. Only this package knows how mail is kept.

What is here is what others say to a spool, and a look into one, which is loaded by every command. Who owns a shard
imports `spool.spool` (`Spool`), with `steps` and `measures`; who copies, verifies or saves one, `copying`, `verifying`,
`replacing` and `salvage`. The rest is this package's own.
"""

from relay.spool.content import INLINE_OCTETS, Content, IncomingFile, StoredContent
from relay.spool.reader import SpoolReader
from relay.spool.recovery import refuse_foreign, shards_in
from relay.spool.values import (
    Change,
    Cursor,
    DomainTotal,
    NewMessage,
    Outcome,
    QueuedMessage,
    QueuedRecipient,
    QueueEntry,
    Selection,
    Settled,
    Settlement,
    Status,
    StatusTotal,
    Totals,
)

__all__ = [
    "INLINE_OCTETS",
    "Change",
    "Content",
    "Cursor",
    "DomainTotal",
    "IncomingFile",
    "NewMessage",
    "Outcome",
    "QueueEntry",
    "QueuedMessage",
    "QueuedRecipient",
    "Selection",
    "Settled",
    "Settlement",
    "SpoolReader",
    "Status",
    "StatusTotal",
    "StoredContent",
    "Totals",
    "refuse_foreign",
    "shards_in",
]
