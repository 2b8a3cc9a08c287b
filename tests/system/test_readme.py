"""The README's first command, as a newcomer gives it: in a fresh clone, from nothing to a delivered message.

What is installed comes over the machine's network; the relay itself runs in a network of its own, where 587 and 465 are
free. The README's other command is the one that runs this.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.container import LOOPBACK_UP

TOP = Path(__file__).parents[2]
LAST = "Relay goes on serving"
PATIENCE = 60.0  # seconds from a clone to the delivered message

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network of its own"),
]


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A clone in which `make run` was given. seconds: until it had shown the end of its test message."""

    clone: Path
    process: "subprocess.Popen[bytes]"
    seconds: float

    @property
    def screen(self) -> str:
        return screen_of(self.clone)

    def value(self, name: str) -> str:
        """A value from the list to paste."""
        found = re.search(rf"^{name} +(.+)$", self.screen, flags=re.MULTILINE)
        assert found is not None, self.screen
        return found[1]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """In another terminal."""
        enter = ["nsenter", f"--target={self.process.pid}", "--net"]
        return subprocess.run([*enter, *command], cwd=self.clone, capture_output=True, text=True, check=False)


def screen_of(clone: Path) -> str:
    return (clone / "screen").read_text()


def environment() -> dict[str, str]:
    """A newcomer's: no virtual environment, no make around it."""
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    return {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("PYTEST_")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `git clone` would give once all that stands here is committed."""
    copy = tmp_path_factory.mktemp("clone")
    listing = ["git", "-C", str(TOP), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if not (TOP / name).exists():
            continue
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(TOP / name, copy / name)
    yield copy
    shutil.rmtree(copy)


@pytest.fixture(scope="module")
def newcomer(clone: Path) -> Iterator[Newcomer]:
    begun = time.monotonic()
    subprocess.run(["make", ".venv/runtime.stamp"], cwd=clone, env=environment(), check=True, capture_output=True)
    alone = f"{shlex.quote(sys.executable)} -c {shlex.quote(LOOPBACK_UP)} && exec make run"
    with (clone / "screen").open("wb") as screen:
        process = subprocess.Popen(
            ["unshare", "--net", "/bin/sh", "-c", alone],
            cwd=clone,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
        )
    try:
        while LAST not in screen_of(clone):
            assert process.poll() is None, screen_of(clone)
            assert time.monotonic() - begun < 2 * PATIENCE, screen_of(clone)
            time.sleep(0.05)
        yield Newcomer(clone, process, time.monotonic() - begun)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_from_a_clone_to_a_delivered_message_takes_less_than_a_minute(newcomer: Newcomer) -> None:
    assert newcomer.seconds < PATIENCE
    at = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z? +"
    way = rf"{at}accepted .*{at}delivered .*{LAST}"
    assert re.search(way, newcomer.screen, flags=re.DOTALL | re.MULTILINE), newcomer.screen


def test_it_prints_the_five_values_that_the_readme_names_and_they_work(newcomer: Newcomer) -> None:
    assert newcomer.value("port") == "587 with STARTTLS, or 465 with TLS"
    client = f"""
import smtplib, ssl
trust = ssl.create_default_context(cafile={newcomer.value("CA file")!r})
with smtplib.SMTP({newcomer.value("host")!r}, 587) as starttls:
    starttls.starttls(context=trust)
    starttls.login({newcomer.value("login")!r}, {newcomer.value("secret")!r})
    starttls.sendmail("a@quickstart.test", ["bounce@simulator.test"], "From: a@quickstart.test\\n\\nHello.\\n")
with smtplib.SMTP_SSL({newcomer.value("host")!r}, 465, context=trust) as tls:
    tls.login({newcomer.value("login")!r}, {newcomer.value("secret")!r})
"""
    sent = newcomer.run(sys.executable, "-c", client)
    assert sent.returncode == 0, sent.stderr


def test_the_commands_that_the_readme_shows_next_work(newcomer: Newcomer) -> None:
    readme = (TOP / "README.md").read_text()
    commands = re.findall(r"^(\.venv/bin/relay .+)$", readme, flags=re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        done = newcomer.run(*shlex.split(command))
        assert done.returncode == 0, done.stderr + done.stdout
        assert done.stdout


def test_interrupting_it_drains_and_leaves_no_process(newcomer: Newcomer) -> None:
    os.killpg(newcomer.process.pid, signal.SIGINT)
    newcomer.process.wait(timeout=40)
    assert "Traceback" not in newcomer.screen
    log = (newcomer.clone / "spool" / "relay.log").read_text()
    assert '"event":"worker drained"' in log
