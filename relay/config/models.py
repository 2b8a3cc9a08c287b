"""config.models: one frozen model per table of relay.toml; the defaults live here and nowhere else.

Sizes are octets; `config.values` has the other kinds of values. Each field's description is the comment it gets in
relay.toml.example, which is generated from these models and tested equal.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from relay.config.sources import Blocklist, Source, WarmUp, pool_name
from relay.config.values import Duration, Listen, Network, Table

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


EhloKeyword = Literal["CHUNKING", "PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE", "LIMITS"]
TlsNeed = Literal["none", "opportunistic", "required", "verified"]


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
    tls: TlsNeed = Field(default="opportunistic", description="Of MX hosts of which neither a [[site]] table nor a profile says it; the words are those of [[site]].")
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


SLOWEST = 0.001  # messages per second


class Numbers(Table):
    """Limits of a site, and what is believed of its servers, of which each may be left to somebody else. Limits are for
    one of our addresses, machine-wide.
    """

    connections: int | None = Field(default=None, ge=1, examples=[5], description="At once.")
    messages_per_connection: int | None = Field(default=None, ge=1, examples=[50], description="Then another connection is opened.")
    messages_per_second: float | None = Field(default=None, ge=0, examples=[50], description="Evenly spaced; 0 for no limit.")
    messages_per_minute: int | None = Field(default=None, ge=0, examples=[1000], description="In any 60 seconds; 0 for no limit.")
    messages_per_hour: int | None = Field(default=None, ge=0, examples=[50000], description="In any 3600 seconds; 0 for no limit.")
    recipients: int | None = Field(default=None, ge=1, examples=[100], description="In one transaction.")
    idle: Duration | None = Field(default=None, examples=["30s"], description="How long a connection without work is kept.")
    discard_ehlo_keywords: tuple[EhloKeyword, ...] | None = Field(
        default=None, examples=[["CHUNKING"]], description="What is offered there and does not work; not used in sessions opened from then on."
    )

    @field_validator("messages_per_second")
    @classmethod
    def _some_time(cls, rate: float | None) -> float | None:
        if rate and rate < SLOWEST:
            raise ValueError(f"write 0 for no limit, {SLOWEST} or more, or what is meant as messages_per_hour")
        return rate


class MxNumbers(Numbers):
    """Limits of MX hosts, and what TLS mail to them needs."""

    tls: TlsNeed | None = Field(
        default=None, examples=["required"],
        description="opportunistic: STARTTLS where it is offered and works, unverified, else clear text. required: never clear text, mail waits. "
        "verified: as that, with a certificate for the MX host's name. none: always clear text. Of a smarthost its security says it.",
    )


class SmarthostNumbers(Numbers):
    """Limits of a smarthost's site."""

    recipients: int | None = Field(default=None, ge=1, examples=[50], description="In one transaction; 50 where nothing else is said.")
    messages_per_day: int | None = Field(
        default=None, ge=0, examples=[50000], description="In any 24 hours; 0 for no limit. The day's and the hour's are kept over a restart."
    )


class Access(Table):
    """How a smarthost is reached."""

    host: str = Field(examples=["smtp.example.net"], description="Its DNS name, or an address.")
    port: int = Field(default=587, ge=1, le=65535, description="587 with starttls, 465 with tls; some also take 2525 or 2587.")
    security: Literal["starttls", "tls", "none"] = Field(default="starttls", description="starttls and tls verify the certificate.")
    ca: Path | None = Field(default=None, examples=["smarthost-ca.pem"], description="A CA file to trust here besides the system's.")
    login: str = Field(default="", examples=["relay"], description="AUTH PLAIN or LOGIN, whichever is offered.")
    secret_file: Path | None = Field(default=None, examples=["smarthost.secret"], description="A file with the secret, not readable by others.")


class Smarthost(SmarthostNumbers, Access):  # the keys of the last base come first
    """A server that takes mail for others, by the name that routes give it: a provider's, or one of your own. A provider
    counts a message once for each recipient, and so do the limits here; they hold for all routes and workers together. A
    limit that is left out is the one of its host: by [[site]], a profile, or the default.
    """

    @model_validator(mode="after")
    def _login_is_whole_and_safe(self) -> "Smarthost":
        _refuse_unsafe_login(self)
        return self


class Route(Table):
    """Where mail goes: the first match wins, a field left out matches everything; default: direct to MX."""

    recipient_domain: str = Field(default="", examples=["example.com"], description='"example.com", or "*.example.com" for all below it.')
    sender_domain: str = Field(default="", description="Of the envelope sender.")
    credential: str = Field(default="", description="A credential's name.")
    stream: str = Field(default="", description="A stream's name.")
    via: str | tuple[str, ...] = Field(
        examples=["smtp://smarthost.example.net:587"],
        description='"direct", "discard", "simulator"; a smarthost\'s name, or a list of them, each for when those before it take no '
        'mail: ["provider", "other"]; or "smtp://host:587", a smarthost without a table of its own.',
    )
    weights: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="Shares of the messages, one for each smarthost; 0 is for when the others take no mail."
    )
    pool: str = Field(default="", description='With "direct": the pool of [[source]] addresses it leaves from; default: "default".')
    login: str = Field(default="", examples=["relay"], description='Of "smtp://host:587": as under [smarthost.NAME].')
    secret_file: Path | None = Field(default=None, examples=["smarthost.secret"], description="... likewise.")
    security: Literal["starttls", "tls", "none"] = Field(default="starttls", description="... likewise.")

    @property
    def smarthosts(self) -> tuple[str, ...]:
        """Those it names, in order; () for every other way."""
        names = (self.via,) if isinstance(self.via, str) else self.via
        return () if _is_way(names[0]) else names

    @field_validator("pool")
    @classmethod
    def _pool_is_a_name(cls, pool: str) -> str:
        return pool_name(pool) if pool else ""

    @field_validator("via")
    @classmethod
    def _via_is_known(cls, via: str | tuple[str, ...]) -> str | tuple[str, ...]:
        names = (via,) if isinstance(via, str) else via
        if not names:
            raise ValueError("name one smarthost or more")
        for name in names:
            if not (SMARTHOST_NAME.fullmatch(name) or (_is_way(name) and isinstance(via, str))):
                raise ValueError(_no_way(name, is_listed=not isinstance(via, str)))
        if len(set(names)) < len(names):
            raise ValueError("name each smarthost once")
        return via

    @model_validator(mode="after")
    def _fits_its_way(self) -> "Route":
        _refuse_unsafe_login(self)
        if self.smarthosts and self.model_fields_set & {"login", "secret_file", "security"}:
            raise ValueError(f"login, secret_file and security of a smarthost belong in [smarthost.{self.smarthosts[0]}]")
        if self.pool and self.via != "direct":
            raise ValueError('pool goes with via = "direct"; mail to smarthosts leaves from the pool "default"')
        if self.weights and len(self.weights) != len(self.smarthosts):
            raise ValueError("write as many weights as via names smarthosts, or none")
        if self.weights and not any(self.weights):
            raise ValueError("one of the weights must be 1 or more")
        return self


SMARTHOST_NAME = re.compile(r"(?!(?:direct|discard|simulator)\Z)[a-z0-9][a-z0-9_-]{0,62}")
_INLINE = re.compile(r"smtp://(\[[0-9a-fA-F:.]+\]|[^:/\[\]\s]+):\d{1,5}")


def _is_way(via: str) -> bool:
    """Rather than a smarthost's name."""
    return via in ("direct", "discard", "simulator") or _INLINE.fullmatch(via) is not None


def _no_way(via: str, *, is_listed: bool) -> str:
    if is_listed and _is_way(via):
        return f'"{via}" stands alone; a list has names of [smarthost.NAME] tables'
    return f'"{via}" is no way; write "direct", "discard", "simulator", "smtp://host:587" or a smarthost\'s name'


def _refuse_unsafe_login(table: Smarthost | Route) -> None:
    """Raises ValueError."""
    if (table.login == "") != (table.secret_file is None):
        raise ValueError("login and secret_file go together")
    if table.login and table.security == "none":
        raise ValueError('a login is never sent in clear text; set security = "starttls" or "tls"')


class Which(Table):
    """Which sites are meant: by a host's name or by a domain's."""

    mx_suffix: str = Field(default="", examples=["mx.example.com"], description="The sites that have an MX host, or a smarthost, of this name or below it ...")
    domain: str = Field(default="", description="... or the one that this recipient domain's MX hosts make, for all domains with just these hosts.")


class Site(MxNumbers, Which):  # as above
    """Limits of receiving sites that are to differ from their profile's. The first table that fits a site wins; what it
    does not name comes from the profile.
    """


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
    warm_up: WarmUp = WarmUp()
    blocklist: tuple[Blocklist, ...] = ()
    smarthost: dict[str, Smarthost] = Field(default={})
    route: tuple[Route, ...] = ()
    site: tuple[Site, ...] = ()
    stream: dict[str, Stream] = Field(default={})
    http: Http = Http()
    journal: Journal = Journal()
    suppression: Suppressions = Suppressions()
    log: Log = Log()
