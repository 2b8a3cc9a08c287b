"""spool.steps: the moments between which a crash must lose nothing, with a name each.

`Spool.open(reached=...)` is told of each as it passes, so that a test can end the process exactly there. It is called
where the step happens: in the disk's threads, where it may block, or end the process.
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    CONTENT_SYNCED = "content synced"  # a large content is on disk, its name may not be
    DIRECTORY_SYNCED = "directory synced"  # so is its name; no row knows it yet
    ROWS_WRITTEN = "rows written"  # nothing is committed
    COMMITTED = "committed"  # on disk; nobody has been told
    CHECKPOINTED = "checkpointed"
    UNDONE = "undone"  # the disk failed a commit: what was acknowledged before is not written anew yet
    WRITTEN_ANEW = "written anew"  # all of that is in the database and synced
    UNLINKED = "unlinked"  # a file whose message ended is gone


Reached = Callable[[Step], None]


def pass_by(_: Step) -> None:
    """What is reached outside tests."""
