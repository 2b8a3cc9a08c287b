"""registry.credentials: one application's right to submit mail, as values.

A credential has a name for people, a login and one or two secrets for the application. Secrets are generated, 128
random bits, and only their SHA-256 is kept: no key that could be lost, and no slow hash on a path that some clients
take once per message (a password hash protects guessable secrets; these are not). Two secrets may be valid at once,
so that an application can be given a new one without an interruption.

A credential never changes in place: the registry makes a new one, and a session that holds an old one asks the
snapshot again.
"""

import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address
from types import MappingProxyType

from relay.mail.address import Pattern

Network = IPv4Network | IPv6Network


class State(StrEnum):
    """What a credential's mail meets."""

    ACTIVE = "active"
    HOLD = "hold"  # accepted, and held in the queue
    REVOKED = "revoked"  # refused as if the credential did not exist; there is no way back


class Verb(StrEnum):
    """What an operator does to a credential's state."""

    HOLD = "hold"
    RELEASE = "release"
    REVOKE = "revoke"


# What is absent is refused: a revoked credential does not come back, since its secret may be known to others.
TRANSITIONS = MappingProxyType(
    {
        (State.ACTIVE, Verb.HOLD): State.HOLD,
        (State.ACTIVE, Verb.RELEASE): State.ACTIVE,
        (State.ACTIVE, Verb.REVOKE): State.REVOKED,
        (State.HOLD, Verb.HOLD): State.HOLD,
        (State.HOLD, Verb.RELEASE): State.ACTIVE,
        (State.HOLD, Verb.REVOKE): State.REVOKED,
        (State.REVOKED, Verb.REVOKE): State.REVOKED,
    }
)


class Reports(StrEnum):
    """Who gets delivery reports."""

    SENDER = "sender"
    NONE = "none"


class OnSuppressed(StrEnum):
    """What a suppressed recipient meets at RCPT."""

    REFUSE = "refuse"
    ACCEPT = "accept"  # and journaled as suppressed, never sent


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """What is kept of a secret. valid_until: POSIX seconds, 0 for as long as the credential; last_used_at: 0 for
    never.
    """

    sha256: str
    created_at: float
    last_used_at: float = 0.0
    valid_until: float = 0.0

    def is_valid(self, *, now: float) -> bool:
        return self.valid_until == 0.0 or now < self.valid_until


@dataclass(frozen=True, slots=True)
class Credential:
    """One application's right to send.

    secrets: newest first, at most two. trials: secrets for test messages, valid for minutes. networks: where a client
    may connect from, empty for anywhere. stream: its name. limit_*: messages per second, hour and day, recipients per
    message, and first-time recipients per day; 0 for no limit of its own. expires_at: POSIX seconds, 0 for never.
    last_used_at, last_used_from: of the last login, written about once a minute, so a running relay's snapshot may be
    older than the truth.
    """

    name: str
    login: str
    secrets: tuple[StoredSecret, ...]
    senders: tuple[Pattern, ...]
    created_at: float
    networks: tuple[Network, ...] = ()
    stream: str = "transactional"
    limit_second: int = 0
    limit_hour: int = 0
    limit_day: int = 0
    limit_recipients: int = 0
    limit_first_time: int = 0
    expires_at: float = 0.0
    state: State = State.ACTIVE
    null_sender: bool = False
    allow_unsigned: bool = False
    encode_8bit: bool = False
    reports: Reports = Reports.SENDER
    suppressed: OnSuppressed = OnSuppressed.REFUSE
    trials: tuple[StoredSecret, ...] = ()
    last_used_at: float = field(default=0.0, compare=False)
    last_used_from: str = field(default="", compare=False)

    def verify(self, secret: str, *, now: float) -> StoredSecret | None:
        """The stored secret that `secret` is, or None. The time taken does not depend on how much of it is right."""
        return self.stored(digest_of(secret), now=now)

    def stored(self, sha256: str, *, now: float) -> StoredSecret | None:
        """The secret that is stored so, if it is valid."""
        matching = None
        for stored in (*self.secrets, *self.trials):
            if hmac.compare_digest(stored.sha256, sha256) and stored.is_valid(now=now):
                matching = stored
        return matching

    def is_usable(self, *, now: float) -> bool:
        """Neither revoked nor expired; mail of a held credential is accepted."""
        return self.state is not State.REVOKED and (self.expires_at == 0.0 or now < self.expires_at)

    def allows_client(self, address: str) -> bool:
        """address: the client's IP address in text; an IPv4-mapped IPv6 address counts as the IPv4 one."""
        if not self.networks:
            return True
        parsed = ip_address(address)
        client = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(client in network for network in self.networks)


def digest_of(secret: str) -> str:
    """What is stored of a secret: SHA-256 in hexadecimal. Lone surrogates (undecodable input) are hashed, not
    refused.
    """
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
