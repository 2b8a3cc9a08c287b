"""What ended a process, for its log and for who began it."""

import os
import subprocess
import sys

import pytest

from relay.errors import RelayError, SpoolError, SpoolLocked
from relay.server.carried import as_values, from_values
from relay.server.ending import told
from tests.server.logbook import Logbook

LOCKED = SpoolLocked("shard-0 belongs to process 7", remedy="Stop that process first.")
BROKEN = SpoolError("the disk is broken")


def raised(error: Exception) -> Exception:
    """With a traceback."""
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        return caught


def test_an_error_of_ours_is_told_with_what_to_do_and_stays_what_it_is(logbook: Logbook) -> None:
    assert told(ExceptionGroup("", [ExceptionGroup("", [LOCKED])]), logbook.log) is LOCKED
    (line,) = logbook.lines("worker cannot run")
    assert (line["error"], line["remedy"]) == (LOCKED.text, LOCKED.remedy)


def test_a_bug_is_told_with_its_places_and_stands_before_what_follows_it(logbook: Logbook) -> None:
    ended = told(ExceptionGroup("", [BROKEN, raised(KeyError("x")), LOCKED]), logbook.log)
    assert ended.text == "relay ended by an error of its own: KeyError: 'x'"
    assert ended.exit_code == os.EX_SOFTWARE
    (line,) = logbook.lines("worker failed")
    assert line["traceback"][0].endswith(" raised")
    assert [line["error"] for line in logbook.lines("worker cannot run")] == [BROKEN.text, LOCKED.text]


def test_a_bare_error_is_told_too(logbook: Logbook) -> None:
    assert told(BROKEN, logbook.log) is BROKEN
    assert "ZeroDivisionError" in told(raised(ZeroDivisionError()), logbook.log).text


@pytest.mark.parametrize("error", [LOCKED, BROKEN, RelayError("ä\n")], ids=["a remedy", "none", "any text"])
def test_an_error_is_carried_as_it_was(error: RelayError) -> None:
    carried = from_values(as_values(error))
    assert (carried.text, carried.remedy, carried.exit_code) == (error.text, error.remedy, error.exit_code)


def test_a_drain_that_does_not_end_is_ended() -> None:
    code = """
import asyncio, time
from pathlib import Path
from relay.log import Log, Output
from relay.server.ending import give_up_after

async def main():
    give_up_after(0.05, Log(Output(), now=time.time))
    await asyncio.Event().wait()

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert ended.returncode == os.EX_TEMPFAIL
    assert '"drain cut short"' in ended.stderr
