"""The harness finds out: a server that breaks its promise loses or doubles mail, and the ledger says so."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.disk import cut_power_of_a_disk_that_lies
from tests.faults.faults import BY_NAME, Fault
from tests.faults.run import Row, play
from tests.faults.server import PROGRAM

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(150),
    pytest.mark.skipif(sys.platform != "linux", reason="faults are Linux's"),
]

SETTLES_FIRST = (sys.executable, "-m", "tests.faults.mutants", "settles-first")
SENDING = BY_NAME["kill-sending"]
ON_A_DISK_THAT_LIES = replace(BY_NAME["power"], round=cut_power_of_a_disk_that_lies, shim=True)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


async def played(fault: Fault, directory: Path, *, program: Sequence[str] = PROGRAM) -> Row:
    row = await play(fault, rounds=2, directory=directory, seed=1, rate=60.0, program=program)
    assert not row.failure
    assert row.verdict.messages >= 20
    return row


async def test_what_is_half_sent_when_all_is_killed_is_not_lost(tmp_path: Path) -> None:
    row = await played(SENDING, tmp_path)
    assert row.is_good


async def test_a_server_that_settles_before_it_sends_is_found_out(tmp_path: Path) -> None:
    row = await played(SENDING, tmp_path, program=SETTLES_FIRST)
    assert row.verdict.lost


@needs_root
async def test_a_server_that_does_not_sync_is_found_out_by_a_power_cut(directory: Path) -> None:
    row = await played(ON_A_DISK_THAT_LIES, directory)
    assert row.verdict.lost


@needs_root
async def test_a_server_that_syncs_outlives_a_power_cut(directory: Path) -> None:
    row = await played(BY_NAME["power"], directory)
    assert row.is_good
