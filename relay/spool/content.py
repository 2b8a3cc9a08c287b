"""spool.content: a message's octets, on their way in and on their way out.

A content has a head (the header fields Relay completed and signed, with the empty line) and a body. A small body is
kept beside its message; a large one is a file of its own, written as it arrives (`IncomingFile`), so that memory does
not grow with what clients send. Nothing in a file counts until `Spool.accept` has made it durable and returned.

Whoever gets an IncomingFile from `Spool.incoming()` ends it: by handing it to `accept` (which owns it from the call
on, also when it fails or its caller is cancelled) or by `discard()`. After `accept` a `discard()` does nothing, so it
may stand in a `finally`. What a crash leaves behind is removed when the spool is opened next.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from zlib import crc32

from msgspec import Struct

from relay.errors import SpoolDamaged
from relay.spool.failure import translated
from relay.spool.steps import Reached, Step

INLINE_OCTETS = 64 * 1024
CHUNK_OCTETS = 256 * 1024


class IncomingFile:
    """The octets of one body being written to disk. `size`, `checksum`: of the octets written so far. era: its
    directory's, when its name was made there (`Keeper`).
    """

    __slots__ = ("_descriptor", "_owned_by_spool", "checksum", "era", "path", "size")

    def __init__(self, path: Path, *, era: int = 0) -> None:
        """Raises SpoolFull, SpoolError."""
        self.path = path
        self.era = era
        self.size = 0
        self.checksum = 0
        self._owned_by_spool = False
        with translated(f"{path} cannot be made"):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the page cache; does not wait for the disk. Raises SpoolFull, SpoolError."""
        # An error keeps this frame alive: a view that was not released would keep its bytearray from being emptied.
        done = 0
        with translated(f"{self.path} cannot be written"), memoryview(data) as octets:
            while done < len(octets):
                with octets[done:] as rest:
                    written = os.write(self._descriptor, rest)
                    self.checksum = crc32(rest[:written], self.checksum)
                self.size += written
                done += written

    def sync(self) -> None:
        """Wait until what was written is on disk; blocks. Raises SpoolFull, SpoolError."""
        with translated(f"{self.path} cannot be synced"):
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """End writing. Safe to call again."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def discard(self) -> None:
        """Remove the file, unless the spool owns it by now. Safe to call again."""
        if not self._owned_by_spool:
            self.close()
            remove_if_possible(self.path)

    def rename(self, name: str) -> None:
        """Another name in the same directory: its entry is written anew. Raises SpoolFull, SpoolError."""
        new = self.path.with_name(name)
        with translated(f"{self.path} cannot be renamed"):
            self.path.rename(new)
        self.path = new

    def hand_to_spool(self) -> None:
        """From here on the spool keeps or removes the file; for `Spool.accept` only."""
        self._owned_by_spool = True


class Content(Struct, frozen=True):
    """What is to be sent: head, then body; the body is `body`, or the octets in `file`.

    head: header fields and the empty line. Everything with CRLF, not dot-stuffed.
    """

    head: bytes
    body: bytes = b""
    file: IncomingFile | None = None

    @property
    def size(self) -> int:
        """Octets of head and body."""
        return len(self.head) + (len(self.body) if self.file is None else self.file.size)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A content as it is kept: `body`, or the file at `path`. body_size: octets of the body either way.

    checksum: `checksums.of_content`; None where it is not known.
    """

    head: bytes
    body: bytes
    path: Path | None
    body_size: int
    checksum: int | None = field(default=None, compare=False)

    def chunks(self, size: int = CHUNK_OCTETS) -> Iterator[bytes]:
        """The body in pieces of at most `size` octets; reads the file with blocking calls.

        Raises SpoolDamaged if there is none, SpoolError.
        """
        if self.path is None:
            for start in range(0, len(self.body), size):
                yield self.body[start : start + size]
            return
        with translated(f"{self.path} cannot be read"), _opened(self.path) as file:
            while chunk := file.read(size):
                yield chunk


def _opened(path: Path) -> FileIO:
    try:
        return FileIO(path)
    except FileNotFoundError as error:
        raise SpoolDamaged(f"{path} is missing") from error


class Kept(Struct, frozen=True):
    """How a content is kept: body here, or the file of that name in the shard's content directory.

    body_checksum: crc32 of the body.
    """

    head: bytes
    body: bytes
    body_size: int
    body_checksum: int
    file: str | None = None


def is_large(content: Content) -> bool:
    """Whether its body is to be a file."""
    return content.file is not None or len(content.body) > INLINE_OCTETS


def keep_inline(content: Content) -> Kept:
    return Kept(content.head, content.body, len(content.body), crc32(content.body))


def keep_in_file(content: Content, *, new: Path, era: int, sync_names: Callable[[], None], reached: Reached) -> Kept:
    """Have the body in a file that is on disk with its name; blocks. Raises SpoolFull, SpoolError, leaving no file.

    new: the name for what is no file yet, and for one that was made in an earlier era.
    """
    file = content.file or IncomingFile(new, era=era)
    try:
        if content.file is None:
            file.write(content.body)
        file.sync()
        reached(Step.CONTENT_SYNCED)
        if file.era != era:
            file.rename(new.name)
        sync_names()
        reached(Step.DIRECTORY_SYNCED)
    except BaseException:
        remove_if_possible(file.path)
        raise
    finally:
        file.close()
    return Kept(content.head, b"", file.size, file.checksum, file.path.name)


def remove_file(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def remove_if_possible(path: Path) -> None:
    """What stays, no row knows; the next recovery removes it."""
    with contextlib.suppress(OSError):
        path.unlink()
