"""What dry runs are tested with: a relay.toml, one provider, and what came of it."""

from typing import Any

from relay.config.models import Config
from relay.config.providers import Provider
from relay.dryrun.plan import plan_of
from relay.dryrun.result import Outcome, Result
from relay.dryrun.run import run
from relay.dryrun.traffic import Traffic
from relay.server.plan import Plan

PLAIN = {"name": "house", "domains": ["dest.example"], "mx": "mx.dest.example", "latency": "50ms", "takes": "150ms"}
BUSY = "421 4.7.0 Too many concurrent connections from %s"
SLOWLY = "451 4.7.1 Rate limit exceeded, try again later"
HOUR = 3600.0


def config(**tables: Any) -> Config:
    return Config.model_validate({"server": {"hostname": "relay.example.com"}, **tables})


def plan(**tables: Any) -> Plan:
    return plan_of(config(**tables))


def house(**tables: Any) -> Provider:
    return Provider.model_validate(PLAIN | tables)


def dry(provider: Provider, messages: int, *, settings: Plan | None = None, **more: Any) -> Result:
    """more: of the traffic, and of `run`."""
    of_run = {name: more.pop(name) for name in ("sources", "begins") if name in more}
    workers, seed = more.pop("workers", 1), more.pop("seed", 1)
    traffic = Traffic(messages, {provider.name: 1.0}, **more)
    return run(settings or plan(), [provider], traffic, workers=workers, seed=seed, **of_run)


def only(result: Result) -> Outcome:
    (outcome,) = result.outcomes
    return outcome
