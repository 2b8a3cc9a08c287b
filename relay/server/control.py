"""server.control: operators' commands to the process that owns a shard.

A stream socket `shard-N/control.sock`, 0600, beside the lock that proves ownership. One JSON line asks, {"verb": ...,
"parameters": {...}}, one answers, {"result": {...}} or {"error": ..., "remedy": ..., "exit_code": ...}; then the
connection ends. The peer's uid is checked as well (SO_PEERCRED): root and the owner may. A path longer than a socket
address can be (108 octets) is reached through /proc/self/fd.

What a command asked for is done whether or not the command waits for the answer.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from relay.errors import PermissionRefused, RelayError, SpoolError, Unavailable
from relay.log import Log
from relay.server.carried import as_values, from_values

SOCKET = "control.sock"
LINE_LIMIT = 256 * 1024 * 1024
ANSWER_WITHIN = 600.0  # an order over a million recipients; a worker that hangs is ended before by its supervisor
FINISH_WITHIN = 5.0

Verb = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


async def call(
    spool_directory: Path, shard: int, verb: str, parameters: dict[str, Any], *, within: float = ANSWER_WITHIN
) -> dict[str, Any]:
    """Ask the owner of a shard. Unavailable when nobody owns it; the owner's own error as it raised it."""
    directory = spool_directory / f"shard-{shard}"
    try:
        reader, writer = await _connect(directory)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise Unavailable(
            f"no server owns {directory}", remedy="start one, or let the command open the spool itself"
        ) from None
    try:
        writer.write(msgspec.json.encode({"verb": verb, "parameters": parameters}) + b"\n")
        await writer.drain()
        async with asyncio.timeout(within):
            line = await reader.readline()
    except (TimeoutError, ConnectionError):
        raise Unavailable(
            f"the server that owns {directory} does not answer", remedy="see `relay status` and its log"
        ) from None
    finally:
        writer.close()
    return _result(line, directory)


def _result(line: bytes, directory: Path) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise Unavailable(f"the server that owns {directory} ended before it answered", remedy="ask again")
    answer: dict[str, Any] = msgspec.json.decode(line)
    if "error" in answer:
        raise from_values(answer)
    result: dict[str, Any] = answer["result"]
    return result


async def _connect(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{SOCKET}", limit=LINE_LIMIT)
        finally:
            os.close(descriptor)
    except PermissionError:
        raise PermissionRefused(
            f"{directory / SOCKET} may not be opened", remedy="run the command as root or as the relay's user"
        ) from None


class ControlServer:
    """Listens in a shard's directory for as long as the shard is owned. `tasks` owns the commands under way, which
    have `finish_within` seconds when it closes.
    """

    def __init__(
        self,
        directory: Path,
        answer: Verb,
        *,
        tasks: asyncio.TaskGroup,
        log: Log,
        finish_within: float = FINISH_WITHIN,
    ) -> None:
        self._directory = directory
        self._answer = answer
        self._tasks = tasks
        self._log = log
        self._finish_within = finish_within
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises SpoolError."""
        self._server = await asyncio.start_unix_server(self._accept, sock=_bind(self._directory), limit=LINE_LIMIT)

    async def close(self) -> None:
        """Take no more; those under way are finished, or given up."""
        if self._server is None:
            return
        self._server.close()
        (self._directory / SOCKET).unlink(missing_ok=True)  # ours still: the lock is held
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=self._finish_within)
            for task in late:
                task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._tasks.create_task(self._serve(reader, writer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._reply(writer.get_extra_info("socket"), reader)
            if answer:
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except ConnectionError:
            return  # nobody waits for the answer
        finally:
            writer.close()

    async def _reply(self, peer: socket.socket, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        try:
            _refuse_strangers(peer)
            line = await reader.readline()
            if not line.endswith(b"\n"):
                return None  # it left before it had asked
            question: dict[str, Any] = msgspec.json.decode(line)
            return {"result": await self._answer(question["verb"], question["parameters"])}
        except ConnectionError:
            raise
        except RelayError as error:
            return as_values(error)
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
            return {
                "error": f"the question cannot be understood: {error!r}",
                "remedy": "use the same version of relay",
                "exit_code": os.EX_PROTOCOL,
            }
        except Exception as error:  # noqa: BLE001 - a bug met by one command must not end the worker
            self._log.exception("command broke", error)
            return {
                "error": f"the server met an error of its own: {type(error).__name__}",
                "remedy": "its log has the details",
                "exit_code": os.EX_SOFTWARE,
            }


def _bind(directory: Path) -> socket.socket:
    path = directory / SOCKET
    descriptor = -1
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)  # a dead owner's; ours is the lock
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchmod(listener.fileno(), 0o600)  # before bind: the file is never wider
        listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
        path.chmod(0o600)
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise SpoolError(
            f"{path} cannot be made: {error.strerror}", remedy="the spool must be writable by the relay's user"
        ) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return listener


def _refuse_strangers(peer: socket.socket) -> None:
    _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if uid not in (0, os.geteuid()):
        raise PermissionRefused(
            f"uid {uid} may not give commands to this relay", remedy="run the command as root or as the relay's user"
        )
