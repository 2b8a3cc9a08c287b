"""cli.dry_run_words: what came of a dry run in a sentence, and for each provider what held its mail back."""

from typing import TYPE_CHECKING

from relay.cli import printing

if TYPE_CHECKING:
    from relay.dryrun.result import Outcome, Result, Sent
    from relay.dryrun.traffic import Traffic

_PACES = {"messages_per_second": 1, "messages_per_minute": 60, "messages_per_hour": 3600, "messages_per_day": 86400}
_SOON_AFTER = 1.1  # times as long as submitting took
_OFTEN = 0.005  # of the messages: a rate that is never more than probed is refused once in a hundred
_IN_THE_WAY = 1.5  # times what went through: a rate that is not used up is no brake


def sentence(result: "Result") -> str:
    """As in "100000 messages at 1000/s (google 60%, yahoo 40%), 2 workers: finished in 3 h 10 min, ..."."""
    traffic = result.traffic
    total = sum(traffic.mix.values())
    discarded = f", {result.discarded} discarded by a route" if result.discarded else ""
    mix = ", ".join(f"{name} {share / total:.0%}" for name, share in traffic.mix.items())
    return (
        f"{printing.count(traffic.messages, 'message')} at {traffic.rate:g}/s ({mix}),"
        f" {printing.count(result.workers, 'worker')}:"
        f" finished in {printing.span(result.finished)}, deferred {result.deferred_share:.1%},"
        f" peak {printing.count(result.peak, 'connection')}{discarded}."
    )


def held_back(result: "Result", outcome: "Outcome") -> str:
    """The first that applies: the strongest brake of those that it met."""
    refusals, learnt = outcome.refusals, outcome.learnt
    if outcome.warming:
        return f"the warm-up of {' and '.join(outcome.warming)}"
    if outcome.suspended:
        return f"suspended {_times(outcome.suspended)} by a rule, for what it said to too much mail"
    if refusals.get("reputation"):
        return f"the breaker: it refused {_times(refusals['reputation'])} for our reputation"
    if refusals.get("rate", 0) >= _OFTEN * outcome.messages:
        refused = f"more was refused {_times(refusals['rate'])}"
        return f"its rate: it took {outcome.rate:.3g} messages/s, {refused}{_needs(result.traffic, outcome)}"
    if learnt is not None and learnt.ceiling is not None:
        sessions = f"{learnt.ceiling:.0f} learnt{_each(outcome)}"
        return f"its sessions: {sessions}, {_times(refusals.get('connections', 0))} refused"
    return _of_ours(result, outcome)


def _of_ours(result: "Result", outcome: "Outcome") -> str:
    """Nothing that it said was in the way."""
    limits = outcome.limits
    for name, seconds in _PACES.items():
        limit = getattr(limits, name)
        most = limit * max(1, len(outcome.sources))
        if 0 < most < outcome.messages and most <= _IN_THE_WAY * outcome.rate * seconds:
            return _limit(outcome, name)
    if outcome.refusals.get("greylist"):
        return "greylisting: each message waits for its next attempt"
    if outcome.finished <= _SOON_AFTER * result.submitted:
        return "nothing: it went as it was submitted"
    if outcome.peak >= limits.connections * outcome.places:
        return _limit(outcome, "connections")
    if outcome.deferred:
        return f"retries of what it put off, {printing.count(outcome.deferred, 'attempt')}"
    return "nothing: there was little, and connections grow with what is taken"


def _limit(outcome: "Outcome", name: str) -> str:
    """As in "connections = 5 (profile "google")"."""
    return f"{name} = {getattr(outcome.limits, name):g}{_each(outcome)} ({outcome.limits.origins[name]})"


def _each(outcome: "Outcome") -> str:
    """Whose a limit is."""
    return f" for each of {len(outcome.sources)} addresses" if len(outcome.sources) > 1 else ""


def warm_up(sent: "Sent") -> str:
    """Of an address, as it was at the beginning."""
    if not sent.day:
        return "none"
    set_back = f", set back {_times(sent.setbacks)}" if sent.setbacks else ""
    return f"day {sent.day}, {sent.per_day} for each provider{set_back}"


def _needs(traffic: "Traffic", outcome: "Outcome") -> str:
    """What was submitted for it."""
    rate = traffic.rate * outcome.messages / traffic.messages
    return f"; {rate:.0f}/s are submitted" if rate >= 10 else f"; {rate:.2g}/s are submitted"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
