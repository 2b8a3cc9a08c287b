"""registry.credential_changes: what may be done to a credential, and the rules.

Functions of an open transaction, so that reading, deciding and writing are one step for all processes. A wrong call
raises UsageError or NotFound and changes nothing.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from relay.errors import UsageError
from relay.mail.address import Pattern
from relay.registry import credential_rows as rows
from relay.registry.credentials import TRANSITIONS, Credential, State, StoredSecret, Verb, digest_of
from relay.registry.nearest import not_found
from relay.registry.secrets import Random, new_login, new_secret

Adjust = Callable[[Credential], Credential]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FIXED = ("name", "login", "secrets", "trials", "created_at", "state")
_LIMITS = ("limit_second", "limit_hour", "limit_day", "limit_recipients", "limit_first_time")


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential and its new secret, which exists nowhere else: show it once."""

    credential: Credential
    secret: str

    def __repr__(self) -> str:
        """Without the secret: a repr ends in logs and tracebacks."""
        return f"Issued({self.credential.name!r})"


def unchanged(credential: Credential) -> Credential:
    return credential


def add(
    connection: sqlite3.Connection,
    name: str,
    senders: Iterable[Pattern],
    adjust: Adjust,
    *,
    now: float,
    random: Random,
) -> Issued:
    """A new credential with its first secret; `adjust` sets what is not to be as by default."""
    _check_name(name)
    if rows.find(connection, name) is not None:
        raise UsageError(
            f'there is a credential "{name}" already',
            remedy=f"Choose another name, or give it a new secret with: relay credential rotate {name}",
        )
    secret = new_secret(random)
    fresh = Credential(
        name=name,
        login=_free_login(connection, name, random),
        secrets=(StoredSecret(digest_of(secret), now),),
        senders=tuple(senders),
        created_at=now,
    )
    credential = _adjusted(fresh, adjust)
    rows.insert(connection, credential)
    return Issued(credential, secret)


def update(connection: sqlite3.Connection, name: str, adjust: Adjust) -> Credential:
    """`adjust` gets the credential as it is now, whatever other processes did, and returns it as it shall be."""
    credential = _adjusted(existing(connection, name), adjust)
    rows.update(connection, credential)
    return credential


def turn(connection: sqlite3.Connection, name: str, verb: Verb) -> Credential:
    """Hold, release or revoke. To do it again changes nothing; a revoked credential does not come back."""
    credential = existing(connection, name)
    state = TRANSITIONS.get((credential.state, verb))
    if state is None:
        raise _revoked(credential)
    turned = replace(credential, state=state)
    rows.update(connection, turned)
    return turned


def rotate(connection: sqlite3.Connection, name: str, *, keep_until: float, now: float, random: Random) -> Issued:
    """A new secret; the one before it stays valid until `keep_until` (0: until rotation is finished).

    While two are valid there is no third: either may be the one that is in use.
    """
    credential = existing(connection, name)
    if credential.state is State.REVOKED:
        raise _revoked(credential)
    valid = [stored for stored in credential.secrets if stored.is_valid(now=now)]
    if len(valid) > 1:
        raise UsageError(
            f'credential "{credential.name}" has two valid secrets already',
            remedy=f"End the older one, once nothing uses it, with: relay credential rotate {credential.name} --finish",
        )
    secret = new_secret(random)
    stored = StoredSecret(digest_of(secret), now)
    rows.delete_secrets(connection, set(credential.secrets) - set(valid))
    for old in valid:
        rows.limit_secret(connection, old, valid_until=keep_until)
    rows.add_secret(connection, credential.name, stored)
    return Issued(existing(connection, name), secret)


def finish_rotation(connection: sqlite3.Connection, name: str) -> Credential:
    """Only the newest secret stays valid."""
    credential = existing(connection, name)
    rows.delete_secrets(connection, credential.secrets[1:])
    return replace(credential, secrets=credential.secrets[:1])


def add_trial(connection: sqlite3.Connection, name: str, *, valid_until: float, now: float, random: Random) -> Issued:
    """A secret for a test message; `end_trial` ends it before its time. What could not send mail gets none."""
    credential = existing(connection, name)
    if credential.state is State.REVOKED:
        raise _revoked(credential)
    if not credential.is_usable(now=now):
        raise UsageError(
            f'credential "{credential.name}" has expired',
            remedy=f"Give it more time with: relay credential set {credential.name} --expires DURATION",
        )
    secret = new_secret(random)
    rows.add_trial(connection, credential.name, StoredSecret(digest_of(secret), now, valid_until=valid_until))
    return Issued(existing(connection, name), secret)


def end_trial(connection: sqlite3.Connection, secret: str, *, now: float) -> None:
    rows.delete_trial(connection, digest_of(secret), now=now)


def remove(connection: sqlite3.Connection, name: str) -> Credential:
    credential = existing(connection, name)
    rows.delete(connection, credential.name)
    return credential


def existing(connection: sqlite3.Connection, name: str) -> Credential:
    """Raises NotFound with the nearest name."""
    credential = rows.find(connection, name)
    if credential is None:
        raise not_found("credential", name, among=rows.names(connection))
    return credential


def _revoked(credential: Credential) -> UsageError:
    return UsageError(
        f'credential "{credential.name}" was revoked, which is for good',
        remedy="Make a new one with: relay credential add",
    )


def _adjusted(credential: Credential, adjust: Adjust) -> Credential:
    adjusted = adjust(credential)
    for name in _FIXED:
        if getattr(adjusted, name) != getattr(credential, name):
            raise ValueError(f"an adjustment does not change {name}")
    for name in _LIMITS:
        if getattr(adjusted, name) < 0:
            raise UsageError(f"{name} = {getattr(adjusted, name)} is negative", remedy="Write 0 for no limit.")
    if not adjusted.senders and not adjusted.null_sender:
        raise UsageError(
            "the credential may send as nobody", remedy="Allow at least one sender: --from '*@example.com'"
        )
    if not _NAME.fullmatch(adjusted.stream):
        raise UsageError(f'"{adjusted.stream}" is no name for a stream', remedy=_NAME_REMEDY)
    return adjusted


_NAME_REMEDY = "Use 1 to 63 letters, digits, dots, hyphens and underscores, the first a letter or digit."


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f'"{name}" is no name for a credential', remedy=_NAME_REMEDY)


def _free_login(connection: sqlite3.Connection, name: str, random: Random) -> str:
    while rows.login_is_taken(connection, login := new_login(name, random)):
        pass
    return login
