"""Operators' commands: over a real socket in a shard's directory."""

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.errors import NotFound, PermissionRefused, RelayError, SpoolError, Unavailable
from relay.server.control import SOCKET, ControlServer, Verb, call
from tests.server.logbook import Logbook
from tests.server.other_user import NOBODY, as_nobody, directory_of, needs_root


async def echo(verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"verb": verb, **parameters}


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    directory = tmp_path / "spool"
    (directory / "shard-0").mkdir(parents=True)
    return directory


@asynccontextmanager
async def serving(
    spool: Path, logbook: Logbook, answer: Verb = echo, *, finish_within: float = 5.0
) -> AsyncIterator[ControlServer]:
    async with asyncio.TaskGroup() as tasks:
        directory = spool / "shard-0"
        server = ControlServer(directory, answer, tasks=tasks, log=logbook.log, finish_within=finish_within)
        await server.start()
        try:
            yield server
        finally:  # uvloop waits without end for a server that a test which failed left open
            await server.close()


async def test_a_verb_is_answered_with_what_the_owner_says(spool: Path, logbook: Logbook) -> None:
    async with serving(spool, logbook):
        assert await call(spool, 0, "hold", {"by": "ops", "ids": ["a", "ä"]}) == {
            "verb": "hold",
            "by": "ops",
            "ids": ["a", "ä"],
        }


async def test_the_socket_is_the_owners_alone_and_goes_with_the_server(spool: Path, logbook: Logbook) -> None:
    async with serving(spool, logbook):
        assert stat.S_IMODE((spool / "shard-0" / SOCKET).stat().st_mode) == 0o600
    assert not (spool / "shard-0" / SOCKET).exists()


async def test_a_dead_owners_socket_is_replaced(spool: Path, logbook: Logbook) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(spool / "shard-0" / SOCKET))
    with pytest.raises(Unavailable, match="no server owns"):
        await call(spool, 0, "status", {})
    async with serving(spool, logbook):
        assert await call(spool, 0, "status", {}) == {"verb": "status"}


async def test_nobody_is_told_from_somebody(spool: Path) -> None:
    for shard in (0, 7):
        with pytest.raises(Unavailable, match=f"no server owns .*shard-{shard}"):
            await call(spool, shard, "status", {})


async def test_a_path_longer_than_a_socket_address_serves(tmp_path: Path, logbook: Logbook) -> None:
    spool = tmp_path / ("d" * 200) / ("e" * 200)
    (spool / "shard-0").mkdir(parents=True)
    async with serving(spool, logbook):
        assert await call(spool, 0, "status", {}) == {"verb": "status"}
    assert not (spool / "shard-0" / SOCKET).exists()


async def test_a_directory_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path, logbook: Logbook) -> None:
    async with asyncio.TaskGroup() as tasks:
        server = ControlServer(tmp_path / "gone", echo, tasks=tasks, log=logbook.log)
        with pytest.raises(SpoolError, match="cannot be made: No such file or directory"):
            await server.start()
        await server.close()


async def test_an_error_of_the_owners_is_raised_as_it_was(spool: Path, logbook: Logbook) -> None:
    async def refuse(_verb: str, _parameters: dict[str, Any]) -> dict[str, Any]:
        raise NotFound("there is no such message", remedy="the nearest is ...")

    async with serving(spool, logbook, refuse):
        with pytest.raises(RelayError) as raised:
            await call(spool, 0, "hold", {})
    error = raised.value
    assert (error.text, error.remedy, error.exit_code) == (
        "there is no such message",
        "the nearest is ...",
        NotFound.exit_code,
    )


async def test_a_bug_met_by_a_command_is_logged_and_ends_nothing_else(spool: Path, logbook: Logbook) -> None:
    async def break_down(verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if verb == "break":
            raise ZeroDivisionError
        return parameters

    async with serving(spool, logbook, break_down):
        with pytest.raises(RelayError, match="an error of its own: ZeroDivisionError"):
            await call(spool, 0, "break", {})
        assert await call(spool, 0, "status", {"a": 1}) == {"a": 1}
    (line,) = logbook.lines("command broke")
    assert "break_down" in line["traceback"][-1]


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(b"what?\n", id="no JSON"),
        pytest.param(b"[1]\n", id="no object"),
        pytest.param(b'{"parameters": {}}\n', id="no verb"),
        pytest.param(b"\n", id="an empty line"),
    ],
)
async def test_a_question_of_another_version_is_answered_in_words(
    spool: Path, logbook: Logbook, question: bytes
) -> None:
    async with serving(spool, logbook):
        reader, writer = await asyncio.open_unix_connection(str(spool / "shard-0" / SOCKET))
        writer.write(question)
        assert b"cannot be understood" in await reader.readline()
        writer.close()


async def test_two_commands_at_once_do_not_wait_for_each_other(spool: Path, logbook: Logbook) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def wait(verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if verb == "slow":
            begun.set()
            await gate.wait()
        return parameters

    async with serving(spool, logbook, wait):
        slow = asyncio.create_task(call(spool, 0, "slow", {"n": 1}))
        await begun.wait()
        assert await call(spool, 0, "fast", {"n": 2}) == {"n": 2}
        assert not slow.done()
        gate.set()
        assert await slow == {"n": 1}


async def test_what_was_asked_is_done_though_nobody_waits_for_the_answer(spool: Path, logbook: Logbook) -> None:
    begun, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(_verb: str, _parameters: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        await gate.wait()
        done.set()
        return {"large": "x" * 1_000_000}

    async with serving(spool, logbook, work):
        asked = asyncio.create_task(call(spool, 0, "cancel", {}))
        await begun.wait()
        asked.cancel()
        await asyncio.wait([asked])
        gate.set()
        await asyncio.wait_for(done.wait(), 5)


async def test_closing_finishes_what_is_under_way_and_takes_no_more(spool: Path, logbook: Logbook) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def wait(_verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        await gate.wait()
        return parameters

    async with serving(spool, logbook, wait) as server:
        asked = asyncio.create_task(call(spool, 0, "slow", {"n": 1}))
        await begun.wait()
        closing = asyncio.create_task(server.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="no server owns"):
            await call(spool, 0, "late", {})
        gate.set()
        assert await asked == {"n": 1}
        await closing


async def test_closing_gives_up_what_does_not_end(spool: Path, logbook: Logbook) -> None:
    begun = asyncio.Event()

    async def hang(_verb: str, _parameters: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    async with serving(spool, logbook, hang, finish_within=0.05):
        asked = asyncio.create_task(call(spool, 0, "hang", {}))
        await begun.wait()
    with pytest.raises(Unavailable, match="ended before it answered"):
        await asked


@asynccontextmanager
async def owner_that_says(spool: Path, answer: bytes) -> AsyncIterator[None]:
    """... and is gone then."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(spool / "shard-0" / SOCKET))
    yield
    server.close()


@pytest.mark.parametrize("answer", [b"", b'{"result": {"chan'], ids=["before it answers", "in the middle"])
async def test_a_server_gone_while_it_answers_is_told(spool: Path, answer: bytes) -> None:
    async with owner_that_says(spool, answer):
        with pytest.raises(Unavailable, match="ended before it answered"):
            await call(spool, 0, "status", {})


async def test_a_server_that_does_not_answer_is_told(spool: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(spool / "shard-0" / SOCKET))
        silent.listen()
        with pytest.raises(Unavailable, match="does not answer"):
            await call(spool, 0, "status", {}, within=0.05)


@needs_root
async def test_another_users_command_does_not_reach_the_socket(logbook: Logbook) -> None:
    with directory_of(0) as spool:
        (spool / "shard-0").mkdir()
        for entered in (spool, spool / "shard-0"):
            entered.chmod(0o755)  # whatever the umask is
        async with serving(spool, logbook):
            with as_nobody(), pytest.raises(PermissionRefused, match="may not be opened"):
                await call(spool, 0, "status", {})


@needs_root
async def test_another_user_is_refused_by_uid_where_the_socket_lets_him_in(logbook: Logbook) -> None:
    with directory_of(0) as spool:
        (spool / "shard-0").mkdir()
        for entered in (spool, spool / "shard-0"):
            entered.chmod(0o755)  # whatever the umask is
        async with serving(spool, logbook):
            (spool / "shard-0" / SOCKET).chmod(0o777)
            with contextlib.ExitStack() as somebody_else, socket.socket(socket.AF_UNIX) as client:
                somebody_else.enter_context(as_nobody())
                client.connect(str(spool / "shard-0" / SOCKET))  # the kernel notes who connects
                somebody_else.close()
                client.settimeout(20)
                answer = await asyncio.to_thread(client.recv, 65536)
    assert f"uid {NOBODY} may not give commands".encode() in answer
