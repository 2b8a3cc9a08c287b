"""log: one valid JSON line per fact, whatever the values, the reader and the disk do."""

import asyncio
import ipaddress
import json
import logging
import os
import select
import subprocess
import sys
import timeit
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import ConfigError
from relay.log import Level, Log, Output, route_standard_logging
from relay.log.line import encode
from relay.log.log import FLOOD_LINES, FLOOD_SECONDS
from relay.log.output import KEPT

NOW = 1795192744.75


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Credential:
    name: str
    secret: str


class Colour(StrEnum):
    RED = "red"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.log"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(path: Path, clock: Clock) -> Log:
    return Log(Output(path), now=clock, worker=1)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_fact_is_one_line(log: Log, path: Path) -> None:
    log.info("message accepted", id="0123456789abcde", recipients=3)
    assert path.read_text() == (
        '{"time":"2026-11-20T16:39:04.750Z","level":"info","event":"message accepted","worker":1,'
        '"id":"0123456789abcde","recipients":3}\n'
    )


def test_lines_below_the_level_are_not_written_until_it_changes(log: Log, path: Path) -> None:
    bound = log.bind(shard=2)
    log.debug("a")
    bound.set_level(Level.DEBUG)
    log.debug("b")
    log.set_level(Level.named("error"))
    log.info("c")
    bound.warning("d")
    bound.error("e")
    assert [(line["event"], line.get("shard")) for line in lines(path)] == [("b", None), ("e", 2)]


# --- values


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param("plain", "plain", id="text"),
        pytest.param(3, 3, id="a number"),
        pytest.param(2**200, 2**200, id="a big number"),
        pytest.param(10**5000, "<int>", id="a number too big to write"),
        pytest.param(float("nan"), None, id="not a number"),
        pytest.param(float("inf"), None, id="infinity"),
        pytest.param(True, True, id="true"),
        pytest.param(None, None, id="nothing"),
        pytest.param(Colour.RED, "red", id="a word of an enumeration"),
        pytest.param(Path("/var/x"), "/var/x", id="a path"),
        pytest.param(ipaddress.ip_address("::1"), "::1", id="an address"),
        pytest.param(["a", 1, None], ["a", 1, None], id="a list"),
        pytest.param(("a",), ["a"], id="a tuple"),
        pytest.param(list(range(1000)), list(range(20)), id="a long list is cut"),
        pytest.param("é", "é", id="what is not ASCII"),
        pytest.param("\x1b[31mred\x07\r\n\0", "\x1b[31mred\x07\r\n\0", id="control characters, by JSON"),
        pytest.param("\x9b31m", "\\u009b31m", id="the eight-bit escape sequence"),
        pytest.param("\x7f", "\\u007f", id="DEL"),
        pytest.param("a\u202eb", "a\\u202eb", id="a mark that reverses text"),
        pytest.param("a\u2028b", "a\\u2028b", id="a line separator"),
        pytest.param("a\udcffb", "a\\udcffb", id="half a character"),
        pytest.param("x" * 5000, "x" * 1024 + "... (5000 characters)", id="long text is cut"),
        pytest.param(b"secret", "<bytes>", id="octets"),
        pytest.param(Credential("shop", "hunter2"), "<Credential>", id="an object"),
        pytest.param([Credential("shop", "hunter2"), b"x"], ["<Credential>", "<bytes>"], id="objects in a list"),
        pytest.param({"secret": "hunter2"}, "<dict>", id="a dictionary"),
        pytest.param(ValueError("hunter2"), "<ValueError>", id="an exception"),
    ],
)
def test_a_value_is_written_so(log: Log, path: Path, value: Any, written: Any) -> None:
    log.info("event", value=value)
    assert lines(path)[0]["value"] == written


@pytest.mark.parametrize("octets", [b"\x1b", b"\x9b", b"\r", b"\xe2\x80\xae"])
def test_nothing_that_a_terminal_acts_on_reaches_the_file(log: Log, path: Path, octets: bytes) -> None:
    log.info("event\x9b", value=octets.decode("utf-8", "replace") if octets != b"\x9b" else "\x9b")
    assert octets not in path.read_bytes().replace(b"\xc2\x9b", b"\x9b")


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), JSON_LIKE, max_size=4))
def test_any_values_make_one_line_of_json(fields: dict[str, Any]) -> None:
    line = encode(fields)
    assert line.count(b"\n") == 1
    assert json.loads(line).keys() == fields.keys()


# --- floods


def test_a_flood_of_one_error_is_thinned_and_counted(log: Log, path: Path, clock: Clock) -> None:
    for _ in range(500):
        log.error("spool is full")
        log.info("message accepted")
    log.warning("another")
    clock.now += FLOOD_SECONDS
    log.error("spool is full")
    found = lines(path)
    assert sum(line["event"] == "spool is full" for line in found) == FLOOD_LINES + 1
    assert found[-1]["left_out"] == 500 - FLOOD_LINES
    assert sum(line["event"] == "message accepted" for line in found) == 500
    assert sum(line["event"] == "another" for line in found) == 1


def test_a_clock_set_back_does_not_silence_errors(log: Log, path: Path, clock: Clock) -> None:
    for _ in range(FLOOD_LINES + 5):
        log.error("x")
    clock.now -= 86400
    log.error("x")
    assert len(lines(path)) == FLOOD_LINES + 1


def test_floods_are_watched_within_bounds(log: Log) -> None:
    for number in range(5000):
        event = f"event {number}"
        log.warning(event)
    assert len(log._writer._floods) <= 1000


# --- exceptions and foreign logging


def test_an_exception_is_told_with_places_and_without_values(log: Log, path: Path) -> None:
    secret = "hunter2"  # noqa: F841 - it must not show
    try:
        json.loads("{")
    except ValueError as error:
        log.exception("reading broke", error, id="x")
    line = lines(path)[0]
    assert (line["level"], line["id"]) == ("error", "x")
    assert line["error"].startswith("JSONDecodeError: ")
    assert any("test_log.py:" in place for place in line["traceback"])
    assert "hunter2" not in path.read_text()


@pytest.fixture
def routed(log: Log) -> Iterator[Log]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    route_standard_logging(log)
    yield log
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, logging.raiseExceptions = before


def test_libraries_warnings_and_errors_become_lines(routed: Log, path: Path) -> None:
    library = logging.getLogger("some.library")
    library.info("AUTH PLAIN c2VjcmV0")
    library.warning("slow: %d ms", 30)
    library.error("wrong %d", "arguments")
    library.error("with more", extra={"error": "disk", "secret": b"x", "event": "y"})
    found = lines(path)
    assert {line["event"] for line in found} == {"message of a library"}
    assert [(line["level"], line["text"]) for line in found] == [
        ("warning", "slow: 30 ms"),
        ("error", "wrong %d"),
        ("error", "with more"),
    ]
    assert (found[2]["error"], found[2]["secret"]) == ("disk", "<bytes>")
    assert found[0]["logger"] == "some.library"


def test_an_exception_a_library_logs_keeps_its_places(routed: Log, path: Path) -> None:
    try:
        json.loads("{")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    line = lines(path)[0]
    assert line["text"] == "Task exception was never retrieved"
    assert line["traceback"]


def test_python_warnings_become_lines(routed: Log, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old and slow", DeprecationWarning, stacklevel=1)
    assert "old and slow" in lines(path)[0]["text"]


# --- output


async def test_lines_of_one_turn_are_written_together_and_errors_at_once(log: Log, path: Path) -> None:
    log.info("a")
    log.info("b")
    assert lines(path) == []
    log.error("c")
    assert [line["event"] for line in lines(path)] == ["a", "b", "c"]
    log.info("d")
    await asyncio.sleep(0)
    assert [line["event"] for line in lines(path)] == ["a", "b", "c", "d"]


def test_lines_given_to_a_loop_that_ended_are_not_lost(log: Log, path: Path) -> None:
    async def tell() -> None:
        log.info("inside")
        asyncio.get_running_loop().stop()

    loop = asyncio.new_event_loop()
    telling = loop.create_task(tell())
    loop.run_forever()
    assert telling.done()
    loop.close()
    log.info("outside")
    assert [line["event"] for line in lines(path)] == ["inside", "outside"]


def test_after_logrotate_lines_go_to_the_new_file(log: Log, path: Path) -> None:
    log.info("a")
    path.rename(path.with_suffix(".1"))
    log.info("b")
    log.output.reopen()
    log.info("c")
    assert [line["event"] for line in lines(path.with_suffix(".1"))] == ["a", "b"]
    assert [line["event"] for line in lines(path)] == ["c"]


def test_when_it_cannot_be_reopened_the_old_file_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    log = Log(Output(directory / "relay.log"), now=Clock())
    directory.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"relay\.log cannot be opened: No such file"):
        log.output.reopen()
    log.info("a")
    assert [line["event"] for line in lines(tmp_path / "moved/relay.log")] == ["a"]


def test_a_file_that_cannot_be_opened_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened") as refusal:
        Output(tmp_path / "absent/relay.log")
    assert "[log] file" in refusal.value.remedy


def test_the_file_is_not_readable_by_others(log: Log, path: Path) -> None:
    log.info("a")
    assert path.stat().st_mode & 0o007 == 0


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A pipe's path and its reading end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def read_all(reader: int) -> bytes:
    octets = b""
    while select.select([reader], [], [], 0)[0]:
        octets += os.read(reader, 65536)
    return octets


async def test_a_reader_that_stops_costs_lines_but_never_time(fifo: tuple[Path, int]) -> None:
    path, reader = fifo
    log = Log(Output(path), now=Clock())
    for number in range(6000):
        log.info("fact", number=number, padding="x" * 300)
    log.error("an error is not waited for either")
    assert log.output._size <= KEPT
    received = b""
    async with asyncio.timeout(20):
        while b"waited for" not in received:
            received += read_all(reader)
            await asyncio.sleep(0.001)
        log.info("reader is back")
        while b"reader is back" not in received:
            received += read_all(reader)
            await asyncio.sleep(0.001)
    found = [json.loads(line) for line in received.splitlines()]
    lost = next(line["lines"] for line in found if line["event"] == "log lines lost")
    assert sum(line["event"] == "fact" for line in found) + lost == 6000


def test_a_closed_pipe_does_not_raise(tmp_path: Path) -> None:
    program = (
        "import os, time; from relay.log import Log, Output\n"
        "log = Log(Output(), now=time.time)\n"
        "os.close(2)\n"
        "for _ in range(10): log.error('nobody hears this')\n"
        "os.write(1, b'alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=30)
    assert done.stdout == b"alive"


def test_a_full_disk_loses_nothing_that_fits_in_memory() -> None:
    log = Log(Output(Path("/dev/full")), now=Clock())
    log.info("a")
    log.error("b")
    assert [json.loads(line)["event"] for line in log.output._lines] == ["a", "b"]


def test_a_child_process_does_not_repeat_its_parents_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    program = (
        "import asyncio, os, sys, time; from pathlib import Path; from relay.log import Log, Output\n"
        "log = Log(Output(Path(sys.argv[1])), now=time.time)\n"
        "async def main():\n"
        "    log.info('before the fork')\n"
        "    if os.fork() == 0:\n"
        "        log.error('in the child'); os._exit(0)\n"
        "    os.wait()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=30)
    assert sorted(line["event"] for line in lines(path)) == ["before the fork", "in the child"]


def test_a_line_is_cheap(log: Log) -> None:
    async def tell() -> None:
        for _ in range(2000):
            log.info("message accepted", id="0123456789abcde", credential="shop", recipients=3, size=4000)

    seconds = min(timeit.repeat(lambda: asyncio.run(tell()), number=1, repeat=3)) / 2000
    assert seconds < 50e-6  # measured 4 µs; slack for a busy machine
