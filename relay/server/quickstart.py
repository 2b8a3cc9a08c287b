"""server.quickstart: from nothing to a delivered message, asking nothing.

Writes only what is missing: relay.toml, a local CA with a certificate, a sender domain with its keys, a first
credential; a certificate only where its own relay.toml names it. The ports are 587 and 465 where they may be bound,
else 2587 and 2465. Mail for the reserved domain
simulator.test goes to the built-in receiver through an ordinary route, so what the test message shows is the true way
out.
"""

import datetime as dt
import json
import socket
from dataclasses import dataclass
from pathlib import Path

from relay.config.load import load
from relay.config.models import Config
from relay.dkim import generate_keys, public_record
from relay.errors import ConfigError, PermissionRefused
from relay.mail.address import Pattern
from relay.registry.domains import NewKey
from relay.registry.store import Registry
from relay.server.certificates import CA, CHAIN, KEY, make_local_tls
from relay.server.directory import prepare
from relay.spool.lock import Lock

DOMAIN = "quickstart.test"
CREDENTIAL = "first"
USUAL = (587, 465)
UNPRIVILEGED = (2587, 2465)
HTTP = range(8025, 8035)
TLS = "tls"  # its directory, beside relay.toml

TEMPLATE = """\
# Written by the quick start. relay.toml.example has every key with its default.

[server]
hostname = "{hostname}"
spool = {spool}
workers = 1

[submission]                     # loopback only: put "0.0.0.0:{starttls}" here to take mail from other machines
starttls = ["127.0.0.1:{starttls}"]
tls = ["127.0.0.1:{tls}"]

[tls]                            # made for this machine; put a real certificate here when there is one
certificate = {certificate}
key = {key}
ca = {ca}

[[route]]                        # the built-in receiving server, for trying things out
recipient_domain = "simulator.test"
via = "simulator"

[[route]]                        # nobody receives mail at the domain the test message comes from, so reports end here
recipient_domain = "{domain}"
via = "discard"

[http]
listen = "127.0.0.1:{http}"

[log]
file = {log}
"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """secret: the first credential's, "" when it was made at an earlier start. usual_ports: 587 and 465 could be
    bound, where it was for the quick start to choose.
    """

    config: Config
    login: str
    secret: str
    usual_ports: bool
    wrote_config: bool
    domain: str = DOMAIN


async def prepare_all(config_path: Path, *, spool: Path, now: float) -> Prepared:
    """Raises RelayError; where a server runs, nothing was made for it then."""
    wrote, config = _files(config_path, spool, now)
    lock = Lock(config.server.spool / "lock")
    try:
        login, secret = await _first_credential(config, now)
    finally:
        lock.release()
    ports = {int(listen.rpartition(":")[2]) for listen in config.submission.starttls}
    return Prepared(config, login, secret, usual_ports=not wrote or USUAL[0] in ports, wrote_config=wrote)


def _files(config_path: Path, spool: Path, now: float) -> tuple[bool, Config]:
    """Whether relay.toml was missing, and what it says."""
    try:
        wrote = not config_path.exists()
        if wrote:
            _write_config(config_path, spool)
        config = load(config_path)
        _refuse_without_logins(config, config_path)
        if _is_ours(config, config_path) and not config.tls.certificate.exists():
            moment = dt.datetime.fromtimestamp(now, tz=dt.UTC)
            make_local_tls(config.tls.certificate.parent, hostname=config.server.hostname, now=moment)
    except OSError as error:
        raise PermissionRefused(
            f"{error.filename or config_path} cannot be written: {error.strerror}",
            remedy="make the directory writable for this user, or name another file with --config",
        ) from error
    prepare(config.server.spool)
    return wrote, config


def _refuse_without_logins(config: Config, path: Path) -> None:
    if not config.submission.starttls and not config.submission.tls:
        raise ConfigError(
            f"{path} has no listener for logins, which the quick start is about",
            remedy='add one under [submission], such as: starttls = ["127.0.0.1:587"]; or start with: relay serve',
        )


def _is_ours(config: Config, path: Path) -> bool:
    """Whether the certificate is the one that the quick start makes; an operator's own is never made up."""
    directory = path.absolute().parent / TLS
    return (config.tls.certificate, config.tls.key) == (directory / CHAIN, directory / KEY)


def _write_config(path: Path, spool: Path) -> None:
    starttls, tls = USUAL if all(_may_bind(port) for port in USUAL) else UNPRIVILEGED
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = spool.resolve()
    text = TEMPLATE.format(
        hostname=_hostname(),
        spool=_quoted(directory),
        log=_quoted(directory / "relay.log"),
        starttls=starttls,
        tls=tls,
        certificate=_quoted(f"{TLS}/{CHAIN}"),
        key=_quoted(f"{TLS}/{KEY}"),
        ca=_quoted(f"{TLS}/{CA}"),
        http=next((port for port in HTTP if _may_bind(port)), HTTP[0]),
        domain=DOMAIN,
    )
    path.write_text(text, encoding="utf-8")


def _quoted(text: Path | str) -> str:
    return json.dumps(str(text), ensure_ascii=False)  # a basic string of TOML's


def _may_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _hostname() -> str:
    """This machine's name if it is one that mail can use, else "localhost.localdomain"."""
    name = socket.gethostname().lower()
    labels = name.split(".")
    usable = len(labels) > 1 and all(
        label and label.replace("-", "a").isalnum() and label.isascii() for label in labels
    )
    return name if usable else "localhost.localdomain"


async def _first_credential(config: Config, now: float) -> tuple[str, str]:
    """(login, secret): the secret is "" when the credential was there."""
    registry = await Registry.open(config.server.spool, now=lambda: now)
    try:
        if DOMAIN not in registry.snapshot().domains:
            await registry.add_domain(DOMAIN, _keys())
        known = registry.snapshot().credentials.get(CREDENTIAL)
        if known is not None:
            return known.login, ""
        issued = await registry.add_credential(CREDENTIAL, senders=(Pattern.parse(f"*@{DOMAIN}"),))
        return issued.credential.login, issued.secret
    finally:
        await registry.close()


def _keys() -> tuple[NewKey, NewKey]:
    rsa, ed25519 = generate_keys()
    return NewKey("rsa", rsa, public_record(rsa)), NewKey("ed25519", ed25519, public_record(ed25519))
