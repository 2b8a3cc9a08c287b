"""cli.invocation: what every command begins with: the configuration, the spool and the right to open it.

As root the process becomes the spool's owner, for good, before it opens anything below the spool: a file that a command
makes must be the server's to write, and a link somebody put there must not be followed with root's rights.
"""

import getpass
import os
import pwd
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from relay.errors import PermissionRefused, Unavailable

if TYPE_CHECKING:
    from relay.config.models import Config
    from relay.registry.store import Registry
    from relay.registry.suppressions import Suppressions

T = TypeVar("T")

DEFAULT_CONFIG = Path("/etc/relay/relay.toml")


@dataclass
class Invocation:
    """One command's surroundings. now: POSIX seconds. operator: who gave the command, for the journal."""

    config_path: Path
    now: Callable[[], float] = time.time
    operator: str = field(default_factory=lambda: os.environ.get("SUDO_USER") or _user_name())

    @cached_property
    def config(self) -> "Config":
        """Raises ConfigError."""
        from relay.config.load import load

        return load(self.config_path)

    @cached_property
    def spool(self) -> Path:
        """The spool's directory, once this process may use it. Raises Unavailable, PermissionRefused."""
        directory = self.config.server.spool
        become_owner(directory)
        return directory

    @asynccontextmanager
    async def registry(self) -> "AsyncIterator[Registry]":
        from relay.registry.store import Registry

        registry = await Registry.open(self.spool, now=self.now)
        try:
            yield registry
        finally:
            await registry.close()

    @asynccontextmanager
    async def suppressions(self) -> "AsyncIterator[Suppressions]":
        from relay.registry.suppressions import Suppressions

        suppressions = await Suppressions.open(self.spool, now=self.now)
        try:
            yield suppressions
        finally:
            await suppressions.close()


def of(context: typer.Context) -> Invocation:
    """The invocation that the global options made."""
    invocation: Invocation = context.obj
    return invocation


def run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(work)


def become_owner(directory: Path) -> None:
    """Give up root for the directory's owner; nothing happens where this process is the owner already."""
    try:
        status = directory.stat()
    except FileNotFoundError:
        raise Unavailable(
            f"the spool {directory} does not exist",
            remedy="Start the server once, which makes it, or name the right configuration with --config.",
        ) from None
    except OSError as error:
        raise PermissionRefused(
            f"the spool {directory} cannot be reached: {error.strerror}", remedy="Run the command as root."
        ) from None
    if os.geteuid() == status.st_uid:
        return
    if os.geteuid() != 0:
        owner = name_of(status.st_uid)
        raise PermissionRefused(
            f"the spool {directory} belongs to {owner}", remedy=f"Run the command as root or as {owner}."
        )
    _become(status.st_uid, status.st_gid)


def _become(uid: int, gid: int) -> None:
    os.setgroups(_groups(uid, gid))
    os.setgid(gid)
    os.setuid(uid)
    os.umask(0o077)


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
