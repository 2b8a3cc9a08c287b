"""server.plan: relay.toml and the files beside it, read together; one value, replaced as a whole on reload."""

from dataclasses import dataclass
from pathlib import Path

from relay.config.models import Config
from relay.config.profiles import SiteRules
from relay.config.rules import load_profiles, load_rules
from relay.delivery.routing import Routes
from relay.delivery.warming import WarmUps
from relay.errors import ConfigError, PermissionRefused
from relay.mail.rules import Rules
from relay.reception import Terms


@dataclass(frozen=True, slots=True)
class Plan:
    """warm_ups: of our addresses. token: the HTTP pages' bearer token, "" where none is required."""

    config: Config
    rules: Rules
    sites: SiteRules
    routes: Routes
    warm_ups: WarmUps
    terms: Terms
    token: str


@dataclass(slots=True)
class Current:
    """The plan in force, for those that ask each time."""

    plan: Plan

    @property
    def config(self) -> Config:
        return self.plan.config


def read_plan(config: Config, *, simulator_port: int) -> Plan:
    """Raises ConfigError, PermissionRefused: the text names the file."""
    return Plan(
        config=config,
        rules=load_rules(config.delivery.rules, config.suppression),
        sites=SiteRules(load_profiles(config.delivery.profiles), config.site, config.smarthost, config.delivery.tls),
        routes=Routes(config.route, config.smarthost, config.source, simulator_port=simulator_port),
        warm_ups=WarmUps(config.warm_up, config.source),
        terms=Terms.of(config),
        token=_token(config.http.token_file) if config.http.token_file is not None else "",
    )


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        kind = PermissionRefused if isinstance(error, PermissionError) else ConfigError
        raise kind(
            f"[http] token_file: {path} cannot be read: {error.strerror}", remedy="let the relay's user read it"
        ) from error
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token or " " in token:
        raise ConfigError(
            f"[http] token_file: {path} holds no token", remedy=f"make one: openssl rand -hex 16 > {path}"
        )
    return token
