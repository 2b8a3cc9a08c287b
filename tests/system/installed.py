"""What is done before and beside a Relay that was installed: files in /etc/relay, an operator's commands, a client."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.peers.certificates import Authority

HOST = "relay.example.test"
DOMAIN = "shop.example.test"
SENDER = f"orders@{DOMAIN}"
UID = GID = 587
SUBMIT = Path(__file__).with_name("submit.py")

CONFIGURATION = """
[server]
hostname = "{host}"
spool = "/var/lib/relay"
workers = {workers}
[submission]
starttls = ["{starttls}"]
tls = ["{tls}"]
[tls]
certificate = "{tls_directory}/fullchain.pem"
key = "{tls_directory}/privkey.pem"
[[route]]
recipient_domain = "simulator.test"
via = "simulator"
"""


class Running(Protocol):
    """A container or a service."""

    @property
    def main_process(self) -> int: ...

    def execute(self, *command: str, user: str = "") -> subprocess.CompletedProcess[bytes]: ...


@dataclass(frozen=True, slots=True)
class Files:
    """Directories of an installation, and the CA that its clients trust."""

    state: Path
    configuration: Path
    tls: Path
    ca: Path


def write_files(
    directory: Path,
    *,
    tls_directory: str,
    workers: int = 2,
    starttls: str = "0.0.0.0:587",
    tls: str = "0.0.0.0:465",
) -> Files:
    """tls_directory: where the certificate is seen to be from inside, in the words of relay.toml."""
    files = Files(directory / "state", directory / "configuration", directory / "credentials", directory / "root.pem")
    for each in (files.state, files.configuration, files.tls):
        each.mkdir()
    issued = Authority(directory).issue("127.0.0.1")
    for source, name in ((issued.certificate, "fullchain.pem"), (issued.key, "privkey.pem")):
        (files.tls / name).write_bytes(source.read_bytes())
        (files.tls / name).chmod(0o400)
        os.chown(files.tls / name, UID, GID)
    os.chown(files.state, UID, GID)
    files.state.chmod(0o700)
    text = CONFIGURATION.format(host=HOST, workers=workers, starttls=starttls, tls=tls, tls_directory=tls_directory)
    (files.configuration / "relay.toml").write_text(text)
    return files


def command(running: Running, *words: str) -> Any:
    """What `relay WORDS --json` prints, run as root, as an operator does."""
    relay = ("/opt/relay/bin/relay", "--config", "/etc/relay/relay.toml")
    return json.loads(running.execute(*relay, *words, "--json", user="root").stdout)


@dataclass(frozen=True, slots=True)
class Application:
    """A client with a credential. inside: it connects in the relay's own network, else in the machine's."""

    login: str
    secret: str
    files: Files
    inside: bool = True

    def start(
        self, running: Running, *, port: int, recipient: str, implicit: bool = False, pause: bool = False
    ) -> subprocess.Popen[bytes]:
        """See submit.py."""
        given = {
            "port": port,
            "implicit": implicit or port == 465,
            "login": self.login,
            "secret": self.secret,
            "ca": str(self.files.ca),
            "sender": SENDER,
            "recipient": recipient,
            "pause": pause,
        }
        enter = ["nsenter", f"--target={running.main_process}", "--net"] if self.inside else []
        return subprocess.Popen(
            [*enter, sys.executable, SUBMIT, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, running: Running, *, port: int, recipient: str, implicit: bool = False) -> str:
        """The reply to one message."""
        client = self.start(running, port=port, recipient=recipient, implicit=implicit)
        output, error = client.communicate(timeout=30)
        assert output, error.decode()
        return output.decode().strip()


def make_application(running: Running, files: Files, *, inside: bool = True) -> Application:
    command(running, "domain", "add", DOMAIN)
    made = command(running, "credential", "add", "shop", "--from", f"*@{DOMAIN}")
    return Application(made["login"], made["secret"], files, inside)


def wait_for_event(running: Running, *, status: str, recipient: str, within: float = 15.0) -> dict[str, Any]:
    """The first event of this kind for this recipient."""
    deadline = time.monotonic() + within
    while not (events := command(running, "log", "search", "--status", status, "--to", recipient)):
        assert time.monotonic() < deadline, f"{recipient} is not {status} within {within} s"
    first: dict[str, Any] = events[0]
    return first
