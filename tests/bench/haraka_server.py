"""bench.haraka_server: a Haraka on loopback, to compare with: signing in one process, or unsigned in two.

As npm brings it, with configuration, queue and log of its own; to_sink.js says what it takes and where it sends that.
Before its 250 it syncs a message's file, not the directory that names it.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import processes
from tests.bench.programs import HERE, TOP
from tests.bench.server import DOMAIN, Server, stop, takes_mail, wait_until
from tests.bench.signatures import make_key

SIGNED = "Haraka + dkim"
UNSIGNED = "Haraka, 2 processes, unsigned"
SELECTOR = "haraka"
NODE = 20
END_WITHIN = 20.0
MODULES = TOP / ".peers" / "haraka" / "node_modules"

_SMTP = "listen=127.0.0.1:{port}\n"
_OUTBOUND = "enable_tls=false\nlocal_mx_ok=true\n"
_LOG = "[main]\nlevel=notice\n"
_DKIM = """[sign]
enabled=true
selector={selector}
domain={domain}
headers=From,Sender,Reply-To,Subject,Date,Message-ID,To,Cc,MIME-Version
[verify]
enabled=false
"""


@contextmanager
def signed(directory: Path, *, port: int, sink: int) -> Iterator[Server]:
    """RSA-2048. One process takes mail, another sees to it. Everything goes to the sink."""
    install()
    config = _configure(directory, port=port, sink=sink)
    keys = config / "dkim" / DOMAIN
    keys.mkdir(parents=True)
    record = make_key(keys / "private")
    (keys / "selector").write_text(SELECTOR)
    (config / "dkim.ini").write_text(_DKIM.format(selector=SELECTOR, domain=DOMAIN))
    (config / "plugins").write_text("to_sink\ndkim\n")
    with _running(directory, port=port) as process:
        published = {f"{SELECTOR}._domainkey.{DOMAIN}": record}
        yield Server(SIGNED, port, (process.pid,), published, software=_software("Haraka", "haraka-plugin-dkim"))


@contextmanager
def unsigned(directory: Path, *, port: int, sink: int) -> Iterator[Server]:
    """Two processes take mail, a third sees to them. Everything goes to the sink."""
    install()
    config = _configure(directory, port=port, sink=sink)
    with (config / "smtp.ini").open("a") as settings:
        settings.write("nodes=2\n")
    with _running(directory, port=port) as process:
        yield Server(UNSIGNED, port, (process.pid,), {}, software=_software("Haraka"))


def install() -> None:
    """Raises RuntimeError when Node is too old for it, as Debian 12's is."""
    if int(_node().partition(".")[0]) < NODE:
        raise RuntimeError(f"Haraka needs Node {NODE} or newer, and this is {_node()}; --peer chooses other servers")
    subprocess.run([TOP / "tests" / "install-peers", "--haraka"], check=True)


def _configure(directory: Path, *, port: int, sink: int) -> Path:
    """Its configuration's directory."""
    config = directory / "config"
    for path in (config, directory / "plugins", directory / "queue"):
        path.mkdir()
    (directory / "node_modules").symlink_to(MODULES)
    shutil.copy(HERE / "haraka" / "to_sink.js", directory / "plugins")
    shutil.copy(MODULES / "Haraka" / "config" / "connection.ini", config)  # 3.3.4 does not start without it
    texts = {"smtp.ini": _SMTP.format(port=port), "outbound.ini": _OUTBOUND, "log.ini": _LOG}
    texts |= {"me": "haraka.example\n", "sink.port": f"{sink}\n", "plugins": "to_sink\n"}
    for name, text in texts.items():
        (config / name).write_text(text)
    return config


@contextmanager
def _running(directory: Path, *, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    command: list[str | Path] = ["node", MODULES / "Haraka" / "bin" / "haraka", "-c", directory]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log)
    try:
        wait_until(lambda: takes_mail(port), what="Haraka takes mail", process=process)
        yield process
    finally:
        workers = processes.tree(process.pid)[1:]
        stop(process)
        _wait_for_end(workers)


def _wait_for_end(workers: Sequence[int]) -> None:
    """They end when they find their parent gone."""
    ends = time.monotonic() + END_WITHIN
    while left := [pid for pid in workers if (processes.PROC / str(pid)).exists()]:
        if time.monotonic() > ends:
            raise RuntimeError(f"Haraka's processes {left} do not end")
        time.sleep(0.02)


def _software(*packages: str) -> tuple[str, ...]:
    versions = [f"{name} {json.loads((MODULES / name / 'package.json').read_text())['version']}" for name in packages]
    return (*versions, f"Node {_node()}")


def _node() -> str:
    """Its version."""
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return told.strip().removeprefix("v")
