"""peers.lossy_disk: an ext4 file system that really loses what it could not write, and whose power can be cut. As root.

The image lies sparse on a small tmpfs, behind a loop device. All that ext4 needs for itself (tables, bitmaps, journal)
is allocated; blocks of files are when they are first written back. So once the tmpfs is full, an fsync of a file that
grew fails with a true error of the kernel's: its pages are marked clean, are shown to whoever reads, and a second fsync
succeeds, whether there is room again or not. `cut_power` stops the file system without writing its journal, as a power
cut does, and mounts what is left.
"""

import fcntl
import os
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.waiting import PATIENCE

BLOCK = 4096
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2
FREEZE, THAW = 0xC0045877, 0xC0045878  # FIFREEZE, FITHAW


class LossyDisk:
    """`with LossyDisk(tmp_path) as disk:` mounts it at disk.directory. size: megabytes; room: of the tmpfs below."""

    def __init__(self, directory: Path, *, size: int = 96, room: int = 24) -> None:
        self.directory = directory / "disk"
        self._below = directory / "below"
        self._size = size
        self._room = room
        self._device = ""

    @property
    def image(self) -> Path:
        return self._below / "image"

    def __enter__(self) -> Self:
        for each in (self.directory, self._below):
            each.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={self._room}m", "tmpfs", self._below)
        with self.image.open("wb") as image:
            image.truncate(self._size * 2**20)
        lazy = "nodiscard,lazy_itable_init=0,lazy_journal_init=0"
        _run("mkfs.ext4", "-q", "-F", "-b", BLOCK, "-J", "size=4", "-N", 1024, "-E", lazy, self.image)
        self._allocate_what_is_its_own()
        self._mount()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unmount()
        _run("umount", self._below)

    def fill(self) -> None:
        """From now on no new block of a file arrives; what there is, directories too, is in its place."""
        self._settle()
        with (self._below / "ballast").open("ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(BLOCK))
            except OSError:
                return

    def free(self) -> None:
        (self._below / "ballast").unlink()

    def cut_power(self) -> None:
        """Whoever has files open on it must end before it is called, or at least stop: the mount goes."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
        finally:
            os.close(descriptor)
        self._unmount()
        self._mount()

    def _settle(self) -> None:
        """Freezing it empties its journal."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            for order in (FREEZE, THAW):
                fcntl.ioctl(descriptor, order, 0)
        finally:
            os.close(descriptor)

    def _allocate_what_is_its_own(self) -> None:
        """It is at the beginning of the image, up to the first free block."""
        described = _run("dumpe2fs", self.image)
        free = re.search(r"Free blocks: (\d+)-", described)
        assert free is not None, described
        with self.image.open("r+b") as image:
            os.posix_fallocate(image.fileno(), 0, int(free[1]) * BLOCK)

    def _mount(self) -> None:
        self._device = _run("losetup", "--find", "--show", self.image).strip()
        # A write that the tmpfs takes in part is a success to the loop device; a single block is not taken in part.
        (Path("/sys/block") / Path(self._device).name / "queue" / "max_sectors_kb").write_text(str(BLOCK // 1024))
        _run("mount", "-t", "ext4", "-o", "errors=continue", self._device, self.directory)

    def _unmount(self) -> None:
        ends = time.monotonic() + PATIENCE
        while subprocess.run(["umount", self.directory], capture_output=True, check=False).returncode:
            assert time.monotonic() < ends, "the disk stays busy"
            time.sleep(0.02)
        _run("losetup", "--detach", self._device)


def _run(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout
