"""journal.query: what is asked of the journal and what is found, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.mail.event import Event, Kind

NULL_SENDER = "<>"


@dataclass(frozen=True, slots=True)
class Query:
    """Filters that must all hold; an empty one does not filter.

    to, sender: an address, or "@example.com" for all of a domain; sender "<>" is the null sender. message: a queue
    id, or a header Message-ID with or without its angle brackets. since (inclusive), until (exclusive): POSIX
    seconds, 0 for open. limit: how many events, the newest first.
    """

    to: str = ""
    sender: str = ""
    message: str = ""
    credential: str = ""
    status: Kind | None = None
    since: float = 0.0
    until: float = 0.0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Found:
    """events: as asked for. unreadable: day files that could not be searched, by path, with what is wrong with each."""

    events: tuple[Event, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FirstTime:
    """recipients: those that the journal knows no mail to. unreadable: as in `Found`; what they tell is not known."""

    recipients: frozenset[str]
    unreadable: Mapping[str, str] = field(default_factory=dict)
