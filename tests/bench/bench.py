"""bench: Relay beside Postfix + opendkim on this machine, in turn, with the same work. `make bench` runs it.

    make bench                              three pairs of runs of each kind of work; writes docs/performance.md
    make bench ARGS=--short                 one pair with few messages, in less than a minute; writes nothing
    make bench ARGS="--work many-100 --pairs 5 --seconds 10 --no-peer"

Both servers run all the time; one works while the other rests. The exit code is 1 when a message was lost, doubled or
badly signed, 69 when a port is in use. It must be root, for Postfix.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench import processes, report
from tests.bench.measuring import Bench, Run, Work, WrongResult, verify_signatures
from tests.bench.postfix_server import postfix
from tests.bench.programs import sink
from tests.bench.relay_server import Ports, relay
from tests.bench.server import Server

SINK, POSTFIX = 2600, 2601
RELAY = Ports(trusted=2602, starttls=2603, tls=2604, http=2605)
ALL_PORTS = (SINK, POSTFIX, RELAY.trusted, RELAY.starttls, RELAY.tls, RELAY.http)
EX_UNAVAILABLE = 69
SAMPLE = 500  # of so many messages one is kept and its signatures verified

WORKS = {
    work.name: work
    for work in (
        Work("many", "4 KB, 20 sessions, many messages each", 4096, 20, 0),
        Work("one", "4 KB, 20 sessions, one message per connection", 4096, 20, 1),
        Work("many-100", "4 KB, 100 sessions, many messages each", 4096, 100, 0),
        Work("one-100", "4 KB, 100 sessions, one message per connection", 4096, 100, 1),
        Work("50k", "50 KB, 20 sessions, many messages each", 50 * 1024, 20, 0),
    )
}


def main() -> int:
    asked = _arguments()
    taken = processes.listeners(ALL_PORTS)
    if taken:
        print(f"bench: somebody listens on {taken} already, and would take a share of the work", file=sys.stderr)
        return EX_UNAVAILABLE
    try:
        runs, signatures = _measure(asked)
    except (WrongResult, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    works = [WORKS[name] for name in asked.work]
    table = report.table(works, runs)
    print(f"\n{table}\n{signatures} signatures of the messages kept are valid; every message arrived once.")
    if not asked.short and not asked.no_peer:
        report.write(table, workers=asked.workers, command=sys.argv[1:], signatures=signatures)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("--short", action="store_true", help="one pair of short runs")
    parser.add_argument("--work", action="append", choices=WORKS, help="may be given again; default: many, one")
    parser.add_argument("--pairs", type=int, default=0, help="runs of each server: 3")
    parser.add_argument("--seconds", type=float, default=0, help="that a run is to take: 5")
    parser.add_argument("--workers", type=int, default=2, help="of Relay: 2")
    parser.add_argument("--no-peer", action="store_true", help="Relay alone; writes nothing")
    asked = parser.parse_args()
    asked.work = asked.work or ["many", "one"]
    asked.pairs = asked.pairs or (1 if asked.short else 3)
    asked.seconds = asked.seconds or (2 if asked.short else 5)
    return asked


def _measure(asked: argparse.Namespace) -> tuple[list[Run], int]:
    with ExitStack() as stack:
        # Below /var/tmp, which is on a disk; /tmp may be in memory, where an fsync costs nothing.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-", dir="/var/tmp")))
        directory.chmod(0o755)
        taking = stack.enter_context(sink(_below(directory, "sink"), port=SINK, keep_every=SAMPLE))
        servers: list[Server] = []
        if not asked.no_peer:
            servers.append(stack.enter_context(postfix(_below(directory, "postfix"), port=POSTFIX, sink=SINK)))
        ours = relay(_below(directory, "relay"), ports=RELAY, sink=SINK, workers=asked.workers)
        servers.append(stack.enter_context(ours))
        bench = Bench(taking, seconds=asked.seconds)
        runs = [_run(bench, server, work) for work in _repeated(asked) for server in servers]
        return runs, verify_signatures(taking, servers)


def _repeated(asked: argparse.Namespace) -> Sequence[Work]:
    return [WORKS[name] for name in asked.work for _ in range(asked.pairs)]


def _run(bench: Bench, server: Server, work: Work) -> Run:
    run = bench.run(server, work)
    print(
        f"{work.name:10}{server.name:20}{run.messages:7} messages {run.delivered:8.0f}/s {run.cpu:6.3f} s CPU per 1000"
        f"  p50 {run.p50:6.1f} ms  p99 {run.p99:6.1f} ms {run.memory:5.0f} MB  loader and sink {run.others:.2f} cores",
        flush=True,
    )
    return run


def _below(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return path


if __name__ == "__main__":
    sys.exit(main())
