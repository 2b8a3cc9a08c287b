"""server.plan: relay.toml and the files beside it, read together; one value, replaced as a whole on reload."""

from dataclasses import dataclass

from relay.config.models import Config
from relay.config.rules import Profiles, load_profiles, load_rules
from relay.delivery.routing import Routes
from relay.mail.rules import Rules
from relay.reception import Terms


@dataclass(frozen=True, slots=True)
class Plan:
    config: Config
    rules: Rules
    profiles: Profiles
    routes: Routes
    terms: Terms


def read_plan(config: Config, *, simulator_port: int) -> Plan:
    """Raises ConfigError, PermissionRefused: the text names the file."""
    return Plan(
        config=config,
        rules=load_rules(config.delivery.rules, config.suppression),
        profiles=load_profiles(config.delivery.profiles),
        routes=Routes(config.route, simulator_port=simulator_port),
        terms=Terms.of(config),
    )
