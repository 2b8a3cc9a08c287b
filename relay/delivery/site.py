"""delivery.site: what waits for one site and what is open to it. Bookkeeping without IO.

A site is all domains that share one set of MX hosts, or one smarthost as a route describes it: limits and connections
belong to it, a transaction to one domain. Turns go round credentials and streams, so that one application's campaign
does not stand before another's password reset: a job waits for at most one job of every other.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from relay.config.rules import Profile
from relay.delivery.destination import NOWHERE_YET, Destination
from relay.delivery.governor import Governor
from relay.delivery.routing import Hop
from relay.smtpclient import Connection
from relay.spool import QueuedMessage, QueuedRecipient

Turn = tuple[str, str]
SiteKey = tuple[str, Hop]


@dataclass(slots=True)
class Job:
    """Recipients of one message in one domain: what one transaction carries.

    destination: once it is looked up. tried: addresses whose session broke in this attempt, and how.
    """

    message: QueuedMessage
    domain: str
    recipients: list[QueuedRecipient]
    destination: Destination = NOWHERE_YET
    tried: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Line:
    """An open connection and how it has been used. destination: what it was opened for. idle_since: POSIX seconds."""

    connection: Connection
    destination: Destination
    messages: int = 0
    idle_since: float = 0.0

    def suits(self, destination: Destination) -> bool:
        """RFC 5321 5.1: a domain's best hosts come first, also where its site has a connection to another. One that
        was opened after the same best hosts gave no session will do.
        """
        if destination is self.destination:
            return True
        best = destination.best
        return self.connection.endpoint.name in best or self.destination.best == best


@dataclass(slots=True)
class Site:
    """host: one of its hosts, which tells its profile. couriers: at work now.

    starting: those of them that have not looked for a job yet. waits_for_limit: no connection may be opened at this
    moment. slow: it gave no session for so long that dialling was given up for others. idle: open, not at work.
    """

    name: str
    hop: Hop
    host: str
    governor: Governor
    couriers: int = 0
    starting: int = 0
    waits_for_limit: bool = False
    slow: bool = False
    idle: list[Line] = field(default_factory=list)
    last_error: str = ""
    _turns: OrderedDict[Turn, deque[Job]] = field(default_factory=OrderedDict)
    _waiting: int = 0

    @property
    def key(self) -> SiteKey:
        """Two routes to one host that demand different security or logins have sites of one name."""
        return (self.name, self.hop)

    @property
    def in_trouble(self) -> bool:
        """It is dialled only in the half of the connections that trouble may have."""
        return self.slow or self.governor.in_trouble

    @property
    def profile(self) -> Profile:
        return self.governor.profile

    def may_carry(self, job: Job, line: Line) -> bool:
        """Whether a connection that is open here will do for a job."""
        return (
            line.connection.usable
            and line.messages < self.profile.messages_per_connection
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
        turn = (job.message.stream, job.message.credential)
        jobs = self._turns.get(turn)
        if jobs is None:
            jobs = self._turns[turn] = deque()
        jobs.append(job)
        self._waiting += 1

    def put_back(self, job: Job) -> None:
        """First in its turn again."""
        turn = (job.message.stream, job.message.credential)
        self._turns.setdefault(turn, deque()).appendleft(job)
        self._turns.move_to_end(turn, last=False)
        self._waiting += 1

    def next(self) -> Job | None:
        if not self._turns:
            return None
        turn, jobs = next(iter(self._turns.items()))
        job = jobs.popleft()
        if jobs:
            self._turns.move_to_end(turn)
        else:
            del self._turns[turn]
        self._waiting -= 1
        return job

    def take_all(self) -> list[Job]:
        """Everything that waits; nothing waits afterwards."""
        jobs = [job for turn in self._turns.values() for job in turn]
        self._turns.clear()
        self._waiting = 0
        return jobs
