"""Runs an image as `docker run` does: the entrypoint is process 1 in namespaces of its own, with the image's user and
environment. As Docker's default has it, a process that is not root may bind ports below 1024 there.

What is run inside later (`execute`, `is_healthy`) enters the same namespaces. Root is needed.
"""

import dataclasses
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.system.image import Image

NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts")

# Interface flags UP and RUNNING for `lo`, by ioctl(SIOCSIFFLAGS): a bare Debian has no `ip`.
LOOPBACK_UP = (
    "import fcntl, socket, struct;"
    "fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
)


def first_child(pid: int) -> int:
    """The number on this machine of what `unshare --fork` started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 5
    while not (numbers := children.read_text().split()):
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.01)
    return int(numbers[0])


class Container:
    """volumes: directory here → path inside. `with` starts the process, and kills it at the end if it still runs."""

    def __init__(self, image: Image, *, volumes: dict[Path, str], log: Path, command: list[str] | None = None) -> None:
        self._image = image
        self._volumes = volumes
        self._log = log
        self._command = image.entrypoint + (image.command if command is None else command)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", *NAMESPACES, "--fork", "/bin/sh", "-c", self._script()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()

    def _script(self) -> str:
        root = str(self._image.root)
        lines = ["set -e", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        for here, inside in self._volumes.items():
            lines += [f"mkdir -p {root}{inside}", f"mount --bind {shlex.quote(str(here))} {root}{inside}"]
        lines += [
            f"chroot {root} /usr/bin/python3 -c {shlex.quote(LOOPBACK_UP)}",
            f"echo 0 > {root}/proc/sys/net/ipv4/ip_unprivileged_port_start",
            "exec " + shlex.join(self._image.inside(*self._command)),
        ]
        return "\n".join(lines)

    @property
    def main_process(self) -> int:
        """The entrypoint's number on this machine."""
        assert self._process is not None
        return first_child(self._process.pid)

    def signal(self, number: int) -> None:
        os.kill(self.main_process, number)

    def stop(self) -> None:
        """What `docker stop` sends first."""
        self.signal(signal.Signals[self._image.stop_signal])

    def wait(self, *, within: float) -> int:
        """The exit code."""
        assert self._process is not None
        return self._process.wait(timeout=within)

    def execute(self, *command: str, check: bool = True, user: str = "") -> subprocess.CompletedProcess[bytes]:
        """`docker exec`; user "" is the image's."""
        image = dataclasses.replace(self._image, root=Path("/"), user=user or self._image.user)
        done = subprocess.run(
            ["nsenter", f"--target={self.main_process}", *NAMESPACES, "--root", *image.inside(*command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr.decode()}{done.stdout.decode()}"
        return done

    def is_healthy(self) -> bool:
        return self.execute(*self._image.health, check=False).returncode == 0

    def wait_until_healthy(self, *, within: float) -> None:
        deadline = time.monotonic() + within
        while not self.is_healthy():
            assert self._process is not None
            assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self._log.read_text()}"
            assert time.monotonic() < deadline, f"not healthy in {within} s:\n{self._log.read_text()}"
            time.sleep(0.2)
