"""server.channel: questions and answers over a socket between the supervisor and a worker.

Frames are four octets of length and a msgpack array: [number, verb, arguments] asks, [number, null, result] answers,
number 0 tells without an answer. Both ends ask. A handler that raises ends the process that has the bug, not the
peer's question: the TaskGroup that owns it sees the error. When the other end is gone every open question raises
`Gone`; what is told then is lost, as it would be a moment later.
"""

import asyncio
import itertools
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import msgspec

_LENGTH = struct.Struct("!I")

Handler = Callable[[str, Sequence[Any]], Awaitable[Any]]


class Gone(ConnectionError):
    """The other process has ended."""


class Channel(asyncio.Protocol):
    """`handler(verb, arguments)` answers what the other end asks. `ended` is set when it is gone."""

    def __init__(self, handler: Handler, tasks: asyncio.TaskGroup) -> None:
        self.ended = asyncio.Event()
        self._handler = handler
        self._tasks = tasks
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """Raises Gone."""
        if self.ended.is_set():
            raise Gone(verb)
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        self._write([number, verb, arguments])
        try:
            return await answer
        finally:
            self._open.pop(number, None)

    def tell(self, verb: str, *arguments: Any) -> None:
        if not self.ended.is_set():
            self._write([0, verb, arguments])

    def close(self) -> None:
        """After what was written is on its way."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by inheritance

    def connection_lost(self, _error: Exception | None) -> None:
        self.ended.set()
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(Gone("the other process has ended"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            self._frame(*msgspec.msgpack.decode(frame))

    def _frame(self, number: int, verb: str | None, content: Any) -> None:
        if verb is not None:
            self._tasks.create_task(self._answer(number, verb, content))
            return
        answer = self._open.get(number)
        if answer is not None and not answer.done():
            answer.set_result(content)

    async def _answer(self, number: int, verb: str, arguments: Sequence[Any]) -> None:
        result = await self._handler(verb, arguments)
        if number and not self.ended.is_set():
            self._write([number, None, result])

    def _write(self, frame: list[Any]) -> None:
        if self._transport is None:
            raise Gone("not connected")
        data = msgspec.msgpack.encode(frame)
        self._transport.write(_LENGTH.pack(len(data)) + data)
