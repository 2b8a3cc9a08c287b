"""cli.credential_flags: the properties of a credential as flags, the same for `add` and `set`.

A flag that is not given changes nothing. --from and --network replace what was there. Names are checked here (streams,
patterns, networks), with the nearest that exists.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from relay.cli import options
from relay.errors import UsageError

if TYPE_CHECKING:
    from relay.config.models import Config
    from relay.mail.address import Pattern
    from relay.registry.credentials import Credential, Network

Word = TypeVar("Word", bound=StrEnum)

From = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="PATTERN", help="Allowed sender: user@domain, *@domain or *@*.domain. Repeatable."),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network", metavar="NETWORK", help='Where clients may connect from; "any" for anywhere. Repeatable.'
    ),
]
StreamName = Annotated[str | None, typer.Option("--stream", help="transactional, bulk, or one of relay.toml's.")]
PerSecond = Annotated[int | None, typer.Option("--limit-second", min=0, help="Messages a second; 0 for no limit.")]
PerHour = Annotated[int | None, typer.Option("--limit-hour", min=0, help="Messages an hour; 0 for no limit.")]
PerDay = Annotated[int | None, typer.Option("--limit-day", min=0, help="Messages a day; 0 for no limit.")]
PerMessage = Annotated[
    int | None, typer.Option("--limit-recipients", min=0, help="Recipients per message; 0 for no limit of its own.")
]
FirstTime = Annotated[
    int | None,
    typer.Option("--limit-first-time", min=0, help="Recipients a day it has not sent to before; 0 for no limit."),
]
Expires = Annotated[str | None, typer.Option("--expires", metavar="TIME", help='A date, "30d" from now, or "never".')]
NullSender = Annotated[
    bool | None, typer.Option("--null-sender/--no-null-sender", help="May send reports, with the sender <>.")
]
AllowUnsigned = Annotated[
    bool | None,
    typer.Option("--allow-unsigned/--no-allow-unsigned", help="May send from domains that have no DKIM key here."),
]
Encode8bit = Annotated[
    bool | None,
    typer.Option("--encode-8bit/--no-encode-8bit", help="8-bit mail is made 7-bit before it is signed."),
]
ReportsTo = Annotated[str | None, typer.Option("--reports", metavar="sender|none", help="Who gets delivery reports.")]
Suppressed = Annotated[
    str | None,
    typer.Option("--suppressed", metavar="refuse|accept", help="What a suppressed recipient meets at RCPT."),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags as they were given; None where one was not."""

    senders: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    stream: str | None = None
    limit_second: int | None = None
    limit_hour: int | None = None
    limit_day: int | None = None
    limit_recipients: int | None = None
    limit_first_time: int | None = None
    expires: str | None = None
    null_sender: bool | None = None
    allow_unsigned: bool | None = None
    encode_8bit: bool | None = None
    reports: str | None = None
    suppressed: str | None = None


def adjustment(wanted: Wanted, config: "Config", *, now: float) -> "Callable[[Credential], Credential]":
    """What makes a credential as wanted. Raises UsageError for a value that cannot be."""
    from relay.registry.credentials import OnSuppressed, Reports

    changes: dict[str, object] = {
        "senders": None if wanted.senders is None else patterns(wanted.senders),
        "networks": None if wanted.networks is None else _networks(wanted.networks),
        "stream": None if wanted.stream is None else _stream(wanted.stream, config),
        "limit_second": wanted.limit_second,
        "limit_hour": wanted.limit_hour,
        "limit_day": wanted.limit_day,
        "limit_recipients": wanted.limit_recipients,
        "limit_first_time": wanted.limit_first_time,
        "expires_at": None if wanted.expires is None else options.future(wanted.expires, option="--expires", now=now),
        "null_sender": wanted.null_sender,
        "allow_unsigned": wanted.allow_unsigned,
        "encode_8bit": wanted.encode_8bit,
        "reports": None if wanted.reports is None else one_of(wanted.reports, Reports, option="--reports"),
        "suppressed": None
        if wanted.suppressed is None
        else one_of(wanted.suppressed, OnSuppressed, option="--suppressed"),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return lambda credential: replace(credential, **given)  # type: ignore[arg-type]


def patterns(texts: Sequence[str]) -> "tuple[Pattern, ...]":
    from relay.mail.address import AddressError, Pattern

    try:
        return tuple(dict.fromkeys(Pattern.parse(text) for text in texts))
    except AddressError as error:
        raise UsageError(f"--from {error}", remedy='Quote a "*" from the shell: --from "*@example.com"') from None


def one_of(text: str, choices: Iterable[Word], *, option: str) -> Word:
    """The one of that value. Raises UsageError naming all there are."""
    known = {choice.value: choice for choice in choices}
    if text not in known:
        words = " or ".join(f'"{word}"' for word in known)
        raise UsageError(f'{option} "{text}" is not known', remedy=f"Write {words}.")
    return known[text]


def _stream(name: str, config: "Config") -> str:
    import difflib

    from relay.config.consistency import streams

    known = streams(config)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(known)}; relay.toml makes more."
    raise UsageError(f'there is no stream "{name}"', remedy=remedy)


def _networks(texts: Sequence[str]) -> "tuple[Network, ...]":
    if list(texts) == ["any"]:
        return ()
    return tuple(_network(text) for text in texts)


def _network(text: str) -> "Network":
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        remedy = 'Write "192.0.2.7", "10.1.0.0/16" or "2001:db8::/48".'
        raise UsageError(f'--network "{text}" is no network: {error}', remedy=remedy) from None
