"""registry.snapshot: what the registry held at one moment, for reading without IO.

Immutable: a session may keep one for as long as it decides one thing, and asks for the current one for the next.
Lookups are dictionary lookups. `revision` grows with each change that matters here; last use does not count as one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from msgspec import Struct

from relay.registry.credentials import Credential, StoredSecret, digest_of
from relay.registry.domains import SenderDomain
from relay.registry.setbacks import Setback
from relay.registry.suspensions import Suspension

_NOBODY = Credential(
    name="",
    login="",
    senders=(),
    created_at=0.0,
    secrets=(StoredSecret(digest_of(""), 0.0), StoredSecret(digest_of(""), 0.0)),
)


class Login(Struct, frozen=True):
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

    def is_good(self, *, now: float) -> bool:
        """Neither revoked nor expired, as far as its credential and its secret say."""
        return self.credential.is_usable(now=now) and (self.secret is None or self.secret.is_valid(now=now))

    def allows_client(self, address: str) -> bool:
        return self.is_trial or self.credential.allows_client(address)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """credentials: by name. logins: the same by login. domains: by name in A-labels, lower case. signing: the names of
    those that have a key that signs. suspensions: of sites and addresses, those that are over too.
    """

    credentials: Mapping[str, Credential]
    logins: Mapping[str, Credential]
    domains: Mapping[str, SenderDomain]
    signing: frozenset[str]
    suspensions: tuple[Suspension, ...] = ()
    setbacks: tuple[Setback, ...] = ()
    revision: int = 0

    @classmethod
    def of(
        cls,
        credentials: Iterable[Credential],
        domains: Iterable[SenderDomain],
        suspensions: Iterable[Suspension] = (),
        setbacks: Iterable[Setback] = (),
        *,
        revision: int = 0,
    ) -> "Snapshot":
        known, owned = tuple(credentials), tuple(domains)
        return cls(
            credentials=MappingProxyType({each.name: each for each in known}),
            logins=MappingProxyType({each.login: each for each in known}),
            domains=MappingProxyType({each.name: each for each in owned}),
            signing=frozenset(each.name for each in owned if each.signing_keys),
            suspensions=tuple(suspensions),
            setbacks=tuple(setbacks),
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
        if credential is login.credential:  # the very one: nothing but time can have changed it
            return login if login.is_good(now=now) else None
        if credential is None or credential.login != login.credential.login or not credential.is_usable(now=now):
            return None
        if login.secret is None:
            return Login(credential)
        secret = credential.stored(login.secret.sha256, now=now)
        return Login(credential, secret) if secret is not None else None

    def suspended(self, *, now: float) -> dict[str, Suspension]:
        """The sites that nothing is sent to now, by name."""
        return {each.site: each for each in self.suspensions if not each.source and each.is_in_force(now=now)}

    def resting(self, *, now: float) -> dict[str, Suspension]:
        """The addresses that nothing is sent from now, because an operator said so."""
        return {each.source: each for each in self.suspensions if each.source and each.is_in_force(now=now)}

    def signing_domain(self, from_domain: str) -> SenderDomain | None:
        """The From domain if it has a key that signs, else its nearest parent that has one (RFC 6376 3.5, d=; RFC
        7489 3.1.1).

        from_domain: A-labels, lower case.
        """
        name = from_domain
        while name:
            if name in self.signing:
                return self.domains[name]
            name = name.partition(".")[2]
        return None


EMPTY = Snapshot.of((), ())
