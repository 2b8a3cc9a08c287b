"""faults.place: where the server's spool lies, and what can happen to it there.

Plain: a directory on the disk. Small: a tmpfs of a few megabytes, which can be filled. Cut: an ext4 file system in an
image on a loop device, whose power can be cut: EXT4_IOC_SHUTDOWN without flushing the log leaves on the device what had
reached it and nothing of what was only in memory, so that a file that was fsynced without its directory is gone.
Mounting needs root.
"""

import asyncio
import fcntl
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

from tests.faults.server import Failed

EXT4_IOC_SHUTDOWN = 0x8004587D
GOING_DOWN_WITHOUT_LOG_FLUSH = 2
IMAGE_MEGABYTES = 512
UNMOUNTED_WITHIN = 10.0
MKFS = ("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum,^resize_inode", "-E", "lazy_itable_init=0,lazy_journal_init=0")


class Plain:
    """A directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spool = directory / "spool"

    async def open(self) -> None:
        self.directory.mkdir(exist_ok=True)

    async def close(self, *, keep: bool) -> None:
        """keep: what is there is left to be looked at."""


class Small(Plain):
    """A tmpfs. megabytes: its size."""

    def __init__(self, directory: Path, *, megabytes: int = 48, inodes: int = 4096) -> None:
        super().__init__(directory)
        self._ballast = directory / "ballast"
        self._options = f"size={megabytes}m,nr_inodes={inodes},mode=0755"

    async def open(self) -> None:
        self.directory.mkdir(exist_ok=True)
        await run("mount", "-t", "tmpfs", "-o", self._options, "relay-faults", str(self.directory))

    async def close(self, *, keep: bool) -> None:
        """What is kept is copied, beside it."""
        if keep:
            without_sockets = shutil.ignore_patterns("*.sock")
            shutil.copytree(self.directory, self.directory.with_name("kept"), ignore=without_sockets)
        await unmount(self.directory)

    def fill(self, *, leaving: int = 0) -> None:
        """Up to so many octets."""
        free = self.free
        if free > leaving:
            with self._ballast.open("ab") as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), file.tell(), free - leaving)

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    @property
    def free(self) -> int:
        state = os.statvfs(self.directory)
        return state.f_bavail * state.f_frsize


class Cut(Plain):
    """An ext4 of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._image = directory.with_name(f"{directory.name}.img")

    async def open(self) -> None:
        self.directory.mkdir(exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(IMAGE_MEGABYTES * 2**20)
        await run(*MKFS, str(self._image))
        await self.mount()

    async def mount(self) -> None:
        # Not `-o loop`, which takes the device that there is: another mount namespace may hold what was unmounted here,
        # and with it a file system whose power is cut.
        device = await run("losetup", "--find", "--show", str(self._image))
        try:
            await run("mount", device, str(self.directory))
        finally:
            await run("losetup", "--detach", device)  # it goes with its file system

    def cut(self) -> None:
        """From here on nothing reaches the device, and every call that would write fails."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", GOING_DOWN_WITHOUT_LOG_FLUSH))
        finally:
            os.close(descriptor)

    async def restore(self) -> None:
        """Power is back; nobody may have a file open here."""
        await unmount(self.directory)
        await self.mount()

    async def close(self, *, keep: bool) -> None:
        """The image is kept."""
        await unmount(self.directory)
        if not keep:
            self._image.unlink()


async def unmount(directory: Path) -> None:
    """The kernel lets go of a killed process's files a little after its end."""
    ends = asyncio.get_running_loop().time() + UNMOUNTED_WITHIN
    while True:
        try:
            await run("umount", str(directory))
        except Failed as error:
            if "busy" not in str(error) or asyncio.get_running_loop().time() > ends:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def run(*words: str) -> str:
    """What it printed. Raises Failed."""
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise Failed(f"{' '.join(words)}: {output.decode().strip()}")
    return output.decode().strip()
