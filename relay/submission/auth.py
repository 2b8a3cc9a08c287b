"""submission.auth: whether a login and a secret are good, from here, now.

Unknown login, wrong secret, revoked, expired and a network the credential does not allow are answered alike, 535 5.7.8
(RFC 4954 6), and take the same time: `registry.Snapshot.authenticate` verifies against something whatever the login.
The reason is for our log and metrics only. Trouble of ours is 454 4.7.0, never a verdict on the client.
"""

from dataclasses import dataclass
from enum import StrEnum

from relay.mail.reply import Reply
from relay.registry.credentials import Credential
from relay.registry.snapshot import Login
from relay.registry.usage import KNOWN_SECONDS, Use
from relay.submission.client import Client
from relay.submission.sasl import Attempt
from relay.submission.services import Services

INVALID = Reply(535, "5.7.8", "Authentication credentials invalid")
LOCKED = Reply(421, "4.7.0", "Too many failed logins; try again later")
TROUBLE = Reply(454, "4.7.0", "Temporary authentication failure; try again later")


class Failure(StrEnum):
    """Why a login failed, as metrics and log say it."""

    UNKNOWN = "unknown_login"
    WRONG = "wrong_secret"
    REVOKED = "revoked"
    EXPIRED = "expired"
    NETWORK = "network"
    LOCKED = "locked"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Denied:
    """reply: what to say. Only what is no fault of ours and was not answered at once counts as a `guess`."""

    reply: Reply
    failure: Failure

    @property
    def is_guess(self) -> bool:
        return self.failure not in (Failure.LOCKED, Failure.TROUBLE)


def check(attempt: Attempt, client: Client, services: Services) -> Login | Denied:
    """Decide one attempt and tell the guard."""
    try:
        return _check(attempt, client, services)
    except Exception as error:  # whatever it is, it is ours: RFC 4954 6, 454
        services.log.exception("authentication broke", error, client=client.address)
        return Denied(TROUBLE, Failure.TROUBLE)


def _check(attempt: Attempt, client: Client, services: Services) -> Login | Denied:
    now, snapshot = services.now(), services.snapshot()
    if _is_locked(attempt.login, client, services, now):
        return Denied(LOCKED, Failure.LOCKED)
    login = snapshot.authenticate(attempt.login, attempt.secret, now=now)
    if login is None or not login.allows_client(client.address):
        services.guard.failed(address=client.key, login=attempt.login, now=now)
        return Denied(INVALID, _failure(snapshot.logins.get(attempt.login), verified=login is not None, now=now))
    services.guard.succeeded(address=client.key, login=attempt.login, now=now)
    if not login.is_trial:
        services.record_use(Use(login.credential.name, now, client.address, login.sha256))
    return login


def _is_locked(login: str, client: Client, services: Services, now: float) -> bool:
    guard = services.guard
    if guard.locked_pair(address=client.key, login=login, now=now):
        return True
    if not guard.locked(address=client.key, now=now):
        return False
    known_at = guard.known_at(address=client.key, login=login) or services.last_login_from(login, client.address)
    return now - known_at > KNOWN_SECONDS


def _failure(known: Credential | None, *, verified: bool, now: float) -> Failure:
    if verified:
        return Failure.NETWORK
    if known is None:
        return Failure.UNKNOWN
    if known.is_usable(now=now):
        return Failure.WRONG
    return Failure.EXPIRED if known.expires_at and now >= known.expires_at else Failure.REVOKED
