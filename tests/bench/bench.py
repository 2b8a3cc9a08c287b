"""bench: Relay beside other servers on this machine, in turn, with the same work. `make bench` runs it: 20 minutes.

    make bench                              five runs of each server at each work; writes docs/performance.md
    make bench ARGS=--short                 three pairs with Postfix + opendkim, two minutes; writes nothing
    make bench ARGS="--work many-100 --peer postfix --pairs 3 --seconds 10"
    make bench ARGS="--work many --no-peer" Relay alone

All servers run all the time; one works while the others rest. Only a run of all works and peers writes the page, or one
with --page FILE, which writes there.

The exit code is 1 when a message was lost, doubled or badly signed, or when Relay's ratio to Postfix + opendkim in the
short form is less than 70 % of the one on the page; 69 when a port is in use. It must be root, for Postfix.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench import haraka_server, page, plot, postfix_server, processes, relay_server, report, signatures
from tests.bench.measuring import Bench, Run, WrongResult
from tests.bench.programs import sink
from tests.bench.relay_server import Ports, relay
from tests.bench.server import Server
from tests.bench.works import WORKS, Work

SINK = 2600
RELAY = Ports(trusted=2602, starttls=2603, tls=2604, http=2605)
EX_UNAVAILABLE = 69
SAMPLE = 500  # of so many messages one is kept and its signatures verified
FAR_BELOW = 0.7  # of the last ratio


class Start(Protocol):
    def __call__(self, directory: Path, *, port: int, sink: int) -> AbstractContextManager[Server]: ...


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    port: int
    start: Start


PEERS = {
    "postfix": Peer(postfix_server.SIGNED, 2601, postfix_server.signed),
    "haraka-dkim": Peer(haraka_server.SIGNED, 2606, haraka_server.signed),
    "haraka": Peer(haraka_server.UNSIGNED, 2607, haraka_server.unsigned),
    "postfix-tls": Peer(postfix_server.WITH_TLS, 2608, postfix_server.with_tls),
}
ALL_PORTS = (SINK, RELAY.trusted, RELAY.starttls, RELAY.tls, RELAY.http, *(peer.port for peer in PEERS.values()))


@dataclass(frozen=True, slots=True)
class Measured:
    """signatures: how many were verified, and are valid."""

    runs: Sequence[Run]
    servers: Sequence[Server]
    signatures: int


def main() -> int:
    asked = _arguments()
    taken = processes.listeners(ALL_PORTS)
    if taken:
        print(f"bench: somebody listens on {taken} already, and would take a share of the work", file=sys.stderr)
        return EX_UNAVAILABLE
    try:
        measured = _measure(asked)
    except (WrongResult, signatures.BadSignature, RuntimeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    works = [WORKS[name] for name in asked.work]
    table = f"{report.table(works, measured.runs)}\n{report.goals(works, measured.runs)}"
    print(f"\n{table}\n{measured.signatures} signatures of a sample are valid; every message arrived once.")
    if asked.page:
        _write(asked, table, measured)
    return _compare(works, measured.runs, page.PAGE.read_text(encoding="utf-8")) if asked.short else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("--short", action="store_true", help="three pairs; compares with the last ratios")
    parser.add_argument(
        "--work", action="append", choices=WORKS, help="may be given again; default: all; short: many, one"
    )
    parser.add_argument(
        "--peer", action="append", choices=PEERS, help="may be given again; default: all; short: postfix"
    )
    parser.add_argument("--no-peer", action="store_true", help="Relay alone")
    parser.add_argument("--pairs", type=int, default=0, help="runs of each server: 5; short: 3")
    parser.add_argument("--seconds", type=float, default=0, help="that a run is to take: 5")
    parser.add_argument("--workers", type=int, default=2, help="of Relay: 2")
    parser.add_argument("--page", type=Path, help="to write; default: docs/performance.md, if all is measured")
    asked = parser.parse_args()
    if not (asked.page or asked.short or asked.work or asked.peer or asked.no_peer):
        asked.page = page.PAGE
    if asked.page and not asked.page.is_file():
        parser.error(f"--page {asked.page}: there is no such file; make it a copy of docs/performance.md")
    asked.work = asked.work or (["many", "one"] if asked.short else list(WORKS))
    asked.peer = [] if asked.no_peer else asked.peer or (["postfix"] if asked.short else list(PEERS))
    asked.pairs = asked.pairs or (3 if asked.short else 5)
    asked.seconds = asked.seconds or 5  # in the short form too: it is compared with the page's
    return asked


def _measure(asked: argparse.Namespace) -> Measured:
    works = [WORKS[name] for name in asked.work]
    peers = {key: PEERS[key] for key in asked.peer if any(PEERS[key].name in work.peers for work in works)}
    with ExitStack() as stack:
        # Below /var/tmp, which is on a disk; /tmp may be in memory, where an fsync costs nothing.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-", dir="/var/tmp")))
        directory.chmod(0o755)
        taking = stack.enter_context(sink(_below(directory, "sink"), port=SINK, keep_every=SAMPLE))
        servers = [
            stack.enter_context(peer.start(_below(directory, key), port=peer.port, sink=SINK))
            for key, peer in peers.items()
        ]
        ours = relay(_below(directory, "relay"), ports=RELAY, sink=SINK, workers=asked.workers)
        servers.append(stack.enter_context(ours))
        bench = Bench(taking, seconds=asked.seconds)
        runs = [
            _run(bench, server, work) for work in works for _ in range(asked.pairs) for server in _at(work, servers)
        ]
        return Measured(runs, servers, signatures.verify(taking, bench.server_of))


def _at(work: Work, servers: Sequence[Server]) -> Sequence[Server]:
    return [server for server in servers if server.name in work.peers or server.name == relay_server.NAME]


def _run(bench: Bench, server: Server, work: Work) -> Run:
    run = bench.run(server, work)
    print(
        f"{work.name:9} {server.name:35}{run.messages:7} messages {run.delivered:8.0f}/s {run.cpu:6.3f} s CPU per 1000"
        f"  p50 {run.p50:6.1f} ms  p99 {run.p99:6.1f} ms {run.memory:5.0f} MB  loader and sink {run.others:.2f} cores",
        flush=True,
    )
    return run


def _write(asked: argparse.Namespace, table: str, measured: Measured) -> None:
    told = page.circumstances(
        measured.servers, workers=asked.workers, command=sys.argv[1:], signatures=measured.signatures
    )
    groups = [
        plot.Group(work.what, {server: report.delivered(runs) for server, runs in by_server.items()})
        for work in map(WORKS.__getitem__, asked.work)
        if len(by_server := report.of_work(work, measured.runs)) > 1
    ]
    page.write(asked.page, page.BENCH, text=f"{told}\n{table}", plot=plot.svg(groups, ours=relay_server.NAME))


def _compare(works: Sequence[Work], runs: Sequence[Run], last_page: str) -> int:
    """1 when a ratio is far below the one on the page."""
    worst = 0
    for work in works:
        by_server = report.of_work(work, runs)
        for peer in by_server.keys() - {relay_server.NAME}:
            ratio, last = report.ratio(by_server, peer), page.last_ratio(last_page, what=work.what, peer=peer)
            print(f"{work.name}: {ratio:.1f} × {peer}; the last was {f'{last:.1f} ×' if last else 'not measured'}")
            if last and ratio < FAR_BELOW * last:
                print(f"bench: {work.name} is less than {FAR_BELOW:.0%} of the last ratio", file=sys.stderr)
                worst = 1
    return worst


def _below(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return path


if __name__ == "__main__":
    sys.exit(main())
