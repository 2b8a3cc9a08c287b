"""spool.keeper: the files of large contents, and the thread that waits for them.

Apart from the thread that commits, so that 25 MB on their way to the disk do not hold up a commit of a few kilobytes.

What cannot be synced is removed, and comes again under another name: the same message by its client, a report by
whoever settles. When the directory could not be synced an era ends: names that were made in it but not synced yet may
be lost with those that were, so each is changed, which writes it anew, before the directory is synced for it.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from relay.creation import sync_directory
from relay.errors import SpoolError
from relay.spool.content import (
    Content,
    IncomingFile,
    Kept,
    is_large,
    keep_in_file,
    keep_inline,
    remove_file,
    remove_if_possible,
)
from relay.spool.disk import Disk
from relay.spool.failure import translated
from relay.spool.steps import Reached, Step
from relay.spool.values import NewMessage

log = logging.getLogger(__name__)

AllKept = tuple[Kept, ...]


class Keeper:
    """directory: the shard's content directory. new_name: never gives one twice. disk: stopped with it."""

    def __init__(self, directory: Path, *, new_name: Callable[[], str], disk: Disk, reached: Reached) -> None:
        self.directory = directory
        self._new_name = new_name
        self._reached = reached
        self._era = 0
        self._disk = disk

    def incoming(self) -> IncomingFile:
        """Raises SpoolFull, SpoolError."""
        return IncomingFile(self.directory / self._new_name(), era=self._era)

    def keep(self, messages: Sequence[NewMessage], done: Callable[[AllKept | None, Exception | None], None]) -> None:
        """Make their contents ready to be committed, large ones on disk. Owns their files from here on."""
        for message in messages:
            if message.content.file is not None:
                message.content.file.hand_to_spool()
        # A name of its own each time: what is settled again must not meet the file of the first time.
        self._disk.call(partial(self._keep, [(message.content, self._new_name()) for message in messages]), done)

    def _keep(self, contents: Sequence[tuple[Content, str]]) -> AllKept:
        kept: list[Kept] = []
        try:
            kept.extend(self._keep_one(content, name) for content, name in contents)
        except BaseException:
            for one in kept:
                if one.file is not None:
                    remove_if_possible(self.directory / one.file)
            raise
        return tuple(kept)

    def _keep_one(self, content: Content, name: str) -> Kept:
        if not is_large(content):
            return keep_inline(content)
        new = self.directory / name
        return keep_in_file(content, new=new, era=self._era, sync_names=self._sync_names, reached=self._reached)

    def _sync_names(self) -> None:
        try:
            with translated(f"{self.directory} cannot be synced"):
                sync_directory(self.directory)
        except SpoolError:
            self._era += 1
            raise

    def remove(self, file: str | None) -> None:
        """Unlink a file no row knows any more; a failure leaves it to the next recovery."""
        if file is not None:
            self._disk.call(partial(self._remove_now, file), _removed)

    def _remove_now(self, file: str | None) -> None:
        if file is not None:
            remove_file(self.directory / file)
            self._reached(Step.UNLINKED)

    async def close(self) -> None:
        """Finish what was given."""
        await self._disk.run(_nothing)
        self._disk.stop()


def _nothing() -> None:
    """The last job: when it is done, all before it are."""


def _removed(_: None, failure: Exception | None) -> None:
    if failure is not None:
        log.warning("a content file could not be removed", extra={"error": str(failure)})
