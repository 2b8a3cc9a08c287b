"""registry.snapshot: what the registry held at one moment, for reading without IO.

Immutable: a session may keep one for as long as it decides one thing, and asks for the current one for the next.
Lookups are dictionary lookups. `revision` grows with each change that matters here; last use does not count as one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from relay.registry.credentials import Credential, StoredSecret, digest_of
from relay.registry.domains import SenderDomain

_NOBODY = Credential(
    name="",
    login="",
    senders=(),
    created_at=0.0,
    secrets=(StoredSecret(digest_of(""), 0.0), StoredSecret(digest_of(""), 0.0)),
)


@dataclass(frozen=True, slots=True)
class Login:
    """What a session submits by. secret: the one it came in with, None on a listener where nobody logs in."""

    credential: Credential
    secret: StoredSecret | None = None

    @property
    def sha256(self) -> str:
        """Of the secret, as stored; "" without one."""
        return self.secret.sha256 if self.secret is not None else ""

    @property
    def is_trial(self) -> bool:
        """By an operator on this machine, for a test message."""
        return self.secret in self.credential.trials

    def allows_client(self, address: str) -> bool:
        return self.is_trial or self.credential.allows_client(address)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """credentials: by name. logins: the same by login. domains: by name in A-labels, lower case."""

    credentials: Mapping[str, Credential]
    logins: Mapping[str, Credential]
    domains: Mapping[str, SenderDomain]
    revision: int = 0

    @classmethod
    def of(cls, credentials: Iterable[Credential], domains: Iterable[SenderDomain], *, revision: int = 0) -> "Snapshot":
        known = tuple(credentials)
        return cls(
            credentials=MappingProxyType({each.name: each for each in known}),
            logins=MappingProxyType({each.login: each for each in known}),
            domains=MappingProxyType({each.name: each for each in domains}),
            revision=revision,
        )

    def authenticate(self, login: str, secret: str, *, now: float) -> Login | None:
        """None for unknown, wrong, revoked and expired, which look and last the same."""
        credential = self.logins.get(login, _NOBODY)
        stored = credential.verify(secret, now=now)
        usable = credential.is_usable(now=now) and credential is not _NOBODY
        return Login(credential, stored) if stored is not None and usable else None

    def current(self, login: Login, *, now: float) -> Login | None:
        """As it is now, for a session that is open; None when credential or secret is gone, or not good any more."""
        credential = self.credentials.get(login.credential.name)
        if credential is None or credential.login != login.credential.login or not credential.is_usable(now=now):
            return None
        if login.secret is None:
            return Login(credential)
        secret = credential.stored(login.secret.sha256, now=now)
        return Login(credential, secret) if secret is not None else None

    def signing_domain(self, from_domain: str) -> SenderDomain | None:
        """The From domain if it has a key that signs, else its nearest parent that has one (RFC 6376 3.5, d=; RFC
        7489 3.1.1).

        from_domain: A-labels, lower case.
        """
        name = from_domain
        while name:
            domain = self.domains.get(name)
            if domain is not None and domain.signing_keys:
                return domain
            name = name.partition(".")[2]
        return None


EMPTY = Snapshot.of((), ())
