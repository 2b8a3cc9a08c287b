"""bench.postfix_server: a Postfix on loopback, to compare with: with opendkim as its milter, or with STARTTLS and AUTH.

As Debian ships them, with configuration, queue, log and milter socket of their own; nothing of the system's is touched
or read. The milter is on a Unix socket: on TCP each message waits for Nagle's algorithm. Before its 250 Postfix syncs a
message's file, not the directory that names it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.server import DOMAIN, Server, stop, takes_mail, wait_until
from tests.bench.signatures import make_key
from tests.peers.certificates import Authority

SIGNED = "Postfix + opendkim"
WITH_TLS = "Postfix, STARTTLS + AUTH, unsigned"
POSTFIX = shutil.which("postfix") or "/usr/sbin/postfix"
OPENDKIM = shutil.which("opendkim") or "/usr/sbin/opendkim"
SELECTOR = "postfix"
HOSTNAME = "postfix.example"
LOGIN, SECRET = "app", "a-secret-of-the-benchmark"

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
myhostname = {hostname}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
relayhost = [127.0.0.1]:{sink}
smtp_tls_security_level =
"""

_WITH_MILTER = """
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_milters = unix:{directory}/milter
milter_default_action = tempfail
"""

# Nobody is in mynetworks, so that only AUTH lets mail through; all sessions come from one address.
_WITH_TLS = """
mynetworks =
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
"""

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN
sasldb_path: {directory}/sasldb
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
def signed(directory: Path, *, port: int, sink: int) -> Iterator[Server]:
    """RSA-2048. Everything goes to the sink."""
    record = make_key(directory / "dkim.pem")
    milter = subprocess.Popen([OPENDKIM, "-f", "-x", str(_opendkim_conf(directory))])
    try:
        wait_until((directory / "milter").exists, what="opendkim listens", process=milter)
        _configure(directory, port=port, sink=sink, more=_WITH_MILTER.format(directory=directory))
        with _running(directory) as process:
            wait_until(lambda: takes_mail(port), what="Postfix takes mail", process=process)
            keys = {f"{SELECTOR}._domainkey.{DOMAIN}": record}
            yield Server(SIGNED, port, (process.pid, milter.pid), keys, software=(_postfix(), _opendkim()))
    finally:
        stop(milter)


@contextmanager
def with_tls(directory: Path, *, port: int, sink: int) -> Iterator[Server]:
    """AUTH PLAIN, and a P-256 certificate. It does not sign. Everything goes to the sink."""
    issued = Authority(directory).issue("127.0.0.1")
    more = _WITH_TLS.format(certificate=issued.certificate, key=issued.key)
    _configure(directory, port=port, sink=sink, more=more)
    _add_login(directory)
    with _running(directory) as process:
        takes = partial(takes_mail, port, login=LOGIN, secret=SECRET)
        wait_until(takes, what="Postfix takes mail after AUTH", process=process)
        software = (_postfix(),)
        yield Server(WITH_TLS, 0, (process.pid,), {}, software, starttls=port, login=LOGIN, secret=SECRET)


def _postfix() -> str:
    postconf = [shutil.which("postconf") or "/usr/sbin/postconf", "-dh", "mail_version"]
    return f"Postfix {subprocess.run(postconf, capture_output=True, text=True, check=True).stdout.strip()}"


def _opendkim() -> str:
    told = subprocess.run([OPENDKIM, "-V"], capture_output=True, text=True, check=True).stdout
    return f"opendkim {told.splitlines()[0].rpartition('v')[2]}"


def _opendkim_conf(directory: Path) -> Path:
    path = directory / "opendkim.conf"
    path.write_text(_OPENDKIM.format(directory=directory, domain=DOMAIN, selector=SELECTOR))
    return path


def _add_login(directory: Path) -> None:
    database = directory / "sasldb"
    program = shutil.which("saslpasswd2") or "/usr/sbin/saslpasswd2"
    subprocess.run([program, "-p", "-c", "-f", database, "-u", HOSTNAME, LOGIN], input=SECRET.encode(), check=True)
    shutil.chown(database, "postfix")
    settings = directory / "conf" / "sasl"  # where Debian's Postfix looks, whatever cyrus_sasl_config_path says
    settings.mkdir()
    (settings / "smtpd.conf").write_text(_SASL.format(directory=directory))


def _configure(directory: Path, *, port: int, sink: int, more: str) -> None:
    """more: settings besides those that every Postfix here has."""
    directory.chmod(0o755)
    for name in ("conf", "queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    main = _MAIN.format(directory=directory, sink=sink, hostname=HOSTNAME)
    (directory / "conf" / "main.cf").write_text(main + more)
    (directory / "conf" / "master.cf").write_text(_MASTER.format(port=port))


@contextmanager
def _running(directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Needs root: its processes run as Postfix's own user."""
    if os.geteuid() != 0:
        raise RuntimeError("Postfix can only be started by root")
    command = [POSTFIX, "-c", str(directory / "conf")]
    process = subprocess.Popen([*command, "start-fg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        # A signal would end the script that waits for master(8), and leave master behind.
        subprocess.run([*command, "stop"], check=True, capture_output=True)
        process.wait(20)
