"""A real `relay serve`: its own process, configuration, certificate, spool and ports, below a directory of the test.

`RelayProcess` is told what differs from a plain server by `tables`, which are merged into relay.toml. Credentials and
domains go into the registry directly, as `relay credential add` and `relay domain add` put them there.
"""

import asyncio
import json
import signal
import smtplib
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from relay.dkim import generate_keys, public_record
from relay.journal.query import Query
from relay.journal.search import Search
from relay.mail.address import Pattern
from relay.mail.event import Event, Kind
from relay.mail.suppression import Suppression
from relay.registry.credential_changes import Adjust, unchanged
from relay.registry.domains import NewKey
from relay.registry.store import Registry
from relay.server.directory import prepare, shards_on_disk
from relay.spool import SpoolReader
from tests.peers.certificates import Authority, Issued
from tests.peers.ports import Reserved
from tests.peers.waiting import eventually

T = TypeVar("T")

DOMAIN = "sender.example"
HOST = "localhost"  # what the certificate is for
LOOPBACK = ("127.0.0.1", "::1")
KEYS_MADE_AT = 1_790_000_000.0  # 21 September 2026
SELECTORS = ("r20260921", "e20260921")  # named for that day
READY_WITHIN = 30.0
END_WITHIN = 40.0

_EVERYTHING = Query(limit=100_000)


@dataclass(frozen=True)
class Login:
    """What an application is given."""

    login: str
    secret: str


@cache
def signing_keys() -> tuple[NewKey, NewKey]:
    """The keys of every sender domain in these tests: RSA and Ed25519."""
    rsa, ed25519 = generate_keys()
    return NewKey("rsa", rsa, public_record(rsa)), NewKey("ed25519", ed25519, public_record(ed25519))


class RelayProcess:
    """One server. Its ports are its own from the beginning to `close`, also while it does not run."""

    def __init__(self, directory: Path, authority: Authority, *, nameserver: str, **tables: Any) -> None:
        self.directory = directory
        self.config_path = directory / "relay.toml"
        self.spool = directory / "spool"
        self.authority = authority
        self.process: subprocess.Popen[bytes] | None = None
        reserved = [Reserved(*LOOPBACK) for _ in range(3)] + [Reserved()]
        self._reserved = reserved
        self.starttls_port, self.tls_port, self.trusted_port, self.http_port = (each.port for each in reserved)
        self.issued: Issued = authority.issue(HOST)
        self.tables = merged(self._plain(nameserver), tables)
        self.configure()

    def _plain(self, nameserver: str) -> dict[str, Any]:
        return {
            "server": {"hostname": "relay.example.com", "spool": str(self.spool), "workers": 1, "drain": "10s"},
            "submission": {
                "starttls": [f"127.0.0.1:{self.starttls_port}", f"[::1]:{self.starttls_port}"],
                "tls": [f"127.0.0.1:{self.tls_port}", f"[::1]:{self.tls_port}"],
                "limits": {"disk_free_share": 0.0},
            },
            "tls": {"certificate": str(self.issued.certificate), "key": str(self.issued.key)},
            "dns": {"nameservers": [nameserver], "timeout": "2s"},
            "delivery": {"allow_networks": ["127.0.0.0/8"]},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
        }

    def configure(self, **tables: Any) -> None:
        """Write relay.toml, changed by `tables`."""
        self.tables = merged(self.tables, tables)
        self.config_path.write_text(as_toml(self.tables), encoding="utf-8")

    # Running.

    def start(self) -> None:
        """Returns when all workers are ready; fails with its log when it ends or they do not become so."""
        before = len(self.log("worker ready"))
        self.launch()
        eventually(lambda: self._is_ready(before), what="the relay is ready", within=READY_WITHIN)

    def launch(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "relay", "--config", str(self.config_path), "serve"]
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self.process

    def _is_ready(self, before: int) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the relay ended with {self.process.returncode}:\n{self.output}")
        if len(self.log("worker ready")) - before < self.tables["server"]["workers"]:
            return False
        with suppress(OSError):
            return self.page("readyz").startswith("ready")
        return False

    def run_to_its_end(self) -> tuple[int, str]:
        """For a server that is not to start: its exit code and what it said."""
        before = len(self.output)
        code = self.launch().wait(READY_WITHIN)
        return code, self.output[before:]

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`relay WORDS...` with this server's configuration."""
        command = [sys.executable, "-m", "relay", "--config", str(self.config_path), *words]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True, timeout=60
        )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM, and exit code 0."""
        self.signal(signal.SIGTERM)
        self.ended()

    def ended(self) -> None:
        assert self.process is not None
        code = self.process.wait(END_WITHIN)
        assert code == 0, f"exit code {code}:\n{self.output}"

    def kill(self) -> None:
        """SIGKILL to the supervisor, or the only process."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(END_WITHIN)

    def close(self) -> None:
        """Whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for each in self._reserved:
            each.close()

    # What it says.

    @property
    def _log_path(self) -> Path:
        return self.directory / "relay.log"

    @property
    def output(self) -> str:
        """All it wrote to standard output and error."""
        return self._log_path.read_text(encoding="utf-8") if self._log_path.exists() else ""

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """The log's lines, all or those of one event."""
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in lines if event in ("", line["event"])]

    def logged(self, event: str, *, times: int = 1) -> dict[str, Any]:
        """Wait for it; the last of so many."""
        found = eventually(lambda: len(self.log(event)) >= times, what=f'the log says "{event}" {times} times')
        assert found
        return self.log(event)[-1]

    def page(self, name: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/{name}", timeout=5) as response:
            text: str = response.read().decode()
        return text

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's samples that have these labels, each written 'name="value"'."""
        lines = [line for line in self.page("metrics").splitlines() if line.startswith((name + "{", name + " "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))

    def events(self, *, recipient: str = "", message: str = "", kind: Kind | None = None) -> list[Event]:
        """From the shards and the journal, in order."""
        if not self.spool.exists():
            return []
        pending = self._pending_events()
        found = run(
            lambda: Search(self.spool).search(replace(_EVERYTHING, to=recipient, message=message), pending=pending)
        )
        events = sorted(found.events, key=lambda event: event.at)
        return [event for event in events if kind in (None, event.kind)]

    def _pending_events(self) -> list[Event]:
        events: list[Event] = []
        for shard in shards_on_disk(self.spool):
            with SpoolReader(self.spool, shard=shard) as reader:
                events += [event for _, event in reader.events(limit=100_000)]
        return events

    def suppressions_to_come(self) -> list[Suppression]:
        """What the shards have found out and the suppression list does not have yet."""
        found: list[Suppression] = []
        for shard in shards_on_disk(self.spool):
            with SpoolReader(self.spool, shard=shard) as reader:
                found += [row for _, row in reader.suppressions() if isinstance(row, Suppression)]
        return found

    def event(self, kind: Kind, *, recipient: str = "", message: str = "", within: float = 20.0) -> Event:
        """Wait for one; the first."""
        found = eventually(
            lambda: self.events(recipient=recipient, message=message, kind=kind),
            what=f"{message} {recipient} is {kind}",
            within=within,
        )
        return found[0]

    def workers(self) -> dict[int, int]:
        """Process ids of the workers that run, by number."""
        found: dict[int, int] = {}
        for line in self.log():
            if line["event"] == "worker started":
                found[line["worker"]] = line["pid"]
        return {number: pid for number, pid in found.items() if is_running(pid)}

    # Who may send.

    def add_domain(self, name: str = DOMAIN) -> None:
        self.change(lambda registry: registry.add_domain(name, signing_keys()), now=lambda: KEYS_MADE_AT)

    def add_credential(
        self, name: str = "app", *, senders: Sequence[str] = (f"*@{DOMAIN}",), adjust: Adjust = unchanged
    ) -> Login:
        patterns = tuple(Pattern.parse(each) for each in senders)
        issued = self.change(lambda registry: registry.add_credential(name, senders=patterns, adjust=adjust))
        return Login(issued.credential.login, issued.secret)

    def change(self, verb: Callable[[Registry], Awaitable[T]], *, now: Callable[[], float] = time.time) -> T:
        """Do something to the registry from outside, as a command does."""

        async def opened() -> T:
            registry = await Registry.open(self.spool, now=now)
            try:
                return await verb(registry)
            finally:
                await registry.close()

        prepare(self.spool)
        return run(opened)

    # Clients.

    @property
    def trust(self) -> ssl.SSLContext:
        """Trusts the test's authority and checks the name."""
        return ssl.create_default_context(cafile=self.authority.root)

    @contextmanager
    def session(self, login: Login, *, implicit: bool = False) -> Iterator[smtplib.SMTP]:
        """An authenticated session."""
        client = self.connect(implicit=implicit)
        try:
            client.login(login.login, login.secret)
            yield client
        finally:
            client.close()

    def connect(self, *, implicit: bool = False) -> smtplib.SMTP:
        """A session inside TLS."""
        if implicit:
            return smtplib.SMTP_SSL(HOST, self.tls_port, context=self.trust, timeout=20)
        client = smtplib.SMTP(HOST, self.starttls_port, timeout=20)
        try:
            client.starttls(context=self.trust)
            client.ehlo()
        except BaseException:
            client.close()
            raise
        client.command_encoding = "utf-8"  # for SMTPUTF8
        return client

    def send(self, login: Login, *recipients: str, **letter: Any) -> str:
        """One message in a session of its own, as `submit` says; the queue id."""
        with self.session(login) as client:
            return submit(client, *recipients, **letter)


def submit(
    client: smtplib.SMTP,
    *recipients: str,
    subject: str = "hello",
    sender: str = f"app@{DOMAIN}",
    content: bytes = b"",
    mail_options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
) -> str:
    """One transaction in an open session, with a small message or with `content`; the queue id."""
    code, reply = client.mail(sender, list(mail_options))
    assert code == 250, reply
    for recipient in recipients:
        code, reply = client.rcpt(recipient, list(rcpt_options))
        assert code == 250, reply
    code, reply = client.data(content or letter(subject, sender))
    assert code == 250, reply
    return queue_id(reply)


def letter(subject: str, sender: str = f"app@{DOMAIN}") -> bytes:
    return f"From: {sender}\r\nTo: someone@example.net\r\nSubject: {subject}\r\n\r\nHello.\r\n".encode()


def queue_id(reply: bytes) -> str:
    return reply.decode().rpartition("queued as ")[2].strip()


def is_running(pid: int) -> bool:
    """Not ended, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run(work: Callable[[], Awaitable[T]]) -> T:
    """In an event loop of its own, wherever it is called from."""

    async def awaited() -> T:
        return await work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(awaited())).result()


def merged(tables: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced; None takes a key out."""
    result = dict(tables)
    for name, value in others.items():
        if isinstance(value, Mapping):
            result[name] = merged(result.get(name, {}), value)
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def as_toml(document: Mapping[str, Any], prefix: str = "") -> str:
    """Scalars and arrays are written as JSON writes them, which TOML reads the same."""
    values = {name: value for name, value in document.items() if not _is_table(value)}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    for name, value in document.items():
        if isinstance(value, Mapping):
            text += f"[{prefix}{name}]\n" + as_toml(value, f"{prefix}{name}.")
        elif _is_table(value):
            text += "".join(f"[[{prefix}{name}]]\n" + as_toml(each, f"{prefix}{name}.") for each in value)
    return text


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))
