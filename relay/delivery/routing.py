"""delivery.routing: which way a recipient goes. Pure.

The routes of relay.toml in order, first match wins, direct to MX by default. A route that names a host is a
`Smarthost`: its host may be a loopback or private address, because the operator wrote it down. "simulator" is the
built-in receiving server, a smarthost on a loopback port that the server fills in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relay.config.models import Route
from relay.errors import ConfigError, PermissionRefused
from relay.mail.address import ascii_domain


@dataclass(frozen=True, slots=True)
class Direct:
    """To the MX hosts of the recipient's domain."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Taken and thrown away; journaled as delivered, so that a test set-up shows what it would have sent."""


@dataclass(frozen=True, slots=True)
class Smarthost:
    """host: a DNS name or an address literal without brackets. secret: "" where no login is configured.

    Two that differ in anything share nothing: what one demands of a session another may not.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    login: str = ""
    secret: str = ""


Hop = Direct | Smarthost
Way = Hop | Discard
DIRECT = Direct()


@dataclass(frozen=True, slots=True)
class Traits:
    """What a route can match on. Domains are lower-case; sender_domain is "" for the null sender."""

    recipient_domain: str
    sender_domain: str
    credential: str
    stream: str


class Routes:
    """The compiled table. `simulator_port` is where the built-in receiver listens, 0 when it does not run."""

    def __init__(self, routes: Sequence[Route], *, simulator_port: int) -> None:
        """Raises ConfigError, PermissionRefused for a secret that cannot be read."""
        self._table = tuple((route, _way(route, simulator_port)) for route in routes)

    def choose(self, traits: Traits) -> Way:
        for route, way in self._table:
            if _matches(route, traits):
                return way
        return DIRECT


def _matches(route: Route, traits: Traits) -> bool:
    return (
        _domain_matches(route.recipient_domain, traits.recipient_domain)
        and _domain_matches(route.sender_domain, traits.sender_domain)
        and route.credential in ("", traits.credential)
        and route.stream in ("", traits.stream)
    )


def _domain_matches(pattern: str, domain: str) -> bool:
    """Compared as A-labels, as everywhere."""
    pattern, domain = _comparable(pattern), _comparable(domain)
    if pattern.startswith("*."):
        return domain.endswith(pattern[1:])
    return pattern in ("", domain)


def _comparable(domain: str) -> str:
    domain = domain.lower()
    if domain.isascii():
        return domain
    star = "*." if domain.startswith("*.") else ""
    return star + ascii_domain(domain.removeprefix("*."))


def _way(route: Route, simulator_port: int) -> Way:
    if route.via == "direct":
        return DIRECT
    if route.via == "discard":
        return Discard()
    if route.via == "simulator":
        return Smarthost(host="127.0.0.1", port=simulator_port, security="none")
    host, _, port = route.via.removeprefix("smtp://").rpartition(":")
    secret = _read_secret(route.secret_file) if route.secret_file else ""
    return Smarthost(host=host.strip("[]"), port=int(port), security=route.security, login=route.login, secret=secret)


def _read_secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        kind = PermissionRefused if isinstance(error, PermissionError) else ConfigError
        raise kind(
            f"[[route]] secret_file: {path} cannot be read: {error.strerror}", remedy="let the relay's user read it"
        ) from error
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise ConfigError(
            f"[[route]] secret_file: {path} holds no secret", remedy="write it there, as one line of text"
        )
    return secret
