"""spool.measures: what a shard counts about itself, as plain numbers for whoever exports them."""

from dataclasses import dataclass


@dataclass(slots=True)
class Measures:
    """Since the shard was opened. Seconds are of wall time.

    operations: accepts, settles and the like that were committed; by commits, that is the size of a group.
    refused_groups: groups rolled back for lack of room. cures: groups the disk failed, after which the log was written
    anew. wal_octets: the write-ahead log's size after the last commit
    that was looked at.
    """

    commits: int = 0
    operations: int = 0
    rows: int = 0
    commit_seconds: float = 0.0
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    failed_operations: int = 0
    refused_groups: int = 0
    cures: int = 0
    wal_octets: int = 0
