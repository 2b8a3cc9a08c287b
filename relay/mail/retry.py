"""mail.retry: when a deferred recipient is tried again, and when it has waited long enough.

`decide` climbs a ladder of waits: the first rung after the first attempt, the last rung for ever, each changed by up
to ±`jitter` of itself so that what was deferred together does not come back together. A reply that names a time ("try
again in 300 seconds") is obeyed instead, up to `obey`, never earlier than asked: greylisting then costs one try, not
three. One that asks for less than the rung is obeyed only while the ladder lasts, so that a server saying "in 1
second" for ever does not get an attempt a second for days.

Nothing waits beyond its expiry: a wait that would is cut to end there, so the last attempt is made at `expires_at`. So
whoever carries this out attempts what is due and asks about expiry after the attempt, never before; only at or after
`expires_at` is the answer `Expire`. RFC 5321 4.5.4.1 asks for a first retry within half an hour and 4 to 5 days in all.

What waits for a reason of ours (a rate, a site in trouble) is not asked about here: it was not attempted, and does not
climb.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_READ = 2000
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# What asks, then at most 40 characters without a digit, then the time. Every repetition is bounded.
_ASKED = re.compile(
    r"\b(?:again|retry|retried|retrying|resend|wait|back|(?:grey|gray)list(?:ed|ing)?|deferred|delayed)\b[^\d]{0,40}?"
    r"(?<![\d.:])(?:(?P<hours>\d{1,2}):(?P<minutes>\d{2}):(?P<seconds>\d{2})\b"
    r"|(?P<number>\d{1,7})\s?(?P<unit>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Defer:
    """until: POSIX seconds."""

    until: float


@dataclass(frozen=True, slots=True)
class Expire:
    """It has waited long enough: end it, with one report."""


def decide(
    reply_text: str,
    *,
    attempts: int,
    accepted_at: float,
    expires_at: float,
    now: float,
    ladder: Sequence[float],
    jitter: float,
    obey: float,
    random: float,
) -> Defer | Expire:
    """What follows a failed attempt.

    reply_text: the reply, or why there was none. attempts: those made, this one included (1 for the first). Times are
    POSIX seconds; ladder and obey are seconds. jitter: the share a wait is changed by. random: 0.0 to 1.0. An expiry
    before the acceptance counts as one at acceptance.
    """
    if now >= max(expires_at, accepted_at):
        return Expire()
    rung = ladder[min(max(attempts, 1), len(ladder)) - 1]
    asked = min(asked_wait(reply_text), obey)
    if asked > 0 and (asked >= rung or attempts <= len(ladder)):
        wait = asked * (1 + jitter * random)
    else:
        wait = rung * (1 + jitter * (2 * random - 1))
    return Defer(min(now + wait, expires_at))


def asked_wait(reply_text: str) -> float:
    """The seconds a reply asks us to wait; 0 when it names no time."""
    match = _ASKED.search(reply_text[:_READ])
    if match is None:
        return 0.0
    if match["number"] is not None:
        return int(match["number"]) * _UNITS[match["unit"][0].lower()]
    return int(match["hours"]) * 3600.0 + int(match["minutes"]) * 60.0 + int(match["seconds"])
