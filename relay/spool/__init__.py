"""spool: keep accepted mail until it is delivered or reported.

`accept` returns only once a message is on disk; `settle` records what became of its recipients together with
everything that follows from it. One process owns a shard; what it has claimed lives in its memory, so that after a
crash everything not settled is due again. Only this package knows how mail is kept.
"""

from relay.spool.content import INLINE_OCTETS, Content, IncomingFile, StoredContent
from relay.spool.copying import Copied, copy_shard
from relay.spool.lock import Lock
from relay.spool.measures import Measures
from relay.spool.reader import SpoolReader
from relay.spool.recovery import refuse_foreign, shards_in
from relay.spool.replacing import Recovery, recover_shard
from relay.spool.salvage import Fragment, Salvaged
from relay.spool.spool import FIRST, Spool
from relay.spool.steps import Step
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
from relay.spool.verifying import Damage, Verified, verify

__all__ = [
    "FIRST",
    "INLINE_OCTETS",
    "Change",
    "Content",
    "Copied",
    "Cursor",
    "Damage",
    "DomainTotal",
    "Fragment",
    "IncomingFile",
    "Lock",
    "Measures",
    "NewMessage",
    "Outcome",
    "QueueEntry",
    "QueuedMessage",
    "QueuedRecipient",
    "Recovery",
    "Salvaged",
    "Selection",
    "Settled",
    "Settlement",
    "Spool",
    "SpoolReader",
    "Status",
    "StatusTotal",
    "Step",
    "StoredContent",
    "Totals",
    "Verified",
    "copy_shard",
    "recover_shard",
    "refuse_foreign",
    "shards_in",
    "verify",
]
