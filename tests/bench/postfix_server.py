"""bench.postfix_server: a Postfix with opendkim as its milter, on loopback, to compare with.

As Debian ships them, with configuration, queue, log and milter socket of their own; nothing of the system's is touched
or read. The milter is on a Unix socket: on TCP each message waits for Nagle's algorithm.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.server import DOMAIN, Server, stop, takes_mail, wait_until

POSTFIX = shutil.which("postfix") or "/usr/sbin/postfix"
OPENDKIM = shutil.which("opendkim") or "/usr/sbin/opendkim"
SELECTOR = "postfix"

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
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{sink}
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level =
smtpd_milters = unix:{directory}/milter
milter_default_action = tempfail
"""

_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix n - n 60 1 pickup
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

_OPENDKIM = """
Syslog no
UserID root
Mode s
Domain {domain}
Selector {selector}
KeyFile {directory}/dkim.pem
Canonicalization relaxed/relaxed
Socket local:{directory}/milter
UMask 000
InternalHosts 127.0.0.1
OversignHeaders From
RequireSafeKeys no
"""


@contextmanager
def postfix(directory: Path, *, port: int, sink: int) -> Iterator[Server]:
    """Everything goes to the sink. Needs root: its processes run as Postfix's own user."""
    if os.geteuid() != 0:
        raise RuntimeError("Postfix can only be started by root")
    directory.chmod(0o755)
    key = _make_key(directory)
    milter = subprocess.Popen([OPENDKIM, "-f", "-x", str(_opendkim_conf(directory))])
    wait_until((directory / "milter").exists, what="opendkim listens", process=milter)
    command = [POSTFIX, "-c", str(_configure(directory, port=port, sink=sink))]
    process = subprocess.Popen([*command, "start-fg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: takes_mail(port), what="Postfix takes mail", process=process)
        keys = {f"{SELECTOR}._domainkey.{DOMAIN}": key}
        yield Server("Postfix + opendkim", port, (process.pid, milter.pid), keys)
    finally:
        # A signal would end the script that waits for master(8), and leave master behind.
        subprocess.run([*command, "stop"], check=True, capture_output=True)
        process.wait(20)
        stop(milter)


def versions() -> str:
    postconf = [shutil.which("postconf") or "/usr/sbin/postconf", "-dh", "mail_version"]
    postfix = subprocess.run(postconf, capture_output=True, text=True, check=True).stdout.strip()
    opendkim = subprocess.run([OPENDKIM, "-V"], capture_output=True, text=True, check=True).stdout.split()[2]
    return f"Postfix {postfix}, opendkim {opendkim.removeprefix('v')}"


def _make_key(directory: Path) -> str:
    """Its DKIM record."""
    path = directory / "dkim.pem"
    subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(path), "2048"], check=True, capture_output=True)
    path.chmod(0o600)
    public = ["openssl", "rsa", "-in", str(path), "-pubout"]
    lines = subprocess.run(public, check=True, capture_output=True, text=True).stdout.splitlines()
    return f"v=DKIM1; k=rsa; p={''.join(lines[1:-1])}"


def _opendkim_conf(directory: Path) -> Path:
    path = directory / "opendkim.conf"
    path.write_text(_OPENDKIM.format(directory=directory, domain=DOMAIN, selector=SELECTOR))
    return path


def _configure(directory: Path, *, port: int, sink: int) -> Path:
    for name in ("conf", "queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    (directory / "conf" / "main.cf").write_text(_MAIN.format(directory=directory, sink=sink))
    (directory / "conf" / "master.cf").write_text(_MASTER.format(port=port))
    return directory / "conf"
