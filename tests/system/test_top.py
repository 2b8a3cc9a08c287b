"""`relay top` beside a running relay with two workers: one frame, and live in a terminal of its own."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from relay.mail.event import Kind
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import Login, RelayProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

Make = Callable[..., RelayProcess]

BUSY = b"451 4.7.1 \x1b[31mcome back later, all of you who stand in this long line\r\n"
LINES, COLUMNS = 12, 130
HOME = re.compile(r"\x1b\[H")
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def running(make: Make, mx: Mx) -> Iterator[tuple[RelayProcess, Login]]:
    with receiving(mx) as receiver:
        server = make(server={"workers": 2}, delivery={"port": receiver.port})
        server.add_domain()
        login = server.add_credential()
        server.start()
        yield server, login


class Terminal:
    """`relay top` in a terminal of its own. screen: all that it wrote, without what moves the cursor."""

    def __init__(self, server: RelayProcess, *words: str) -> None:
        self._own, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        command = [sys.executable, "-m", "relay", "--config", str(server.config_path), "top", *words]
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}
        )
        self.screen = ""

    def press(self, key: str) -> None:
        os.write(self._own, key.encode())

    def until(self, text: str, *, within: float = 20.0) -> None:
        """It is written from now on."""
        begins, ends = len(self.screen), time.monotonic() + within
        while text not in self.screen[begins:]:
            left = ends - time.monotonic()
            ready, _, _ = select.select([self._own], [], [], max(0.0, left))
            assert ready, f"not on the screen: {text!r}\n{self.screen}"
            self.screen += CODES.sub("", HOME.sub("\n", os.read(self._own, 65536).decode()))

    def ended(self) -> int:
        """The exit code; the terminal is as it was, which waits until all that was written is read."""

        def has_ended() -> bool:
            while select.select([self._own], [], [], 0)[0]:
                os.read(self._own, 65536)
            return self.process.poll() is not None

        eventually(has_ended, what="it ends")
        assert termios.tcgetattr(self._theirs) == self.before
        return self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)
        os.close(self._theirs)


@contextmanager
def terminal(server: RelayProcess, *words: str) -> Iterator[Terminal]:
    shown = Terminal(server, *words)
    try:
        yield shown
    finally:
        shown.close()


def once(server: RelayProcess, *words: str) -> Any:
    done = server.command("top", "--once", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_frame_has_the_sites_of_all_workers_with_their_rates(relay: Make) -> None:
    with running(relay, Mx({"RCPT": BUSY})) as (server, login):
        for number in range(12):
            server.event(Kind.DEFERRED, message=server.send(login, f"{number}@pair.test"))
        frame = once(server, "--every", "0.2")
        assert (frame["server"], frame["queued"]) == ("running", 12)
        (site,) = frame["sites"]
        assert (site["state"], site["queued"], site["delivered_per_second"]) == ("waiting", 12, 0.0)
        assert site["last_error"].startswith("451 4.7.1")
        server.stop()
        assert once(server)["server"] == "stopped"


def test_it_is_live_fits_the_terminal_and_ends_as_it_should(relay: Make) -> None:
    mx = Mx({"RCPT": BUSY})
    with running(relay, mx) as (server, login):
        server.event(Kind.DEFERRED, message=server.send(login, "a@postfix.test"))
        with terminal(server, "--every", "0.2") as shown:
            shown.until("1 recipient queued for 1 site")
            shown.until("mx.postfix.test")
            shown.until("sorted by queued")
            shown.press("s")
            shown.until("sorted by rate")
            server.event(Kind.DEFERRED, message=server.send(login, "b@postfix.test"))
            shown.until("100%")
            shown.until("2 recipients queued for 1 site")
            assert max(len(line.rstrip("\r")) for line in shown.screen.split("\n")) <= COLUMNS
            assert "\\x1b[31m" in shown.screen
            shown.press("q")
            assert shown.ended() == 0
        with terminal(server) as shown:
            shown.until("2 recipients queued")
            shown.process.send_signal(signal.SIGINT)
            assert shown.ended() == 0
