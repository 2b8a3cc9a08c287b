"""delivery.lane: what the window knows of a credential's mail for one domain, and of the ways that are parked there."""

from dataclasses import dataclass, field

from relay.delivery.routing import Hop, Way
from relay.spool import Cursor

LaneKey = tuple[str, str]  # a domain, and the credential whose mail is meant
EVERY = ""  # domain
Parking = tuple[Way, str]  # a way, and the sender domain whose mail is meant, "" for all
NEVER = float("inf")
TIMES = 3  # what is free: so much a credential may have


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing is read before `until` (POSIX seconds that never jump): the site does not answer, or is suspended."""

    site: str
    hop: Hop
    until: float


@dataclass(slots=True)
class Lane:
    """claimed: recipients in memory. more: due ones are on disk. waits: ... that go a way that is parked.

    read_to: where the next page begins, None at the first. marks: how often `more` was said, and how often before the
    first page was read. fresh: handed over in memory since the last page, of a credential with more.
    """

    claimed: int = 0
    more: bool = False
    waits: bool = False
    read_to: Cursor | None = None
    marks: int = 0
    marks_read: int = 0
    fresh: int = 0

    @property
    def is_idle(self) -> bool:
        return not (self.claimed or self.more or self.waits)


@dataclass(slots=True)
class Domain:
    """lanes: by credential. parked: by the way that their route says. looked_at: when the first of these may end.
    urged: an operator wants it tried, whatever its site's trouble.
    """

    claimed: int = 0
    lanes: dict[str, Lane] = field(default_factory=dict)
    parked: dict[Parking, Parked] = field(default_factory=dict)
    looked_at: float = NEVER
    urged: bool = False


def may_have(free: int, claimed: int) -> int:
    """How many more a credential may, so that it has no more than so many times what is free then."""
    return max(0, -((claimed - TIMES * free) // (TIMES + 1)))
