"""Questions and answers between two processes, over a real socket pair."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from relay.server.channel import Channel, Gone, Handler


async def nobody(verb: str, arguments: Sequence[Any]) -> Any:
    raise AssertionError(f"unexpected {verb} {arguments}")


async def connected(end: socket.socket, handler: Handler, tasks: asyncio.TaskGroup) -> Channel:
    end.settimeout(0)
    _, channel = await asyncio.get_running_loop().create_unix_connection(lambda: Channel(handler, tasks), sock=end)
    return channel


@asynccontextmanager
async def two(first: Handler, second: Handler) -> AsyncIterator[tuple[Channel, Channel]]:
    """Both ends, each with what answers there."""
    ends = socket.socketpair()
    async with asyncio.TaskGroup() as tasks:
        channels = await connected(ends[0], first, tasks), await connected(ends[1], second, tasks)
        yield channels
        for channel in channels:
            channel.close()
        await asyncio.gather(*(channel.ended.wait() for channel in channels))


@asynccontextmanager
async def against_a_socket(handler: Handler = nobody) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """One end, and the other as a bare socket."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    with theirs:
        async with asyncio.TaskGroup() as tasks:
            channel = await connected(ours, handler, tasks)
            yield channel, theirs
            channel.close()
            await channel.ended.wait()


def frame(*content: Any) -> bytes:
    octets = msgspec.msgpack.encode(content)
    return struct.pack("!I", len(octets)) + octets


async def read_frame(end: socket.socket) -> Any:
    loop = asyncio.get_running_loop()
    octets = b""
    while len(octets) < 4 or len(octets) < 4 + int.from_bytes(octets[:4], "big"):
        octets += await loop.sock_recv(end, 65536)
    return msgspec.msgpack.decode(octets[4:])


async def test_both_ends_ask_and_are_answered() -> None:
    async def double(verb: str, arguments: Sequence[Any]) -> Any:
        return [verb, *arguments, *arguments]

    async with two(double, double) as (first, second):
        assert await first.ask("a", 1) == ["a", 1, 1]
        assert await second.ask("b", "x", None) == ["b", "x", None, "x", None]


async def test_answers_find_their_questions_in_whatever_order_they_come() -> None:
    gates = {"slow": asyncio.Event(), "fast": asyncio.Event()}

    async def wait(verb: str, _arguments: Sequence[Any]) -> Any:
        await gates[verb].wait()
        return verb

    async with two(nobody, wait) as (first, _):
        slow, fast = asyncio.create_task(first.ask("slow")), asyncio.create_task(first.ask("fast"))
        gates["fast"].set()
        assert await fast == "fast"
        assert not slow.done()
        gates["slow"].set()
        assert await slow == "slow"


async def test_what_is_told_comes_in_order_and_is_not_answered() -> None:
    heard: list[Any] = []
    everything = asyncio.Event()

    async def hear(verb: str, arguments: Sequence[Any]) -> Any:
        heard.append((verb, list(arguments)))
        if verb == "last":
            everything.set()

    async with two(nobody, hear) as (first, _):
        for number in range(100):
            first.tell("number", number)
        first.tell("last")
        await everything.wait()
    assert heard == [*(("number", [number]) for number in range(100)), ("last", [])]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
async def test_frames_may_be_split_and_joined_anywhere(size: int) -> None:
    heard: list[Any] = []
    everything = asyncio.Event()

    async def hear(verb: str, arguments: Sequence[Any]) -> Any:
        heard.append(arguments[0])
        if verb == "last":
            everything.set()

    octets = frame(0, "first", ["x" * 100]) + frame(0, "next", [b"\0\xff" * 50]) + frame(0, "last", [{"a": 1.5}])
    async with against_a_socket(hear) as (_, end):
        for at in range(0, len(octets), size):
            await asyncio.get_running_loop().sock_sendall(end, octets[at : at + size])
        await everything.wait()
    assert heard == ["x" * 100, b"\0\xff" * 50, {"a": 1.5}]


async def test_a_frame_larger_than_the_sockets_buffers_arrives() -> None:
    async def measure(_verb: str, arguments: Sequence[Any]) -> Any:
        return len(arguments[0])

    async with two(nobody, measure) as (first, _):
        assert await first.ask("measure", b"x" * 5_000_000) == 5_000_000


async def test_open_questions_end_when_the_other_process_does() -> None:
    async with against_a_socket() as (channel, end):
        asked = asyncio.create_task(channel.ask("anything"))
        await read_frame(end)
        end.close()
        with pytest.raises(Gone):
            await asked
        await channel.ended.wait()
        with pytest.raises(Gone):
            await channel.ask("again")
        channel.tell("nobody hears this")


async def test_an_answer_to_a_question_nobody_waits_for_any_more_is_dropped() -> None:
    async with against_a_socket() as (channel, end):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.ask("slow"), 0.01)
        number = (await read_frame(end))[0]
        await asyncio.get_running_loop().sock_sendall(end, frame(number, None, "late"))
        asked = asyncio.create_task(channel.ask("next"))
        next_number = (await read_frame(end))[0]
        await asyncio.get_running_loop().sock_sendall(end, frame(next_number, None, "in time"))
        assert await asked == "in time"


async def test_a_bug_in_a_handler_ends_the_process_that_has_it() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012  it ends the TaskGroup, whatever runs in it
            async with asyncio.TaskGroup() as tasks:
                channel = await connected(ours, nobody, tasks)
                theirs.sendall(frame(0, "surprise", []))
                await asyncio.Event().wait()
        channel.close()
        await channel.ended.wait()
    assert "unexpected surprise" in str(raised.value.exceptions[0])
