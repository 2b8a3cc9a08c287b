"""The units: sound by systemd's own judgement, and a server that does what they expect of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "config"

pytestmark = pytest.mark.system


def test_systemd_verifies_the_units(tmp_path: Path) -> None:
    """`verify` wants the command to exist; here `true` stands for the one an operator installs."""
    for name in ("relay.service", "relay.socket"):
        text = (CONFIG / name).read_text().replace("/opt/relay/bin/relay", str(shutil.which("true")))
        (tmp_path / name).write_text(text)
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "relay.service", tmp_path / "relay.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verdict.returncode, verdict.stderr) == (0, "")


def test_systemd_finds_the_service_little_exposed() -> None:
    verdict = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", CONFIG / "relay.service"],
        capture_output=True,
        text=True,
        check=True,
    )
    overall = re.search(r"Overall exposure level for relay\.service: ([\d.]+)", verdict.stdout)
    assert overall is not None
    assert float(overall[1]) <= 2.0
