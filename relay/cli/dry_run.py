"""cli.dry_run: `relay simulate --dry-run`: what would become of so much mail: a sentence, a table, a plot."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli import dry_run_words, printing
from relay.cli.invocation import DEFAULT_CONFIG, Invocation
from relay.errors import PermissionRefused, UsageError

if TYPE_CHECKING:
    from relay.config.models import Config
    from relay.config.providers import Provider
    from relay.dryrun.result import Outcome, Result, Sent
    from relay.dryrun.traffic import Traffic

_HOSTNAME = "relay.example.com"  # where there is no relay.toml


def dry_run(
    here: Invocation,
    known: "Mapping[str, Provider]",
    traffic: "Traffic",
    *,
    workers: int | None,
    seed: int,
    on: date | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Raises ConfigError, UsageError, PermissionRefused."""
    from relay.cli.dry_run_plot import svg
    from relay.dryrun.leaving_out import left_out
    from relay.dryrun.plan import plan_of
    from relay.dryrun.run import run
    from relay.dryrun.sources import addresses
    from relay.server.setting import workers_of

    config = _config(here)
    missing = left_out(config)
    if plot is not None:
        _write(plot, "")  # a run takes its time, and is not to end with this
    behaviours = [known[name] for name in traffic.mix]
    result = run(
        plan_of(config),
        behaviours,
        traffic,
        sources=addresses(config.source),
        workers=workers or workers_of(config),
        seed=seed,
        begins=_begins(config, on),
    )
    if plot is not None:
        _write(plot, svg(result))
    if as_json:
        printing.as_json(_value(result) | {"left_out": missing})
        return
    printing.line(dry_run_words.sentence(result))
    printing.line()
    columns = ("provider", "messages", "finished", "deferred", "failed", "connections", "messages/s", "held back by")
    printing.table(columns, (_row(result, each) for each in result.outcomes), empty="")
    if any(any(each.messages.values()) for each in result.sources):
        printing.line()
        heads = ("address", "pool", *result.sources[0].messages, "connections", "warm-up")
        printing.table(heads, (_address_row(each) for each in result.sources), empty="")
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


def _begins(config: "Config", on: date | None) -> float:
    """POSIX seconds: at 08:00 UTC, of a day that matters where an address is in its warm-up. Raises UsageError."""
    from relay.dryrun.run import EPOCH

    if any(source.warm_up is not None for source in config.source):
        day = on or datetime.now(UTC).date()
        return datetime.combine(day, time(hour=8), UTC).timestamp()
    if on is not None:
        raise UsageError("--on is for addresses in a warm-up, and relay.toml has none", remedy="Leave it out.")
    return EPOCH


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


def _address_row(sent: "Sent") -> tuple[object, ...]:
    return (sent.address, sent.pool, *sent.messages.values(), sent.peak, dry_run_words.warm_up(sent))


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
        "addresses": [_address_value(each) for each in result.sources],
    }


def _address_value(sent: "Sent") -> dict[str, Any]:
    return {
        "address": sent.address,
        "pool": sent.pool,
        "messages": dict(sent.messages),
        "peak_connections": sent.peak,
        "warm_up_day": sent.day or None,
        "warm_up_messages_per_day": sent.per_day or None,
        "setbacks": sent.setbacks,
    }


def _provider_value(result: "Result", outcome: "Outcome") -> dict[str, Any]:
    learnt = outcome.learnt
    return {
        "provider": outcome.provider,
        "smarthosts": list(outcome.smarthosts),
        "addresses": dict(outcome.sources),
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
