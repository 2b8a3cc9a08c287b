"""bench.profile: where the CPU of a message goes, by stage: one worker under cProfile, with load and sink.

    python -m tests.bench.profile                  a table, as docs/performance.md has it
    python -m tests.bench.profile --functions 60   and the functions that take most themselves

cProfile makes every call dearer and leaves C alone, so the figures are shares, not what a message takes. A stage is
its functions with all that they call, but for what another stage has. Only the event loop's thread is seen: not those
of the disk and the journal.
"""

import argparse
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import relay_server
from tests.bench.programs import Load, load, sink
from tests.bench.server import DOMAIN, stop, wait_until

SINK = 2700
PORTS = relay_server.Ports(trusted=2702, starttls=2703, tls=2704, http=2705)
WITHIN = 120.0  # seconds until everything is at the sink

Place = tuple[str, str]  # a function: the end of its file's name, and its own


@dataclass(frozen=True, slots=True)
class Stage:
    """without: what is called there and is another's."""

    name: str
    functions: Sequence[Place]
    without: Sequence[Place] = ()


REPLY, ACT = ("submission/connection.py", "_write"), ("submission/connection.py", "_act")
RECEIVE = ("submission/handover.py", "hand_over")
SIGN, KEYS = ("reception/signing.py", "sign"), ("relay/dkim.py", "_signature")
ACCEPT, FRESH, LOG = ("reception/door.py", "_accept"), ("delivery/scheduler.py", "hand_over"), ("log/log.py", "info")
CARRY, HEARD, SEND = ("delivery/courier.py", "_carry"), ("wire.py", "data_received"), ("smtpclient/wire.py", "send")
CONCLUDE, WRITTEN = ("delivery/carriage.py", "conclude"), ("delivery/settling.py", "_written")
BEGIN, COMMITTED = ("spool/committer.py", "_begin"), ("spool/committer.py", "_commit_returned")
STAGES = (
    Stage("session: octets, commands, content", [("submission/connection.py", "data_received")], [ACT]),
    Stage("replies: writing to the client's socket", [REPLY]),
    Stage("reception: header, policy, completion", [RECEIVE], [SIGN, ACCEPT]),
    Stage("sign: canonical form, body hash", [SIGN], [KEYS]),
    Stage("the two signatures", [KEYS]),
    Stage("accept: to the committer and back", [ACCEPT], [FRESH, LOG]),
    Stage("commit: rows of accepting and settling", [BEGIN, COMMITTED]),
    Stage("schedule: claim, route, site", [FRESH]),
    Stage("send: envelope, content, replies", [CARRY, HEARD], [CONCLUDE, SEND]),
    Stage("send: writing to the server's socket", [SEND]),
    Stage("settle: verdict, event, counts", [CONCLUDE, WRITTEN], [LOG]),
    Stage("log: two lines", [LOG]),
    Stage("journal: its part on the loop", [("journal/mover.py", "run")]),
)


class Profile:
    """What cProfile wrote while so many messages went through."""

    def __init__(self, path: Path, messages: int) -> None:
        self._messages = messages
        # pstats' own form: (file, line, name) → (primitive calls, calls, own seconds, seconds with all below, callers)
        self._rows: dict[tuple[str, int, str], tuple[Any, ...]] = vars(pstats.Stats(str(path)))["stats"]

    def stage(self, stage: Stage) -> float:
        """Microseconds a message."""
        return sum(map(self._of, stage.functions)) - sum(map(self._of, stage.without))

    def _of(self, place: Place) -> float:
        file, name = place
        found: list[float] = [row[3] for key, row in self._rows.items() if key[0].endswith(file) and key[2] == name]
        return sum(found) / self._messages * 1e6

    def dearest(self, count: int) -> list[str]:
        """Calls and own microseconds a message, and where."""
        rows = sorted(self._rows.items(), key=lambda item: -item[1][2])[:count]
        return [self._line(*item) for item in rows]

    def _line(self, key: tuple[str, int, str], row: tuple[Any, ...]) -> str:
        file, line, name = key
        where = f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        return f"{row[1] / self._messages:8.2f} {row[2] / self._messages * 1e6:8.1f}  {where}"


def table(profile: Profile) -> str:
    micros = {stage.name: profile.stage(stage) for stage in STAGES}
    whole = sum(micros.values())
    lines = [f"| {name} | {value / whole:.0%} |" for name, value in micros.items()]
    return "\n".join(["| stage | share |", "|---|---|", *lines])


def profiled(directory: Path, *, messages: int, sessions: int, per_connection: int) -> Profile:
    with ExitStack() as stack:
        arrived = stack.enter_context(sink(directory, port=SINK))
        config = relay_server.configure(directory, ports=PORTS, more=relay_server.TO_SINK.format(sink=SINK), workers=1)
        first = relay_server.start(config, ports=PORTS)
        stack.callback(stop, first)
        relay_server.command(config, "domain", "add", DOMAIN)
        relay_server.add_credential(config)
        stop(first)
        path = directory / "profile"
        words = [sys.executable, "-m", "cProfile", "-o", str(path), "-m", "relay", "--config", str(config), "serve"]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        stack.callback(stop, process)
        wait_until(lambda: relay_server.is_ready(PORTS.http), what="Relay is ready", process=process)
        load(Load(PORTS.trusted, messages, sessions, octets=4096, first=0, per_connection=per_connection))
        wait_until(
            lambda: arrived.totals.messages >= messages, what="all is at the sink", process=process, within=WITHIN
        )
        time.sleep(2)  # the journal
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        return Profile(path, messages)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--per-connection", type=int, default=0, help="messages; 0 for all that a session has")
    parser.add_argument("--functions", type=int, default=0, help="so many of those that take most themselves")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-profile-", dir="/var/tmp") as directory:
        profile = profiled(
            Path(directory),
            messages=asked.messages,
            sessions=asked.sessions,
            per_connection=asked.per_connection,
        )
    print(table(profile))
    print("\n".join(profile.dearest(asked.functions)))


if __name__ == "__main__":
    main()
