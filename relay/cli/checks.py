"""cli.checks: what `relay check` looks at, besides what loading relay.toml finds: files, machine, network, registry.

Each check yields Findings: an error keeps the server from starting or mail from moving, a warning costs trust or will
become one. Nothing is changed; what only the service can see is said to be not checked.
"""

import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from relay.cli import blocklist_checks, shards, smarthost_checks, source_checks
from relay.cli.finding import Finding, Grade
from relay.cli.invocation import Invocation
from relay.errors import RelayError

if TYPE_CHECKING:
    from relay.config.models import Certificate, Config
    from relay.registry.snapshot import Snapshot
    from relay.resolver import Resolver

_SOON = 14 * 86400.0  # a certificate that expires within is worth a warning
_FILES_BESIDE = 500  # descriptors for databases, listeners, logs and DNS


def _error(subject: str, error: RelayError) -> Finding:
    return Finding(Grade.ERROR, subject, error.text, error.remedy)


async def look(here: Invocation) -> AsyncIterator[Finding]:
    """Everything, in the order in which a start would meet it."""
    for finding in (*_files(here), *_limits(here.config), *_spool(here)):
        yield finding
    running = await _is_running(here)
    sources = (*source_checks.on_this_machine(here.config), *source_checks.warm_ups(here.config, now=here.now()))
    for finding in (*_ports(here.config, running=running), *sources):
        yield finding
    of_addresses = (_names(here), source_checks.in_dns(here), blocklist_checks.look(here))
    for findings in (*of_addresses, smarthost_checks.look(here), _databases(here)):
        async for finding in findings:
            yield finding


def _files(here: Invocation) -> Iterator[Finding]:
    from relay.config.files import refuse_unsafe_files
    from relay.config.rules import load_profiles, load_rules
    from relay.delivery.routing import Routes

    config = here.config
    try:
        refuse_unsafe_files(config)
    except RelayError as error:
        yield _error("files", error)
    for pair in _pairs(config):
        yield _certificate(here, pair)
    for name, read in (
        ("bounce rules", lambda: load_rules(config.delivery.rules, config.suppression)),
        ("profiles", lambda: load_profiles(config.delivery.profiles)),
        ("routes", lambda: Routes(config.route, config.smarthost, config.source, simulator_port=0)),
    ):
        try:
            read()
        except RelayError as error:
            yield _error(name, error)
        else:
            yield Finding(Grade.OK, name, "readable")


def _pairs(config: "Config") -> "list[Certificate]":
    from relay.config.models import Certificate

    if not config.submission.starttls and not config.submission.tls:
        return []
    return [Certificate(certificate=config.tls.certificate, key=config.tls.key), *config.tls.additional]


def _certificate(here: Invocation, pair: "Certificate") -> Finding:
    from relay.cli.printing import span, when
    from relay.config.files import CREDENTIALS_VARIABLE
    from relay.submission.tls import load

    if CREDENTIALS_VARIABLE in f"{pair.certificate}{pair.key}":
        return Finding(Grade.OK, "certificate", f"{pair.certificate} is systemd's to hand over, and not checked here")
    try:
        loaded = load(pair)
    except RelayError as error:
        return _error("certificate", error)
    left = loaded.expires_at - here.now()
    if left <= 0:
        return Finding(Grade.ERROR, "certificate", f"{pair.certificate} expired {when(loaded.expires_at)}", "Renew it.")
    if left < _SOON:
        return Finding(Grade.WARNING, "certificate", f"{pair.certificate} expires in {span(left)}", "Renew it.")
    hostname = here.config.server.hostname.lower()
    if pair.certificate == here.config.tls.certificate and not _covers(loaded.names, hostname):
        remedy = f"Clients that connect to {hostname} will refuse it; get one for that name, or name it in [server]."
        return Finding(Grade.WARNING, "certificate", f"{pair.certificate} is for {', '.join(loaded.names)}", remedy)
    return Finding(Grade.OK, "certificate", f"{pair.certificate} is valid until {when(loaded.expires_at)}")


def _covers(names: Sequence[str], hostname: str) -> bool:
    """RFC 6125 6.4.3: a wildcard stands for the first label."""
    return hostname in names or f"*.{hostname.partition('.')[2]}" in names


def _limits(config: "Config") -> Iterator[Finding]:
    """Every session and connection is a file descriptor; the server raises its soft limit to the hard one."""
    needed = config.submission.limits.sessions + config.delivery.connections + _FILES_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        remedy = f"Set LimitNOFILE={needed} in the unit (or nofile in limits.conf), or lower sessions and connections."
        yield Finding(
            Grade.WARNING, "open files", f"the limit is {hard}; all limits together may need {needed}", remedy
        )
    else:
        yield Finding(Grade.OK, "open files", "the limit is high enough")


def _spool(here: Invocation) -> Iterator[Finding]:
    from relay.server.machine import disk_space

    try:
        directory = here.spool
        if not os.access(directory, os.W_OK):
            raise RelayError(f"{directory} cannot be written", remedy="Is the file system mounted read-only?")
        for reader in shards.readers(here):
            reader.totals()
    except RelayError as error:
        yield _error("spool", error)
        return
    space = disk_space(directory)
    if space.is_low(here.config.submission.limits):
        yield Finding(Grade.ERROR, "disk", "too little is free: clients get 452", "Make room on the spool's disk.")
    else:
        yield Finding(Grade.OK, "spool", f"{directory} can be used")


async def _is_running(here: Invocation) -> bool:
    try:
        owners = await shards.ask_owners(here, "status")
    except RelayError:
        return False
    return any(answer is not None for answer in owners.values())


def _ports(config: "Config", *, running: bool) -> Iterator[Finding]:
    if running:
        yield Finding(Grade.OK, "listeners", "the server is running and has them")
        return
    submission = config.submission
    trusted = (each.listen for each in submission.trusted)
    for listen in (*submission.starttls, *submission.tls, *trusted, config.http.listen):
        yield _port(listen)


def _port(listen: str) -> Finding:
    from relay.config.consistency import listen_address

    address, port = listen_address(listen)
    with closing(socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.version == 6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((str(address), port))
        except OSError as error:
            return _unbound(listen, port, error)
    return Finding(Grade.OK, "listener", f"{listen} is free")


def _unbound(listen: str, port: int, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        remedy = f"Find its owner: ss -ltnp 'sport = :{port}'; or change the port in relay.toml."
        return Finding(Grade.ERROR, "listener", f"{listen} is in use by another program", remedy)
    if error.errno == errno.EACCES:  # the unit gives the service CAP_NET_BIND_SERVICE, which this command has not
        return Finding(Grade.OK, "listener", f"{listen} is not checked: this user may not bind it, the service may")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        remedy = "Correct it in relay.toml; `ip address` lists what there is."
        return Finding(Grade.ERROR, "listener", f"{listen} is no address of this machine", remedy)
    return Finding(Grade.ERROR, "listener", f"{listen} cannot be bound: {error.strerror}", "Change it in relay.toml.")


async def _names(here: Invocation) -> AsyncIterator[Finding]:
    from relay.resolver import Resolver

    try:
        resolver = Resolver(here.config.dns, here.now)
    except RelayError as error:
        yield _error("DNS", error)
        return
    yield await _own_name(here.config.server.hostname, resolver)


async def _own_name(hostname: str, resolver: "Resolver") -> Finding:
    from relay.resolver import Failure, Found

    answer = await resolver.addresses(hostname)
    if isinstance(answer, Failure):
        remedy = "Is the resolver running? [dns] nameservers names others."
        return Finding(Grade.ERROR, "DNS", f"it does not answer: {answer.text}", remedy)
    if isinstance(answer, Found):
        return Finding(Grade.OK, "DNS", f"{hostname} is {', '.join(map(str, answer.records))}")
    remedy = f"Publish an A or AAAA record for {hostname}; receivers look it up."
    return Finding(Grade.WARNING, "DNS", f"{hostname} has no address", remedy)


async def _databases(here: Invocation) -> AsyncIterator[Finding]:
    """A start refuses one that a newer relay wrote."""
    try:
        numbers = shards.numbers(here)
    except RelayError:
        return  # `_spool` has told
    for findings in (_registry(here), _suppressions(here), *(_journal(here.spool, number) for number in numbers)):
        async for finding in findings:
            yield finding


async def _registry(here: Invocation) -> AsyncIterator[Finding]:
    from relay.registry.snapshot import EMPTY
    from relay.registry.store import FILE_NAME

    snapshot = EMPTY
    try:
        version, newest = _versions(here.spool / FILE_NAME, "registry")
        if 0 < version < newest:
            yield _older("registry", FILE_NAME, version, newest)
            return
        if version:
            async with here.registry() as registry:
                snapshot = registry.snapshot()
    except RelayError as error:
        yield _error("registry", error)
        return
    for finding in (*_credentials(here.config, snapshot), *_domains(snapshot)):
        yield finding


async def _suppressions(here: Invocation) -> AsyncIterator[Finding]:
    from relay.registry.suppressions import FILE_NAME

    try:
        version, newest = _versions(here.spool / FILE_NAME, "suppression")
        if 0 < version < newest:
            yield _older("suppressions", FILE_NAME, version, newest)
        elif version:
            async with here.suppressions():
                pass
    except RelayError as error:
        yield _error("suppressions", error)


def _versions(path: Path, name: str) -> tuple[int, int]:
    """Of a database's file, 0 when it is not there, and of this relay. To open it would make or migrate it."""
    from relay.registry.database import schema, version_of

    return version_of(path), len(schema(name))


def _older(subject: str, file: str, version: int, newest: int) -> Finding:
    text = f"{file} has version {version}; a start of this relay, or any command on it, makes that {newest}"
    remedy = "An older relay does not open it then. To be able to go back, first: relay spool backup DIR"
    return Finding(Grade.WARNING, subject, text, remedy)


async def _journal(spool: Path, shard: int) -> AsyncIterator[Finding]:
    from relay.journal.store import Journal
    from relay.spool.recovery import shard_directory

    try:
        journal = await Journal.open(shard_directory(spool, shard), damaged=lambda _path, _why: None)
    except RelayError as error:
        yield _error("journal", error)
    else:
        await journal.close()


def _credentials(config: "Config", snapshot: "Snapshot") -> Iterator[Finding]:
    """relay.toml and the registry name each other's things; only here both are known."""
    from relay.config.consistency import streams

    for name, credential in snapshot.credentials.items():
        if credential.stream not in streams(config):
            remedy = f"Add [stream.{credential.stream}] to relay.toml, or: relay credential set {name} --stream bulk"
            yield Finding(Grade.ERROR, "credential", f'"{name}" has the unknown stream "{credential.stream}"', remedy)
    named = [(f"the trusted listener {each.listen}", each.credential) for each in config.submission.trusted]
    named += [("a route", route.credential) for route in config.route if route.credential]
    for what, name in named:
        if name not in snapshot.credentials:
            remedy = f"Make it: relay credential add {name} --from PATTERN; or correct relay.toml."
            yield Finding(
                Grade.ERROR, "credential", f'{what} names the credential "{name}", which does not exist', remedy
            )


def _domains(snapshot: "Snapshot") -> Iterator[Finding]:
    for name, domain in snapshot.domains.items():
        unseen = [key.selector for key in domain.signing_keys if not key.seen_at]
        if unseen:
            remedy = f"Publish its records and run: relay domain check {name}"
            yield Finding(
                Grade.WARNING, "domain", f"{name} signs with {', '.join(unseen)}, not yet seen in DNS", remedy
            )
    if not snapshot.domains:
        yield Finding(Grade.WARNING, "domain", "there is no sender domain", "Make one: relay domain add DOMAIN")
