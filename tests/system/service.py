"""Runs config/relay.service as systemd would, on the system that the image is: same user, command, capability,
credentials, read-only file system, system call filter, notification socket.

Namespaces of its own keep it from the machine; its network is its own too, so 587 and 465 are free. Root is needed.
"""

import dataclasses
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.system.container import LOOPBACK_UP, NAMESPACES, first_child
from tests.system.image import Image

UNIT = Path(__file__).parents[2] / "config" / "relay.service"
CONFINE = Path(__file__).with_name("confine.py")
STATE = "/var/lib/relay"
CONFIGURATION = "/etc/relay"
CREDENTIALS = "/run/credentials/relay.service"
NOTIFY = "/run/notify"


def unit_values(unit: Path) -> dict[str, list[str]]:
    """Every value of every key, in order."""
    values: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(key, []).append(value)
    return values


def syscalls(names: Sequence[str]) -> set[str]:
    """The system calls in these names, sets written @name resolved by systemd itself."""
    found: set[str] = set()
    for name in names:
        found |= syscalls(_members(name)) if name.startswith("@") else {name}
    return found


def _members(name: str) -> list[str]:
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return [line for line in lines if line and not line.startswith("#")]


def allowed_syscalls(values: dict[str, list[str]]) -> list[str]:
    allowed: set[str] = set()
    for line in values["SystemCallFilter"]:
        if line.startswith("~"):
            allowed -= syscalls(line[1:].split())
        else:
            allowed |= syscalls(line.split())
    return sorted(allowed)


class Service:
    """One run of the unit. directory has state/ (its StateDirectory), configuration/ (its /etc/relay) and credentials/.

    listeners: sockets handed over, as a socket unit does. watchdog: WatchdogSec in seconds.
    """

    def __init__(
        self,
        image: Image,
        *,
        directory: Path,
        log: Path,
        listeners: Sequence[socket.socket] = (),
        watchdog: float = 30.0,
    ) -> None:
        self._image = image
        self._directory = directory
        self._log = log
        self._listeners = listeners
        self._watchdog = watchdog
        self._values = unit_values(UNIT)
        self._process: subprocess.Popen[bytes] | None = None
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        path = self._directory / "notify"
        path.unlink(missing_ok=True)
        self._notices.bind(str(path))
        path.chmod(0o777)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", *NAMESPACES, "--fork", "/bin/bash", "-c", self._script()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno() for listener in self._listeners],
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notices.close()
        if self._process is not None and self._process.poll() is None:
            os.kill(self.main_process, signal.SIGKILL)
            self._process.wait()

    def _script(self) -> str:
        root = str(self._image.root)
        inside = {"state": STATE, "configuration": CONFIGURATION, "credentials": CREDENTIALS, "notify": NOTIFY}
        (self._image.root / "confine.py").write_bytes(CONFINE.read_bytes())
        lines = ["set -e", f"mkdir -p {root}{CREDENTIALS}", f"touch {root}{NOTIFY}", f"mount --bind {root} {root}"]
        lines += [f"mount --bind {self._directory / name} {root}{path}" for name, path in inside.items()]
        lines += [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
        lines += [f"mount -t tmpfs tmpfs {root}/tmp"]
        # ProtectSystem=strict, and what else the unit may only read.
        lines += [f"mount -o remount,bind,ro {root}{path}" for path in ("", CONFIGURATION, CREDENTIALS)]
        lines += [f"chroot {root} /usr/bin/python3 -c {shlex.quote(LOOPBACK_UP)}"]
        # systemd passes sockets from descriptor 3 on; they may lie anywhere when we get them.
        high = range(200, 200 + len(self._listeners))
        lines += [f"exec {new}<&{old.fileno()}" for new, old in zip(high, self._listeners, strict=True)]
        lines += [f"exec {number}<&{new} {new}<&-" for number, new in enumerate(high, start=3)]
        lines += [f"umask {self._values['UMask'][0]}"]
        lines += ["exec " + shlex.join(self._command(root))]
        return "\n".join(lines)

    def _command(self, root: str) -> list[str]:
        values = self._values
        capabilities = ["-all", *("+" + name.removeprefix("CAP_").lower() for name in values["AmbientCapabilities"])]
        user = [f"--reuid={values['User'][0]}", f"--regid={values['Group'][0]}", "--clear-groups", "--no-new-privs"]
        power = [f"--{kind}={','.join(capabilities)}" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
        allowed = {"syscalls": allowed_syscalls(values), "families": values["RestrictAddressFamilies"][0].split()}
        environment = [f"{name}={value}" for name, value in self._environment().items()]
        enter = ["chroot", root, "/usr/bin/env", "-i", *environment, "setpriv", *user, *power]
        return [*enter, "/usr/bin/python3", "/confine.py", json.dumps(allowed), *values["ExecStart"][0].split()]

    def _environment(self) -> dict[str, str]:
        """The main process is number 1 in its namespace."""
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "NOTIFY_SOCKET": NOTIFY,
            "CREDENTIALS_DIRECTORY": CREDENTIALS,
            "WATCHDOG_PID": "1",
            "WATCHDOG_USEC": str(int(self._watchdog * 1e6)),
        }
        if self._listeners:
            environment |= {"LISTEN_PID": "1", "LISTEN_FDS": str(len(self._listeners))}
        return environment

    @property
    def main_process(self) -> int:
        assert self._process is not None
        return first_child(self._process.pid)

    def notice(self, *, within: float) -> str:
        """The next thing told to the service manager."""
        self._notices.settimeout(within)
        try:
            return self._notices.recv(4096).decode()
        except TimeoutError:
            raise AssertionError(f"nothing was told for {within} s:\n{self._log.read_text()}") from None

    def wait_for_notice(self, word: str, *, within: float) -> str:
        deadline = time.monotonic() + within
        while word not in (notice := self.notice(within=max(0.01, deadline - time.monotonic()))):
            continue
        return notice

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.main_process, number)

    def wait(self, *, within: float) -> int:
        """The exit code."""
        assert self._process is not None
        return self._process.wait(timeout=within)

    def execute(self, *command: str, user: str = "") -> subprocess.CompletedProcess[bytes]:
        """A command of an operator's on the same system; user "" is the service's."""
        image = dataclasses.replace(self._image, root=Path("/"), user=user or self._values["User"][0])
        done = subprocess.run(
            ["nsenter", f"--target={self.main_process}", *NAMESPACES, "--root", *image.inside(*command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}{done.stdout.decode()}"
        return done
