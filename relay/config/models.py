"""config.models: one frozen model per table of relay.toml; the defaults live here and nowhere else.

Durations are written "90s", "10m", "4h", "5d" and become seconds (float). Sizes are octets. Each field's description
is the comment it gets in relay.toml.example, which is generated from these models and tested equal.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)


def parse_duration(value: object) -> object:
    """"10m" → 600.0. A bare number is seconds. Raises ValueError for anything else."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f'"{value}" is no duration; write a number and a unit, such as "90s", "10m", "4h" or "5d"')
    return float(match[1]) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """600.0 → "10m": the largest unit that divides it."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds / _UNITS[unit])}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration), Field(ge=0)]


def parse_network(value: object) -> object:
    """"10.0.0.0/8" → its network. A bare number is none, although `ipaddress` would take it."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is no network; write it in quotes, as "10.0.0.0/8"')  # noqa: TRY004  pydantic wants it so
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'"{value}" is no network; write it as "10.0.0.0/8" or "2001:db8::/32"') from None
    if ipaddress.ip_interface(value).ip != network.network_address:
        raise ValueError(f'"{value}" has bits set after its prefix; write "{network}"')
    return network


def parse_address(value: object) -> object:
    """"203.0.113.10" → its address."""
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return value
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError(f'"{value}" is no IP address; write it as "203.0.113.10" or "2001:db8::10"') from None


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(parse_network)]
Address = Annotated[ipaddress.IPv4Address | ipaddress.IPv6Address, BeforeValidator(parse_address)]


def parse_listen(value: object) -> object:
    """"127.0.0.1:2525" or "[::]:587"; the address must be literal, the port 0 to 65535."""
    if not isinstance(value, str):
        return value
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(bare)
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError(f'"{value}" is no listen address; write ADDRESS:PORT, such as "0.0.0.0:587" or "[::]:587"') from None
    return value


Listen = Annotated[str, BeforeValidator(parse_listen)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        """No key is a switch: one that is chosen by name can get a third choice. (pydantic would take true for 1.)"""
        if isinstance(value, bool):
            raise ValueError("no key takes true or false; write a number, or text in quotes")  # noqa: TRY004
        return value


class Server(Table):
    """This relay and its processes."""

    hostname: str = Field(examples=["relay.example.com"], description="The name this relay has in DNS: greeting, EHLO, Received, message ids.")
    spool: Path = Field(default=Path("/var/lib/relay"), description="Where mail, credentials, keys and the journal are kept.")
    workers: int | Literal["auto"] = Field(default="auto", description='Worker processes; "auto" is one per core, at most 8.')
    drain: Duration = Field(default=30.0, description="How long SIGTERM waits for transactions under way.")

    @field_validator("workers")
    @classmethod
    def _workers_in_range(cls, workers: int | str) -> int | str:
        if isinstance(workers, int) and not 1 <= workers <= 64:
            raise ValueError('write "auto" or a number from 1 to 64')
        return workers


class Trusted(Table):
    """A listener without TLS and AUTH, for what can do neither: printers, a local daemon."""

    listen: Listen = Field(examples=["127.0.0.1:2525"], description="ADDRESS:PORT of a listener without TLS and AUTH.")
    networks: tuple[Network, ...] = Field(min_length=1, examples=[["127.0.0.0/8"]], description="Who may connect; never public, no wider than /16 off loopback.")
    credential: str = Field(examples=["local"], description="Its sender rules, limits and stream apply to all that comes in here.")
    behind_nat: Literal["refused", "accepted"] = Field(
        default="refused",
        description='A listener off loopback needs "accepted": a container\'s proxy can make the whole Internet look local.',
    )
    sessions: int = Field(default=500, ge=1, description="Sessions at once.")


class SubmissionLimits(Table):
    """Times and counts of the client side."""

    handshake: Duration = Field(default=30.0, description="TLS handshake.")
    unauthenticated: Duration = Field(default=60.0, description="From connect to AUTH.")
    unauthenticated_commands: int = Field(default=20, ge=1, description="Commands before AUTH.")
    command: Duration = Field(default=300.0, description="Idle time between commands and data blocks after AUTH.")
    data_rate: int = Field(default=1024, ge=0, description="Octets per second a DATA must average over `data_window`.")
    data_window: Duration = Field(default=300.0, description="The time over which data_rate is averaged.")
    sessions: int = Field(default=2000, ge=1, description="Sessions in all; at most half of them unauthenticated.")
    sessions_per_address: int = Field(default=50, ge=1, description="Unauthenticated sessions per address (IPv6: per /64).")
    sessions_per_credential: int = Field(default=200, ge=1, description="Sessions per credential.")
    auth_failures_per_session: int = Field(default=3, ge=1, description="Failures that end a session.")
    auth_failures: int = Field(default=10, ge=1, description="Failures within auth_window that lock an address or login out.")
    auth_window: Duration = Field(default=600.0, description="The time over which failures are counted.")
    recipients: int = Field(default=1000, ge=100, description="Recipients per message (RFC 5321 4.5.3.1.8: at least 100).")
    received_fields: int = Field(default=100, ge=10, description="Received fields before a message is taken for looping.")
    header_size: int = Field(default=256 * KIB, ge=KIB, description="Octets of header.")
    line_length: int = Field(default=64 * KIB, ge=998, description="Octets of one line.")
    disk_free_share: float = Field(default=0.10, ge=0, le=1, description="452 when less than this share is free and ...")
    disk_free_size: int = Field(default=10 * GIB, ge=0, description="... less than this many octets too; and for inodes the share alone.")


class Submission(Table):
    """The client side: where applications submit their mail."""

    starttls: tuple[Listen, ...] = Field(default=("0.0.0.0:587", "[::]:587"), description="Listeners with STARTTLS.")
    tls: tuple[Listen, ...] = Field(default=("0.0.0.0:465", "[::]:465"), description="Listeners with implicit TLS.")
    trusted: tuple[Trusted, ...] = Field(default=(), description="Listeners for what can do neither TLS nor AUTH.")
    proxy_networks: tuple[Network, ...] = Field(default=(), description="Proxies whose PROXY protocol header (v1, v2) is required and believed.")
    message_size: int = Field(default=25 * MIB, ge=64 * KIB, description="SIZE: octets of one message.")
    bare_newlines: Literal["refuse", "normalize"] = Field(default="refuse", description="What is done with a CR or LF alone.")
    received_client: Literal["hidden", "shown"] = Field(default="hidden", description="The client's address in the Received field.")
    limits: SubmissionLimits = Field(default=SubmissionLimits(), description="Times and counts.")


class Certificate(Table):
    """One more certificate, chosen by the name the client asks for (SNI)."""

    certificate: Path = Field(examples=["tls/other.example.org.pem"], description="PEM file: the certificate, then its chain.")
    key: Path = Field(examples=["tls/other.example.org.key"], description="PEM file, not readable by others.")


class Tls(Table):
    """The certificate of the submission listeners. Paths are relative to this file; ${CREDENTIALS_DIRECTORY} is
    systemd's.
    """

    certificate: Path = Field(default=Path("/etc/relay/tls/fullchain.pem"), description="PEM file: the certificate, then its chain. Reread when it changes.")
    key: Path = Field(default=Path("/etc/relay/tls/privkey.pem"), description="PEM file, not readable by others.")
    ca: Path | None = Field(default=None, examples=["tls/ca.pem"], description="A CA file to name in printed settings, when clients do not know the issuer.")
    additional: tuple[Certificate, ...] = Field(default=(), description="More certificates, chosen by SNI.")


class Dns(Table):
    """How names are looked up."""

    nameservers: tuple[Listen, ...] = Field(default=(), description="ADDRESS:PORT; default: the system's.")
    timeout: Duration = Field(default=5.0, description="For one question, all tries together.")
    cache_size: int = Field(default=50_000, ge=100, description="Answers kept.")
    minimum_ttl: Duration = Field(default=5.0, description="An answer is kept at least so long.")
    maximum_ttl: Duration = Field(default=86400.0, description="... and at most so long.")
    stale: Duration = Field(default=3600.0, description="How long past its TTL an answer serves while servers fail.")


class Retry(Table):
    """When a deferred recipient is tried again."""

    ladder: tuple[Duration, ...] = Field(
        default=(60.0, 300.0, 600.0, 1200.0, 2400.0, 3600.0, 7200.0, 14400.0), min_length=1,
        description="Waits after the first, second, ... deferral; the last one repeats.",
    )
    jitter: float = Field(default=0.2, ge=0, lt=1, description="Each wait is changed by up to this share.")
    obey: Duration = Field(default=3600.0, description='The longest "try again in ..." of a reply that is obeyed.')
    expire: Duration = Field(default=432000.0, gt=0, description="A recipient undelivered so long ends with a report.")
    delay_report: Duration = Field(default=14400.0, description="When NOTIFY=DELAY gets its one report.")


class DeliveryTimeouts(Table):
    """How long a receiving server may take (RFC 5321 4.5.3.2)."""

    connect: Duration = Field(default=30.0, gt=0, description="TCP connect.")
    greeting: Duration = Field(default=300.0, gt=0, description="RFC 5321 4.5.3.2.1.")
    ehlo: Duration = Field(default=300.0, gt=0, description="EHLO, STARTTLS and the handshake.")
    mail: Duration = Field(default=300.0, gt=0, description="RFC 5321 4.5.3.2.2.")
    rcpt: Duration = Field(default=300.0, gt=0, description="RFC 5321 4.5.3.2.3.")
    data: Duration = Field(default=120.0, gt=0, description="RFC 5321 4.5.3.2.4.")
    block: Duration = Field(default=180.0, gt=0, description="RFC 5321 4.5.3.2.5.")
    final: Duration = Field(default=600.0, gt=0, description="RFC 5321 4.5.3.2.6.")


class Delivery(Table):
    """The way out."""

    port: int = Field(default=25, ge=1, le=65535, description="The port of MX hosts.")
    allow_networks: tuple[Network, ...] = Field(default=(), description="Loopback and private addresses that may be delivered to.")
    tls: Literal["opportunistic", "none"] = Field(default="opportunistic", description="STARTTLS to MX hosts, unverified, where offered.")
    ipv6: Literal["auto", "prefer", "avoid"] = Field(default="auto", description='"auto" prefers IPv6 when this machine has a route and a PTR.')
    connections: int = Field(default=1000, ge=2, description="Connections out, machine-wide; half of them at most to sites in trouble.")
    window: int = Field(default=20_000, ge=100, description="Recipients a worker keeps in memory; the rest waits on disk.")
    addresses: int = Field(default=5, ge=1, description="Addresses of MX hosts tried in one attempt.")
    sessions: int = Field(default=2, ge=1, description="Sessions that got an answer in one attempt (Postfix: smtp_mx_session_limit).")
    recipients: int = Field(default=100, ge=1, description="Recipients in one transaction.")
    profiles: Path | None = Field(default=None, examples=["profiles.toml"], description="A profiles file instead of the one shipped.")
    rules: Path | None = Field(default=None, examples=["bounce-rules.toml"], description="A bounce rules file instead of the one shipped.")
    retry: Retry = Field(default=Retry(), description="When a deferred recipient is tried again.")
    timeouts: DeliveryTimeouts = Field(default=DeliveryTimeouts(), description="RFC 5321 4.5.3.2.")


class Source(Table):
    """An address to send from; without any, the system chooses."""

    address: Address = Field(examples=["203.0.113.10"], description="A local address to send from.")
    hostname: str = Field(examples=["mx1.relay.example.com"], description="The EHLO name; its A/AAAA and the address's PTR should agree.")


class Route(Table):
    """Where mail goes: the first match wins, a field left out matches everything; default: direct to MX."""

    recipient_domain: str = Field(default="", examples=["example.com"], description='"example.com", or "*.example.com" for all below it.')
    sender_domain: str = Field(default="", description="Of the envelope sender.")
    credential: str = Field(default="", description="A credential's name.")
    stream: str = Field(default="", description="A stream's name.")
    via: str = Field(examples=["smtp://smarthost.example.net:587"], description='"direct", "discard", "simulator" or "smtp://host:587".')
    login: str = Field(default="", examples=["relay"], description="Login at the smarthost.")
    secret_file: Path | None = Field(default=None, examples=["smarthost.secret"], description="A file with the secret, not readable by others.")
    security: Literal["starttls", "tls", "none"] = Field(default="starttls", description="starttls and tls verify the certificate.")

    @field_validator("via")
    @classmethod
    def _via_is_known(cls, via: str) -> str:
        if via not in ("direct", "discard", "simulator") and not re.fullmatch(r"smtp://(\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+):\d{1,5}", via):
            raise ValueError(f'"{via}" is no way; write "direct", "discard", "simulator" or "smtp://host:587"')
        return via

    @model_validator(mode="after")
    def _login_is_whole_and_safe(self) -> "Route":
        if (self.login == "") != (self.secret_file is None):
            raise ValueError("login and secret_file go together")
        if self.login and self.security == "none":
            raise ValueError('a login is never sent in clear text; set security = "starttls" or "tls"')
        return self


class Stream(Table):
    """What holds for one stream's mail; "transactional" and "bulk" always exist, a table here changes one or makes
    another.
    """

    expire: Duration = Field(default=432000.0, gt=0, description="A recipient of this stream undelivered so long ends with a report.")
    unknown_outcome: Literal["retry", "end"] = Field(
        default="retry", description='After a connection lost at the final dot: "retry" (at least once) or "end" (at most once).'
    )


class Http(Table):
    """Health and metrics."""

    listen: Listen = Field(default="127.0.0.1:8025", description="/healthz, /readyz and /metrics.")
    token_file: Path | None = Field(default=None, examples=["metrics.token"], description="A bearer token, required when listening beyond loopback.")


class Journal(Table):
    """What happened, for searching."""

    retention_days: int = Field(default=30, ge=1, description="Whole days the journal is kept.")


class Suppressions(Table):
    """How long a bad address is not sent to; one that does not exist, for good."""

    bad_domain: Duration = Field(default=604800.0, description="After a null MX or NXDOMAIN, or the second 5.1.2.")
    mailbox_full_messages: int = Field(default=3, ge=1, description="Full on so many messages ...")
    mailbox_full_over: Duration = Field(default=259200.0, description="... over at least so long ...")
    mailbox_full: Duration = Field(default=1209600.0, description="... suppresses for so long.")


class Log(Table):
    """JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is written.")
    file: Path | None = Field(default=None, examples=["/var/log/relay/relay.log"], description="Default: standard error. Reopened on SIGHUP.")


class Config(Table):
    """The whole of relay.toml."""

    server: Server
    submission: Submission = Submission()
    tls: Tls = Tls()
    dns: Dns = Dns()
    delivery: Delivery = Delivery()
    source: tuple[Source, ...] = ()
    route: tuple[Route, ...] = ()
    stream: dict[str, Stream] = Field(default={})
    http: Http = Http()
    journal: Journal = Journal()
    suppression: Suppressions = Suppressions()
    log: Log = Log()
