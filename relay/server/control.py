"""server.control: operators' commands to the process that owns a shard.

A stream socket `shard-N/control.sock`, 0600, beside the lock that proves ownership. One JSON line asks, {"verb": ...,
"parameters": {...}}, one answers, {"result": {...}} or {"error": ..., "remedy": ..., "exit_code": ...}; then the
connection ends. The peer's uid is checked as well (SO_PEERCRED): root and the owner may. A path longer than a socket
address can be (108 octets) is reached through /proc/self/fd.
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

SOCKET = "control.sock"
LINE_LIMIT = 64 * 1024 * 1024
ANSWER_WITHIN = 60.0

Verb = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


async def call(spool_directory: Path, shard: int, verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
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
        async with asyncio.timeout(ANSWER_WITHIN):
            line = await reader.readline()
    except (TimeoutError, ConnectionError):
        raise Unavailable(
            f"the server that owns {directory} does not answer", remedy="see `relay status` and its log"
        ) from None
    finally:
        writer.close()
    return _result(line, directory)


def _result(line: bytes, directory: Path) -> dict[str, Any]:
    if not line:
        raise Unavailable(f"the server that owns {directory} ended before it answered", remedy="ask again")
    answer: dict[str, Any] = msgspec.json.decode(line)
    if "error" in answer:
        error = RelayError(answer["error"], remedy=answer["remedy"])
        error.exit_code = answer["exit_code"]
        raise error
    result: dict[str, Any] = answer["result"]
    return result


async def _connect(directory: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{SOCKET}", limit=LINE_LIMIT)
    except PermissionError:
        raise PermissionRefused(
            f"{directory / SOCKET} may not be opened", remedy="run the command as root or as the relay's user"
        ) from None
    finally:
        os.close(descriptor)


class ControlServer:
    """Listens in a shard's directory for as long as the shard is owned."""

    def __init__(self, directory: Path, answer: Verb) -> None:
        self._directory = directory
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=_bind(self._directory), limit=LINE_LIMIT)

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        (self._directory / SOCKET).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _may_command(writer.get_extra_info("socket")):
                line = await reader.readline()
                if line:
                    writer.write(await self._reply(line) + b"\n")
                    await writer.drain()
        except ConnectionError:
            return  # the command was interrupted; what it asked for is done all the same
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> bytes:
        try:
            question: dict[str, Any] = msgspec.json.decode(line)
            return msgspec.json.encode({"result": await self._answer(question["verb"], question["parameters"])})
        except RelayError as error:
            return msgspec.json.encode({"error": error.text, "remedy": error.remedy, "exit_code": error.exit_code})
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            answer = {
                "error": f"the question cannot be understood: {error!r}",
                "remedy": "use the same version of relay",
                "exit_code": os.EX_PROTOCOL,
            }
            return msgspec.json.encode(answer)


def _bind(directory: Path) -> socket.socket:
    path = directory / SOCKET
    path.unlink(missing_ok=True)  # a dead owner's; ours is the lock
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
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
        os.close(descriptor)
    return listener


def _may_command(peer: socket.socket) -> bool:
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.geteuid())
