"""peers.exim: a real Exim that receives, with configuration, spool and log of its own.

Unpacked below .peers/ by tests/install-peers, since its package would replace Postfix's. What a recipient meets is
decided by its local part: `unknown`, `full`, `blocked` and `later` by ACLs of Exim's own kind; a subject with
"forbidden" is refused with 554 after DATA. `mailboxes` have maildirs.

Exim does not offer SMTPUTF8 here and offers no DSN: what a receiver does not offer is as much of a test as what it
does. Needs root.
"""

import shutil
import signal
import smtplib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.peers.waiting import eventually

EXIM = Path(__file__).parents[2] / ".peers" / "exim" / "usr" / "sbin" / "exim4"
USER = "Debian-exim"
UNKNOWN_REPLY = "550 5.1.1 No such person here"
FULL_REPLY = "452 4.2.2 Mailbox over quota"
BLOCKED_REPLY = "550 5.7.1 Your host is on our block list"
LATER_REPLY = "451 4.7.1 Greylisted, come back soon"
FORBIDDEN_REPLY = "554 5.7.1 This message looks like spam"

_CONFIGURATION = """
primary_hostname = mx.exim.test
exim_user = {user}
exim_group = {user}
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
recipients_max = 50
message_size_limit = 50M
accept_8bitmime = true
dsn_advertise_hosts =
smtputf8_advertise_hosts =
tls_advertise_hosts =
chunking_advertise_hosts = *
deliver_drop_privilege = true
queue_run_in_order = false
domainlist here = {domain}
acl_smtp_rcpt = recipient
acl_smtp_data = content

begin acl
recipient:
  require domains = +here
  deny  local_parts = unknown
        message = {unknown}
  defer local_parts = full
        message = {full}
  deny  local_parts = blocked
        message = {blocked}
  defer local_parts = later
        condition = ${{if !exists{{{directory}/open}}}}
        message = {later}
  accept
content:
  deny  condition = ${{if match{{$h_Subject:}}{{forbidden}}}}
        message = {forbidden}
  accept

begin routers
everybody:
  driver = accept
  domains = +here
  local_parts = lsearch;{directory}/people
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = {directory}/mail/$local_part_data
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
  user = {user}
  group = {user}
"""


@dataclass(frozen=True)
class Exim:
    """A running one. `log` is its main log so far."""

    host: str
    port: int
    directory: Path

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted((self.directory / "log").glob("*log")))

    def logged(self, *words: str, times: int = 1) -> list[str]:
        """The log's lines with all these words, as soon as there are so many: Exim answers first and logs then."""

        def look() -> list[str]:
            found = [line for line in self.log.splitlines() if all(word in line for word in words)]
            return found if len(found) >= times else []

        return eventually(look, what=f"Exim logs {words} {times} times")

    def mailbox(self, address: str) -> list[bytes]:
        """The messages an address has received, in no order. Line ends are Unix's."""
        local = address.rpartition("@")[0]
        return [path.read_bytes() for path in (self.directory / "mail" / local / "new").glob("*")]

    def received(self, *addresses: str, with_octets: bytes) -> list[bytes]:
        """The message with these octets from the mailbox of every address, as soon as all have it."""

        def look() -> list[bytes] | None:
            found = [[each for each in self.mailbox(address) if with_octets in each] for address in addresses]
            return [messages[0] for messages in found] if all(found) else None

        return eventually(look, what=f"Exim delivers a message with {with_octets!r} to {addresses}") or []

    def open_for_later(self) -> None:
        """`later` is taken from now on."""
        (self.directory / "open").touch()


@contextmanager
def exim(host: str, port: int, *, domain: str, mailboxes: Sequence[str]) -> Iterator[Exim]:
    directory = Path(tempfile.mkdtemp(prefix="relay-exim-"))
    directory.chmod(0o755)
    for name in ("spool", "log", "mail"):
        (directory / name).mkdir()
        shutil.chown(directory / name, USER, USER)
    (directory / "people").write_text("".join(f"{name}: {name}\n" for name in (*mailboxes, "later")))
    configuration = directory / "exim.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory,
            user=USER,
            domain=domain,
            unknown=UNKNOWN_REPLY,
            full=FULL_REPLY,
            blocked=BLOCKED_REPLY,
            later=LATER_REPLY,
            forbidden=FORBIDDEN_REPLY,
        )
    )
    command = [str(EXIM), "-C", str(configuration), "-bdf", "-q1m", "-oX", f"<; [{host}]:{port}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: _greets(host, port), what=f"Exim greets ({directory}/log)")
        yield Exim(host, port, directory)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(directory)


def _greets(host: str, port: int) -> bool:
    with suppress(OSError, smtplib.SMTPException), smtplib.SMTP(host, port, timeout=2) as client:
        return client.noop()[0] == 250
    return False
