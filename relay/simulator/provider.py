"""simulator.provider: a receiving server that takes what a large provider takes, and says what it says to more.

A `Receiver` made of a few parts that know nothing of each other, each there if its table is in providers.toml: sessions
at once, messages in a session, a rate, greylisting, recipients that do not exist, trouble of its own, and a reputation
that is lost by too many wrong recipients. The first that refuses is what is answered. What it did is counted by part.

No IO; the clock and the chance are arguments, so that it is the same over sockets and in virtual time.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from random import Random
from typing import Literal
from zlib import crc32

from relay.config import providers as config
from relay.config.providers import parse_reply
from relay.mail.esmtp import MailCommand
from relay.mail.reply import Reply
from relay.simulator.session import Visit

Stage = Literal["mail", "rcpt", "content"]
CONNECTIONS, MESSAGES, RATE, GREYLIST = "connections", "messages", "rate", "greylist"
UNKNOWN, BUSY, REPUTATION = "unknown", "busy", "reputation"
_TRIPLETS = 1_000_000  # remembered
_SENDER_OK = Reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
_TAKEN = Reply(250, "2.0.0", "Ok: taken")


class Counts:
    """sessions: that were given. open, most_open: sessions now, and most at once. taken: messages. refused: sessions,
    messages and recipients, by the part that refused.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self.open = 0
        self.most_open = 0
        self.taken = 0
        self.refused: Counter[str] = Counter()


class Provider:
    """One site's. name: of the host. domains: those it takes mail for. clock: seconds that never jump."""

    def __init__(
        self,
        behaviour: config.Provider,
        *,
        name: str,
        domains: tuple[str, ...],
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self.name = name
        self.domains = domains
        self.latency = behaviour.latency
        self.counts = Counts()
        self._behaviour = behaviour
        self._random = random
        self._clients: dict[str, _Client] = {}
        self._clock = clock
        self._triplets: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    # A `Receiver`.

    def begin(self, visit: Visit) -> Reply:
        client = self._client(visit)
        limit = self._behaviour.connections
        if limit is not None and client.sessions >= limit.most:
            return self._refuse(CONNECTIONS, limit, visit)
        client.sessions += 1
        counts = self.counts
        counts.sessions += 1
        counts.open += 1
        counts.most_open = max(counts.most_open, counts.open)
        return Reply(220, "", f"{self.name} ESMTP, simulated")

    def end(self, visit: Visit) -> None:
        if visit.is_given:
            self._client(visit).sessions -= 1
            self.counts.open -= 1

    def sender(self, visit: Visit, _mail: MailCommand) -> Reply:
        limit = self._behaviour.messages
        if limit is not None and visit.messages >= limit.most:
            return self._refuse(MESSAGES, limit, visit)
        return self._refused_at("mail", visit) or _SENDER_OK

    def recipient(self, visit: Visit, address: str) -> Reply:
        if address.rpartition("@")[2] not in self.domains:
            return Reply(550, "5.7.1", f"Relaying denied: the simulated {self.name} takes mail for {self.domains[0]}")
        return self._refused_recipient(visit, address) or self._refused_at("rcpt", visit) or _RECIPIENT_OK

    def seconds(self, _visit: Visit) -> float:
        return self._behaviour.takes

    def content(self, visit: Visit) -> Reply | None:
        refusal = self._refused_at("content", visit)
        if refusal is None:
            self.counts.taken += 1
        return refusal or _TAKEN

    # The parts.

    def _refused_at(self, stage: Stage, visit: Visit) -> Reply | None:
        """What is about the client, rather than the recipient; where it says so."""
        behaviour, client, now = self._behaviour, self._client(visit), self._clock()
        reputation, rate, busy = behaviour.reputation, behaviour.rate, behaviour.busy
        if reputation is not None and reputation.at == stage and client.is_blocked(reputation, now):
            return self._refuse(REPUTATION, reputation, visit)
        if rate is not None and rate.at == stage and not client.has_token(rate, now):
            return self._refuse(RATE, rate, visit)
        if busy is not None and busy.at == stage and self._random.random() < busy.share:
            return self._refuse(BUSY, busy, visit)
        return None

    def _refused_recipient(self, visit: Visit, address: str) -> Reply | None:
        unknown = self._behaviour.unknown
        is_unknown = unknown is not None and _chance(address) < unknown.share
        self._client(visit).recipients.append(is_unknown)
        if unknown is not None and is_unknown:
            return self._refuse(UNKNOWN, unknown, visit)
        return self._greylisted(visit, address)

    def _greylisted(self, visit: Visit, address: str) -> Reply | None:
        greylist = self._behaviour.greylist
        if greylist is None:
            return None
        triplet = (visit.address, visit.mail.sender if visit.mail is not None else "", address)
        since = self._triplets.setdefault(triplet, self._clock())
        if len(self._triplets) > _TRIPLETS:
            self._triplets.popitem(last=False)
        return self._refuse(GREYLIST, greylist, visit) if self._clock() < since + greylist.wait else None

    def _refuse(self, part: str, refusal: config.Refusal, visit: Visit) -> Reply:
        self.counts.refused[part] += 1
        return parse_reply(refusal.reply.replace("%s", visit.address))

    def _client(self, visit: Visit) -> "_Client":
        client = self._clients.get(visit.address)
        if client is None:
            client = self._clients[visit.address] = _Client(self._behaviour, self._clock())
        return client


class _Client:
    """What is known of one address. recipients: of the last, whether each was unknown."""

    def __init__(self, behaviour: config.Provider, now: float) -> None:
        self.sessions = 0
        reputation, rate = behaviour.reputation, behaviour.rate
        self.recipients: deque[bool] = deque(maxlen=reputation.of if reputation is not None else 1)
        self._blocked_until = 0.0
        self._tokens = rate.burst if rate is not None else 0.0
        self._counted_at = now
        self._refused_until = 0.0

    def is_blocked(self, reputation: config.Reputation, now: float) -> bool:
        last = self.recipients
        if len(last) >= reputation.of and sum(last) >= reputation.unknown * reputation.of:
            self._blocked_until = now + reputation.lasts
            last.clear()
        return now < self._blocked_until

    def has_token(self, rate: config.Rate, now: float) -> bool:
        """And takes it."""
        if now < self._refused_until:
            return False
        self._tokens = min(rate.burst, self._tokens + (now - self._counted_at) * rate.per_second)
        self._counted_at = now
        if self._tokens < 1:
            self._refused_until = now + rate.penalty
            return False
        self._tokens -= 1
        return True


def _chance(address: str) -> float:
    """0 to 1, always the same for an address."""
    return crc32(address.encode()) / 0x100000000
