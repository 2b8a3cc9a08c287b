"""bench.relay_server: a Relay on loopback, set up as an operator would: relay.toml, then commands while it runs.

It has all that Relay has by default: both signatures, journal, metrics, and the JSON log, here in a file.
"""

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.mail.queue_id import shard_of
from tests.bench.server import DOMAIN, Server, stop, wait_until
from tests.peers.certificates import Authority

NAME = "Relay"
CREDENTIAL = "bench"

_CONFIGURATION = """
[server]
hostname = "relay.example"
spool = "{directory}/spool"
workers = {workers}
[submission]
starttls = ["127.0.0.1:{ports.starttls}"]
tls = ["127.0.0.1:{ports.tls}"]
[[submission.trusted]]
listen = "127.0.0.1:{ports.trusted}"
networks = ["127.0.0.0/8"]
credential = "bench"
[tls]
certificate = "{certificate}"
key = "{key}"
{more}
[http]
listen = "127.0.0.1:{ports.http}"
[log]
file = "{directory}/relay.log"
"""

TO_SINK = """
[[route]]
via = "smtp://127.0.0.1:{sink}"
security = "none"
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """trusted: without TLS and AUTH."""

    trusted: int
    starttls: int
    tls: int
    http: int


@contextmanager
def relay(directory: Path, *, ports: Ports, sink: int, workers: int) -> Iterator[Server]:
    """Everything goes to the sink."""
    config = configure(directory, ports=ports, more=TO_SINK.format(sink=sink), workers=workers)
    process = start(config, ports=ports)
    try:
        records = command(config, "domain", "add", DOMAIN)["records"]
        keys = {each["name"]: each["value"] for each in records if "._domainkey." in each["name"]}
        made = add_credential(config)
        stop(process)
        process = start(config, ports=ports)  # so that no worker knows the credential later than another
        yield Server(
            NAME,
            ports.trusted,
            (process.pid,),
            keys,
            starttls=ports.starttls,
            login=made["login"],
            secret=made["secret"],
            accepted=lambda: accepted_by_worker(directory / "relay.log"),
        )
    finally:
        stop(process)


def configure(directory: Path, *, ports: Ports, more: str, workers: int) -> Path:
    """relay.toml. more: tables besides those that every Relay here has."""
    issued = Authority(directory).issue("127.0.0.1")
    path = directory / "relay.toml"
    path.write_text(
        _CONFIGURATION.format(
            directory=directory,
            workers=workers,
            ports=ports,
            certificate=issued.certificate,
            key=issued.key,
            more=more,
        )
    )
    return path


def start(config: Path, *, ports: Ports) -> "subprocess.Popen[bytes]":
    """Returns once it says that it is ready."""
    process = subprocess.Popen([*_relay(config), "serve"], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_ready(ports.http), what="Relay is ready", process=process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def add_credential(config: Path) -> Any:
    return command(config, "credential", "add", CREDENTIAL, "--from", f"*@{DOMAIN}")


def command(config: Path, *words: str) -> Any:
    """What `relay WORDS --json` prints."""
    ended = subprocess.run([*_relay(config), *words, "--json"], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"relay {' '.join(words)}: {ended.stdout}{ended.stderr}")
    return json.loads(ended.stdout)


def is_ready(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def accepted_by_worker(log: Path) -> Mapping[int, int]:
    """Messages by worker, counted from the log: an id tells whose it is."""
    with log.open(encoding="utf-8") as lines:
        accepted = (json.loads(line) for line in lines if '"message accepted"' in line)
        return Counter(shard_of(fact["id"]) for fact in accepted)


def _relay(config: Path) -> list[str | Path]:
    return [sys.executable, "-m", "relay", "--config", config]
