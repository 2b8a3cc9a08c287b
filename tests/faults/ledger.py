"""faults.ledger: what clients were told, what arrived, what is owed: and so what was lost, doubled or made up.

Pure: whoever watches the clients and the receiving server tells it what happened and when (seconds of one monotonic
clock), and asks for a verdict in the end. It knows nothing of the server that is judged.

Every message has a token, which travels in a header field. The unit is the recipient of a message:

lost        acknowledged, and neither arrived nor owed nor reported to the sender.
named       the same, and the server itself says that it lost it, by its id: allowed where the disk was damaged.
doubled     arrived more often than once. Allowed only for a recipient that was in flight when a fault came: an earlier
            copy was answered at most `in_flight` seconds before it began, or while it lasted, or never; or who should
            have read the answer was gone by then.
made up     arrived although its client was refused, or arrived under a token nobody sent. Not so where the server spoke
            of trouble of its own (451 4.3.0): whether a commit that failed is on the disk cannot be known.
altered     arrived with another body than was sent.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

Key = tuple[str, str]  # token, recipient


class Fate(Enum):
    """What a client knows of a message of its own."""

    ACKNOWLEDGED = "answered 250"
    REFUSED = "answered 4xx or 5xx"
    TROUBLED = "answered 451 4.3.0 after the end of the content"
    UNKNOWN = "the connection was lost after the end of the content"
    UNSENT = "the connection was lost before the end of the content"


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of a client. queue_id: as the reply named it, "" without one."""

    token: str
    recipients: tuple[str, ...]
    fate: Fate
    queue_id: str = ""
    reply: str = ""


@dataclass(slots=True)
class Arrival:
    """One recipient of a message that came to the receiving server, by its final dot. answered: with 250, in full.
    gone_after: seconds from the answer until the client was found to have gone without a word more.
    """

    token: str
    recipient: str
    at: float
    answered: bool
    intact: bool = True
    gone_after: float = float("inf")


@dataclass(frozen=True, slots=True)
class Doubled:
    """age: seconds from the answer to a copy to the beginning of the fault after it; infinite without a fault."""

    key: Key
    copies: int
    age: float


@dataclass(slots=True)
class Verdict:
    """messages, recipients: acknowledged. unknown: messages whose client never heard. unacknowledged: recipients that
    arrived although the client was not told so.
    """

    messages: int = 0
    recipients: int = 0
    refused: int = 0
    unknown: int = 0
    arrived: int = 0
    reported: int = 0
    owed: int = 0
    unacknowledged: int = 0
    lost: list[Key] = field(default_factory=list)
    named: list[Key] = field(default_factory=list)
    doubled: list[Doubled] = field(default_factory=list)
    doubled_without_cause: list[Doubled] = field(default_factory=list)
    made_up: list[tuple[Key, str]] = field(default_factory=list)
    altered: list[Key] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled_without_cause or self.made_up or self.altered)

    @property
    def oldest_double(self) -> float:
        """Seconds; 0.0 for none."""
        return max((each.age for each in self.doubled), default=0.0)


class Ledger:
    """in_flight: seconds before a fault within which an answered copy may come again."""

    def __init__(self, *, in_flight: float) -> None:
        self._in_flight = in_flight
        self._sent: dict[str, Sent] = {}
        self._arrivals: dict[Key, list[Arrival]] = {}
        self._reported: set[Key] = set()
        self._named: set[str] = set()
        self._faults: list[tuple[float, float]] = []

    # What is told.

    def sent(self, message: Sent) -> None:
        if message.token in self._sent:
            raise ValueError(f"token {message.token} was sent before")
        self._sent[message.token] = message

    def arrived(self, arrival: Arrival) -> None:
        self._arrivals.setdefault((arrival.token, arrival.recipient), []).append(arrival)

    def reported(self, token: str, recipient: str) -> None:
        """The sender was told that it failed."""
        self._reported.add((token, recipient))

    def named(self, queue_id: str) -> None:
        """The server says that it cannot be saved."""
        self._named.add(queue_id)

    def fault(self, began: float, ended: float) -> None:
        """One came, and lasted so long."""
        self._faults.append((began, ended))

    # What is asked.

    @property
    def acknowledged(self) -> list[Sent]:
        return [each for each in self._sent.values() if each.fate is Fate.ACKNOWLEDGED]

    @property
    def refused(self) -> int:
        counts = self.counts
        return counts[Fate.REFUSED] + counts[Fate.TROUBLED]

    @property
    def counts(self) -> Counter[Fate]:
        return Counter(each.fate for each in self._sent.values())

    def missing(self) -> list[Key]:
        """Acknowledged, and neither arrived nor reported so far."""
        return [
            (message.token, recipient)
            for message in self.acknowledged
            for recipient in message.recipients
            if (message.token, recipient) not in self._arrivals and (message.token, recipient) not in self._reported
        ]

    def verdict(self, *, owed: Iterable[Key] = ()) -> Verdict:
        """owed: what the server still keeps, and says so."""
        still = set(owed)
        verdict = Verdict(
            messages=len(self.acknowledged),
            recipients=sum(len(each.recipients) for each in self.acknowledged),
            refused=self.refused,
            unknown=self.counts[Fate.UNKNOWN],
            arrived=len(self._arrivals),
            reported=len(self._reported),
            owed=len(still),
        )
        for key in self.missing():
            if self._sent[key[0]].queue_id in self._named:
                verdict.named.append(key)
            elif key not in still:
                verdict.lost.append(key)
        for key, arrivals in self._arrivals.items():
            self._judge(key, arrivals, verdict)
        return verdict

    def _judge(self, key: Key, arrivals: list[Arrival], verdict: Verdict) -> None:
        message = self._sent.get(key[0])
        if message is None or key[1] not in message.recipients or message.fate in (Fate.REFUSED, Fate.UNSENT):
            verdict.made_up.append((key, f"{message.fate.value}: {message.reply}" if message else "never sent"))
        elif message.fate is not Fate.ACKNOWLEDGED:
            verdict.unacknowledged += 1
        if not all(each.intact for each in arrivals):
            verdict.altered.append(key)
        if len(arrivals) > 1:
            doubled = Doubled(key, len(arrivals), self._age(arrivals))
            verdict.doubled.append(doubled)
            if doubled.age > self._in_flight:
                verdict.doubled_without_cause.append(doubled)

    def _age(self, arrivals: list[Arrival]) -> float:
        """The longest that an answered copy had been known when the fault came that made it come again."""
        ordered = sorted(arrivals, key=lambda each: each.at)
        ages = [
            min(self._until_fault(first.at, second.at), first.gone_after)
            for first, second in pairwise(ordered)
            if first.answered
        ]
        return max(ages, default=0.0)

    def _until_fault(self, answered_at: float, again_at: float) -> float:
        ages = [began - answered_at for began, ended in self._faults if answered_at <= ended and began <= again_at]
        return max(0.0, min(ages, default=float("inf")))
