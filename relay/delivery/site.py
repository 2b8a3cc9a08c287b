"""delivery.site: what waits for one site and what is open to it. Bookkeeping without IO.

A site is all domains that share one set of MX hosts, or one smarthost as relay.toml has it: limits and connections
belong to it as one of our addresses sees it, a transaction to one domain. So for each of our addresses there is a
`Site` of its own, and the trouble of one there is no other's. Credentials and streams share it in a fair order, so that
one application's campaign does not stand before another's password reset.
"""

from collections import deque
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from relay.config.models import TlsNeed
from relay.config.profiles import Limits
from relay.delivery.destination import NOWHERE_YET, Destination
from relay.delivery.fair_order import FairOrder, Sharer
from relay.delivery.governor import Governor
from relay.delivery.known_breakers import KnownBreakers, SiteBreakers
from relay.delivery.quota import Quota
from relay.delivery.routing import DIRECT, Direct, Hop, Smarthost, Way
from relay.mail.site import place
from relay.registry.suspensions import Suspension
from relay.smtpclient import Connection
from relay.spool import QueuedMessage, QueuedRecipient

SiteKey = tuple[str, Hop]


class Job(Struct):
    """Recipients of one message in one domain: what one transaction carries.

    way: what its route says. destination: once it is looked up. tried: addresses whose session broke in this attempt,
    and how. passed: hops by which it could not go in this attempt, and why. refusals: sessions that were one too
    many, or ended before anything was said about the message.
    """

    message: QueuedMessage
    domain: str
    recipients: list[QueuedRecipient]
    way: Way = DIRECT
    destination: Destination = NOWHERE_YET
    tried: dict[str, str] = msgspec.field(default_factory=dict)
    passed: dict[Hop, str] = msgspec.field(default_factory=dict)
    refusals: int = 0

    @property
    def sharer(self) -> Sharer:
        """In whose name it goes."""
        return (self.message.stream, self.message.credential)

    @property
    def detour(self) -> str:
        """Whom this attempt has passed over, in words; "" for nobody."""
        return "; ".join(f"passed over {hop}: {why}" for hop, why in self.passed.items())


@dataclass(slots=True)
class Line:
    """An open connection and how it has been used. destination: what it was opened for. counted_as: by whose limits it
    was claimed, for they may be others by the time it ends. opened_at, idle_since: POSIX seconds that never jump.
    """

    connection: Connection
    destination: Destination
    counted_as: str = ""
    messages: int = 0
    opened_at: float = 0.0
    idle_since: float = 0.0

    def recipients(self, ours: int) -> int:
        """In one transaction: our limit, and the server's where it names a lower one (RFC 9422 4.2, RCPTMAX)."""
        return min(ours, self.connection.limits.recipients or ours)

    def is_spent(self, ours: int) -> bool:
        """It has carried as many messages as it may: by our limit, or the server's (RFC 9422 4.1, MAILMAX)."""
        return self.messages >= min(ours, self.connection.limits.messages or ours)

    def has_tls(self, need: TlsNeed) -> bool:
        """As mail to an MX host needs it now, whatever it needed when the connection was opened."""
        if need == "verified":
            return self.connection.is_verified
        return need != "required" or self.connection.tls != ""

    def suits(self, destination: Destination) -> bool:
        """RFC 5321 5.1: a domain's best hosts come first, also where its site has a connection to another. One that
        was opened after the same best hosts gave no session will do.
        """
        if destination is self.destination:
            return True
        best = destination.best
        return self.connection.endpoint.name in best or self.destination.best == best


@dataclass(slots=True, eq=False)
class Site:
    """mx: its hosts by name, which tell its limits. couriers: at work now. connections: open, or being opened.

    starting: couriers that have not looked for a job yet. waits_for_limit: no connection may be opened at this moment.
    slow: it gave no session for so long that dialling was given up for others. is_stranger: it gave none the
    last time, or was never dialled. idle: open, not at work. suspension: by an operator, now in force. next_turn_at:
    until when its pace makes mail wait, in POSIX seconds that never jump. front: what judges our mail as one, the site
    or its provider; an address at it is `counted_as` one. known: what this worker knows of the machine's breakers.
    is_gone: no mail goes by its hop any more, since a reload.
    """

    name: str
    hop: Hop
    mx: tuple[str, ...]
    governor: Governor
    known: KnownBreakers
    breakers: SiteBreakers = field(init=False)
    front: str = field(init=False, default="")
    counted_as: str = field(init=False, default="")
    couriers: int = 0
    connections: int = 0
    starting: int = 0
    waits_for_limit: bool = False
    slow: bool = False
    is_stranger: bool = True
    idle: list[Line] = field(default_factory=list)
    last_error: str = ""
    suspension: Suspension | None = None
    is_gone: bool = False
    next_turn_at: float = 0.0
    _jobs: dict[Sharer, deque[Job]] = field(default_factory=dict)
    _order: FairOrder = field(default_factory=FairOrder)
    _waiting: int = 0

    def __post_init__(self) -> None:
        self.limit(self.governor.limits, self.governor.quota)

    @property
    def key(self) -> SiteKey:
        """Two routes to one host that demand different security or logins have sites of one name."""
        return (self.name, self.hop)

    @property
    def source(self) -> str:
        """Our address; "" where that is the system's choice, and at a smarthost, which knows us by our account."""
        return self.hop.source

    @property
    def place(self) -> str:
        """Its name, and our address where we have chosen one."""
        return place(self.name, self.source)

    def limit(self, limits: Limits, quota: Quota) -> None:
        """Other ones from now on."""
        self.governor.limit(limits, quota)
        self.front = (limits.counted_as if isinstance(self.hop, Direct) else "") or self.name
        self.counted_as = place(self.front, self.source)
        self.breakers = self.known.at(self.front, self.source)

    @property
    def quota(self) -> Quota:
        """A smarthost's, or of the warm-up of our address there."""
        return self.governor.quota

    def is_out_of_quota(self, now: float) -> bool:
        """It would take mail, and we may send no more there for now."""
        return bool(self.quota) and not self.governor.in_trouble and self.governor.retry_at > now

    @property
    def in_trouble(self) -> bool:
        """It is dialled only in the half of the connections that trouble may have."""
        return self.slow or self.governor.in_trouble

    @property
    def is_shut(self) -> bool:
        """No message is begun with, whatever it would take."""
        return self.suspension is not None or self.is_gone

    @property
    def wants_less(self) -> bool:
        """More couriers are at work than may be, since it was shut or its limit or window became less."""
        governor = self.governor
        return self.is_shut or self.couriers > governor.connections or governor.surplus > 0

    def left_by_courier(self, *, had_connection: bool) -> None:
        """One of those at work is no more. Only one with a connection ended what was too many."""
        self.couriers -= 1
        if not self.couriers:
            self.governor.surplus = 0
        elif had_connection:
            self.governor.surplus = max(0, self.governor.surplus - 1)

    @property
    def limits(self) -> Limits:
        return self.governor.limits

    @property
    def tls(self) -> TlsNeed:
        """Of MX hosts; what a smarthost must offer is part of the hop, and no session is opened without."""
        return "none" if isinstance(self.hop, Smarthost) else self.limits.tls

    @property
    def recipients(self) -> int:
        """In one transaction. At a smarthost it counts as so many messages, and more than may go would never go."""
        limits = self.limits
        if not isinstance(self.hop, Smarthost):
            return limits.recipients
        messages = (limits.messages_per_minute, limits.messages_per_hour, limits.messages_per_day)
        return min(filter(None, (limits.recipients, *messages)))

    def messages_of(self, job: Job) -> int:
        """As the site counts: a smarthost's provider by recipient."""
        return len(job.recipients) if isinstance(self.hop, Smarthost) else 1

    def may_use(self, line: Line) -> bool:
        """As an operator wants it now, whatever held when the connection was opened or its message was begun with."""
        return not self.is_shut and line.has_tls(self.tls)

    def may_carry(self, job: Job, line: Line) -> bool:
        """Whether a connection that is open here will do for a job."""
        return (
            line.connection.usable
            and not line.is_spent(self.limits.messages_per_connection)
            and line.has_tls(self.tls)
            and line.connection.endpoint.address not in job.tried
            and line.suits(job.destination)
        )

    @property
    def waiting(self) -> int:
        """Jobs."""
        return self._waiting

    @property
    def is_unused(self) -> bool:
        return not (self.couriers or self._waiting or self.idle)

    def add(self, job: Job) -> None:
        self._jobs.setdefault(job.sharer, deque()).append(job)
        self._order.wait(job.sharer)
        self._waiting += 1

    def put_back(self, job: Job) -> None:
        """It was not sent, and is its sharer's next again."""
        self.put_rest(job)
        self._order.give_up(job.sharer)

    def put_rest(self, job: Job) -> None:
        """What did not go into one transaction is its sharer's next."""
        self._jobs.setdefault(job.sharer, deque()).appendleft(job)
        self._order.wait(job.sharer)
        self._waiting += 1

    def next(self) -> Job | None:
        if not self._jobs:
            return None
        sharer = self._order.first()
        jobs = self._jobs[sharer]
        job = jobs.popleft()
        if not jobs:
            del self._jobs[sharer]
            self._order.leave(sharer)
        self._order.reach(self._order.place(sharer))
        self._waiting -= 1
        return job

    def take_of(self, sender_domain: str) -> list[Job]:
        """What waits of a sender domain; the rest keeps its turns."""
        taken: list[Job] = []
        kept: list[Job] = []
        for job in self.take_all():
            (taken if job.message.sender_domain == sender_domain else kept).append(job)
        for job in kept:
            self.add(job)
        return taken

    def take_all(self) -> list[Job]:
        """Everything that waits; nothing waits afterwards."""
        jobs = [job for its in self._jobs.values() for job in its]
        self._jobs.clear()
        self._order.clear()
        self._waiting = 0
        return jobs
