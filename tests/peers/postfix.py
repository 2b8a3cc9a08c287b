"""peers.postfix: a real Postfix that receives, or is a smarthost, with configuration, queue and log of its own.

What a recipient meets is decided by its local part: `unknown` is refused as Postfix refuses those it does not know,
`full` and `blocked` by an access table, `greylisted` by a policy server, a few times; a subject with "forbidden" is
refused after DATA by a header check. Everybody else has a maildir, written by virtual(8). CHUNKING is not offered to
127.0.0.2. One with a login takes nothing without it, and from the login's own address only.

Needs root: its processes run as Postfix's own user. Nothing of the system's Postfix is touched or read.
"""

import shutil
import smtplib
import socketserver
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.peers.sasl import sasl_server
from tests.peers.waiting import eventually

POSTFIX = shutil.which("postfix") or "/usr/sbin/postfix"
UNKNOWN_REPLY = "5.1.1"
FULL_REPLY = "452 4.2.2 Mailbox full"
BLOCKED_REPLY = "550 5.7.1 Access denied, your address is on our block list"
GREYLIST_REPLY = "451 4.7.1 Greylisted, please try again later"
FORBIDDEN_REPLY = "Forbidden words"
GREYLISTED_TIMES = 2
NO_CHUNKING = "127.0.0.2"

_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
myhostname = mx.postfix.test
mydestination =
mynetworks =
inet_interfaces = {host}
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtputf8_enable = yes
smtpd_peername_lookup = no
disable_dns_lookups = yes
default_transport = error
relay_transport = error
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = texthash:{directory}/mailboxes
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 52428800
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions =
    check_recipient_access regexp:{directory}/recipients, check_policy_service {{ inet:127.0.0.1:{policy} }}
header_checks = regexp:{directory}/headers
nested_header_checks =
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtpd_discard_ehlo_keyword_address_maps = inline:{{ {{ {no_chunking} = chunking }} }}
debug_peer_list = {debug}
debug_peer_level = 1
"""

_SMARTHOST = """
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{sasl}
smtpd_tls_auth_only = yes
smtpd_sender_login_maps = inline:{{ {{ {address} = {login} }} }}
smtpd_sender_restrictions = reject_sender_login_mismatch
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
"""

_MASTER = """
{host}:{port} inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
error     unix - - n - - error
virtual   unix - n n - - virtual
proxymap  unix - - n - - proxymap
anvil     unix - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


@dataclass(frozen=True)
class Postfix:
    """A running one. `log` is what it logged so far."""

    host: str
    port: int
    directory: Path

    @property
    def log(self) -> str:
        return (self.directory / "maillog").read_text()

    def logged(self, *words: str, times: int = 1) -> list[str]:
        """The log's lines with all these words, as soon as there are so many: Postfix answers first and logs then."""

        def look() -> list[str]:
            found = [line for line in self.log.splitlines() if all(word in line for word in words)]
            return found if len(found) >= times else []

        return eventually(look, what=f"Postfix logs {words} {times} times")

    def heard(self, verb: str, word: str) -> str:
        """The last command of this kind that has this word, as a talkative Postfix logged it."""
        return self.logged("]: < ", f": {verb} ", word)[-1].partition(f": {verb} ")[2]

    def mailbox(self, address: str) -> list[bytes]:
        """The messages an address has received, in no order. Line ends are Unix's."""
        local, _, domain = address.rpartition("@")
        return [path.read_bytes() for path in (self.directory / "mail" / domain / local / "new").glob("*")]

    def have(self, address: str, octets: bytes) -> int:
        """How many messages with these octets an address has."""
        return sum(octets in each for each in self.mailbox(address))

    def received(self, *addresses: str, with_octets: bytes) -> list[bytes]:
        """The message with these octets from the mailbox of every address, as soon as all have it."""

        def look() -> list[bytes] | None:
            found = [[each for each in self.mailbox(address) if with_octets in each] for address in addresses]
            return [messages[0] for messages in found] if all(found) else None

        return eventually(look, what=f"Postfix delivers a message with {with_octets!r} to {addresses}") or []


@dataclass(frozen=True)
class Login:
    """address: whose mail it may send."""

    login: str
    secret: str
    address: str


@contextmanager
def postfix(
    host: str,
    port: int,
    *,
    domains: Sequence[str],
    mailboxes: Sequence[str],
    certificate: Path,
    key: Path,
    talkative: bool = False,
    login: Login | None = None,
) -> Iterator[Postfix]:
    """mailboxes: local parts that exist, in each of the domains; UTF-8 ones as in an SMTPUTF8 transaction. talkative:
    every command and reply is in its log. login: of a smarthost.
    """
    directory = Path(tempfile.mkdtemp(prefix="relay-postfix-"))
    directory.chmod(0o755)  # virtual(8) works as nobody; below pytest's own directory it could not
    with ExitStack() as stack:
        policy = stack.enter_context(_policy_server())
        _configure(
            directory, host, port, domains=domains, policy=policy, certificate=certificate, key=key, talkative=talkative
        )
        if login is not None:
            sasl = stack.enter_context(sasl_server(login.login, login.secret))
            with (directory / "conf" / "main.cf").open("a") as main:
                main.write(_SMARTHOST.format(sasl=sasl, login=login.login, address=login.address))
        _make_mailboxes(directory, domains, mailboxes)
        command = [POSTFIX, "-c", str(directory / "conf"), "start-fg"]
        silent = subprocess.DEVNULL  # it says everything in its log
        process = subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent)
        try:
            eventually(lambda: _greets(host, port), what=f"Postfix greets ({directory}/maillog)")
            yield Postfix(host, port, directory)
        finally:
            # A signal would end only the script; its master(8) has a session of its own.
            subprocess.run([*command[:-1], "stop"], stderr=subprocess.DEVNULL, check=False)
            process.wait(20)
            shutil.rmtree(directory)


def _configure(
    directory: Path,
    host: str,
    port: int,
    *,
    domains: Sequence[str],
    policy: int,
    certificate: Path,
    key: Path,
    talkative: bool,
) -> None:
    conf = directory / "conf"
    for name in ("conf", "queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    main = _MAIN.format(
        directory=directory,
        host=host,
        domains=" ".join(domains),
        policy=policy,
        certificate=certificate,
        key=key,
        debug="127.0.0.0/8" if talkative else "",
        no_chunking=NO_CHUNKING,
    )
    (conf / "main.cf").write_text(main)
    (conf / "master.cf").write_text(_MASTER.format(host=host, port=port))
    access = f"/^full[+@]/ {FULL_REPLY}\n/^blocked[+@]/ {BLOCKED_REPLY}\n"
    (directory / "recipients").write_text(access)
    (directory / "headers").write_text(f"/^Subject:.*forbidden/ REJECT {FORBIDDEN_REPLY}\n")


def _make_mailboxes(directory: Path, domains: Sequence[str], mailboxes: Sequence[str]) -> None:
    """`full` and `blocked` exist and are refused all the same."""
    names = [*mailboxes, "full", "blocked", "greylisted"]
    lines = [f"{name}@{domain} {domain}/{name}/\n" for domain in domains for name in names]
    (directory / "mailboxes").write_text("".join(lines))
    (directory / "mail").mkdir()
    (directory / "mail").chmod(0o777)


def _greets(host: str, port: int) -> bool:
    with suppress(OSError, smtplib.SMTPException), smtplib.SMTP(host, port, timeout=2) as client:
        return client.noop()[0] == 250
    return False


# The policy server: greylisting by counting, since nobody wants to wait for the clock.


class _Policy(socketserver.StreamRequestHandler):
    """https://www.postfix.org/SMTPD_POLICY_README.html: attributes, an empty line; an action, an empty line."""

    seen: Counter[str]

    def handle(self) -> None:
        asked: dict[str, str] = {}
        for line in self.rfile:
            name, equals, value = line.decode().rstrip("\n").partition("=")
            if equals:
                asked[name] = value
                continue
            self.wfile.write(f"action={self._action(asked)}\n\n".encode())
            asked = {}

    def _action(self, asked: dict[str, str]) -> str:
        recipient = asked["recipient"]
        if not recipient.startswith("greylisted@"):
            return "DUNNO"
        self.seen[recipient] += 1
        return GREYLIST_REPLY if self.seen[recipient] <= GREYLISTED_TIMES else "DUNNO"


class _PolicyServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def _policy_server() -> Iterator[int]:
    """Its port on 127.0.0.1."""
    handler = type("Policy", (_Policy,), {"seen": Counter()})
    with _PolicyServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:  # it would look at its closed socket for ever, as fast as it can
            server.shutdown()
            thread.join()
