"""cli.dry_run: `relay simulate --dry-run`: what would become of so much mail: a sentence, a table, a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli import dry_run_words, printing
from relay.cli.invocation import DEFAULT_CONFIG, Invocation
from relay.errors import PermissionRefused, UsageError

if TYPE_CHECKING:
    from relay.config.models import Config
    from relay.config.providers import Provider
    from relay.dryrun.run import Outcome, Result
    from relay.dryrun.traffic import Traffic

_HOSTNAME = "relay.example.com"  # where there is no relay.toml


def dry_run(
    here: Invocation,
    known: "Mapping[str, Provider]",
    traffic: "Traffic",
    *,
    workers: int | None,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Raises ConfigError, UsageError, PermissionRefused."""
    from relay.cli.dry_run_plot import svg
    from relay.dryrun.leaving_out import left_out
    from relay.dryrun.plan import plan_of
    from relay.dryrun.run import run
    from relay.server.setting import workers_of

    config = _config(here)
    missing = left_out(config)
    if plot is not None:
        _write(plot, "")  # a run takes its time, and is not to end with this
    behaviours = [known[name] for name in traffic.mix]
    result = run(plan_of(config), behaviours, traffic, workers=workers or workers_of(config), seed=seed)
    if plot is not None:
        _write(plot, svg(result))
    if as_json:
        printing.as_json(_value(result) | {"left_out": missing})
        return
    printing.line(dry_run_words.sentence(result))
    printing.line()
    columns = ("provider", "messages", "finished", "deferred", "failed", "connections", "messages/s", "held back by")
    printing.table(columns, (_row(result, each) for each in result.outcomes), empty="")
    if missing:
        printing.line()
        printing.line("This relay.toml has what a dry run does not look at:")
        for each in missing:
            printing.line(f"  {each}")


def parse_mix(text: str, known: Mapping[str, object]) -> dict[str, float]:
    """As in "google=60,other=40". Raises UsageError."""
    remedy = f"For example --mix google=60,microsoft=40; there are {', '.join(known)}."
    mix: dict[str, float] = {}
    for word in text.split(","):
        name, _, share = word.strip().partition("=")
        if name not in known or name in mix:
            wrong = "is there twice" if name in mix else "is no provider"
            raise UsageError(f'--mix: "{name}" {wrong}', remedy=remedy)
        try:
            mix[name] = float(share)
        except ValueError:
            mix[name] = 0.0
        if not 0 < mix[name] < float("inf"):
            raise UsageError(f'--mix: "{share}" is no share of {name}', remedy=remedy)
    return mix


def _config(here: Invocation) -> "Config":
    """relay.toml's; where there is none at its usual place, the defaults. Raises ConfigError."""
    from relay.config.models import Config, Server

    if here.config_path == DEFAULT_CONFIG and not here.config_path.exists():
        printing.note(f"There is no {DEFAULT_CONFIG}: what is looked at is a relay of the defaults.")
        return Config(server=Server(hostname=_HOSTNAME))
    return here.config


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PermissionRefused(
            f"{path} cannot be written: {error.strerror}", remedy="Name another file with --plot."
        ) from None


def _row(result: "Result", outcome: "Outcome") -> tuple[object, ...]:
    return (
        outcome.provider,
        outcome.messages,
        f"after {printing.span(outcome.finished)}",
        f"{outcome.deferred_share:.1%}",
        f"{outcome.failed_share:.1%}",
        outcome.peak,
        f"{outcome.rate:.3g}",
        dry_run_words.held_back(result, outcome),
    )


def _value(result: "Result") -> dict[str, Any]:
    """Stable fields."""
    return {
        "messages": result.traffic.messages,
        "rate": result.traffic.rate,
        "workers": result.workers,
        "seed": result.seed,
        "submitted_seconds": round(result.submitted, 3),
        "finished_seconds": round(result.finished, 3),
        "deferred_share": round(result.deferred_share, 6),
        "peak_connections": result.peak,
        "discarded": result.discarded,
        "providers": [_provider_value(result, each) for each in result.outcomes],
    }


def _provider_value(result: "Result", outcome: "Outcome") -> dict[str, Any]:
    learnt = outcome.learnt
    return {
        "provider": outcome.provider,
        "smarthosts": list(outcome.smarthosts),
        "messages": outcome.messages,
        "delivered": outcome.delivered,
        "failed": outcome.failed,
        "finished_seconds": round(outcome.finished, 3),
        "deferrals": outcome.deferred,
        "deferred_share": round(outcome.deferred_share, 6),
        "failed_share": round(outcome.failed_share, 6),
        "peak_connections": outcome.peak,
        "messages_per_second": round(outcome.rate, 4),
        "refusals": dict(outcome.refusals),
        "suspended": outcome.suspended,
        "learnt_connections": learnt.ceiling if learnt is not None else None,
        "learnt_messages_per_second": (learnt.rate or None) if learnt is not None else None,
        "held_back_by": dry_run_words.held_back(result, outcome),
    }
