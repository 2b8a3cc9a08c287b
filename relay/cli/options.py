"""cli.options: the flags that several commands share, and how their values are read.

A time is an ISO date or time (UTC without an offset), or a duration: for --since and --until that long ago, for
--expires from now on. What cannot be read is a UsageError that says what can.
"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from relay.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable fields.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
Since = Annotated[
    str, typer.Option("--since", metavar="TIME", help='From this time on: "2h" (ago) or 2026-11-20T10:00.')
]
Until = Annotated[str, typer.Option("--until", metavar="TIME", help="Before this time.")]

_TIME_REMEDY = 'Write a duration ("90s", "10m", "4h", "5d") or a time ("2026-11-20", "2026-11-20T10:00:00Z").'


def past(text: str, *, option: str, now: float) -> float:
    """POSIX seconds of "2h" ago or of a time; 0.0 for ""."""
    if not text:
        return 0.0
    length = _duration(text)
    return _moment(text, option) if length is None else now - length


def future(text: str, *, option: str, now: float) -> float:
    """POSIX seconds of a time, or of "30d" from now; 0.0 for "never"."""
    if text == "never":
        return 0.0
    length = _duration(text)
    moment = _moment(text, option) if length is None else now + length
    if moment <= now:
        raise UsageError(f'{option} "{text}" is past', remedy=_TIME_REMEDY)
    return moment


def duration(text: str, *, option: str) -> float:
    """Seconds of "2h"; 0.0 for ""."""
    length = _duration(text) if text else 0.0
    if length is None:
        raise UsageError(f'{option} "{text}" is no duration', remedy='Write "90s", "10m", "4h" or "5d".')
    return length


def order_length(text: str) -> float:
    """Seconds that an order holds, of its --for; 0.0 for "": until it is taken back."""
    seconds = duration(text, option="--for")
    if text and not seconds:
        raise UsageError(f'--for "{text}" is no time', remedy='Write "90s", "10m", "4h" or "5d", or leave it out.')
    return seconds


def _duration(text: str) -> float | None:
    from relay.config.values import parse_duration

    try:
        return float(str(parse_duration(text)))
    except ValueError:
        return None


def _moment(text: str, option: str) -> float:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f'{option} "{text}" is no time', remedy=_TIME_REMEDY) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
