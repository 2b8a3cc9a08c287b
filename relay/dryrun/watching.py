"""dryrun.watching: what providers see of a dry run: connections at once, at each of them and at all together, and what
comes from each address of ours.
"""

from collections import Counter
from collections.abc import Mapping

from relay.mail.esmtp import MailCommand
from relay.mail.reply import Reply
from relay.simulator.provider import Provider
from relay.simulator.session import Visit


class Tally:
    """Sessions now, and the most there were."""

    def __init__(self) -> None:
        self.open = 0
        self.most = 0

    def add(self, number: int) -> None:
        self.open += number
        self.most = max(self.most, self.open)


class Watched:
    """A `Receiver`: a provider whose sessions are counted by `tallies`, and by the one that `clients` has for the
    client's address. taken: messages, by that address.
    """

    def __init__(self, provider: Provider, *tallies: Tally, clients: Mapping[str, Tally]) -> None:
        self.taken: Counter[str] = Counter()
        self.name = provider.name
        self.latency = provider.latency
        self._provider = provider
        self._tallies = tallies
        self._clients = clients

    def begin(self, visit: Visit) -> Reply:
        reply = self._provider.begin(visit)
        self._count(visit, 1 if reply.is_positive else 0)
        return reply

    def end(self, visit: Visit) -> None:
        self._count(visit, -1 if visit.is_given else 0)
        self._provider.end(visit)

    def _count(self, visit: Visit, number: int) -> None:
        for tally in self._tallies:
            tally.add(number)
        client = self._clients.get(visit.address)
        if client is not None:
            client.add(number)

    def sender(self, visit: Visit, mail: MailCommand) -> Reply:
        return self._provider.sender(visit, mail)

    def recipient(self, visit: Visit, address: str) -> Reply:
        return self._provider.recipient(visit, address)

    def seconds(self, visit: Visit) -> float:
        return self._provider.seconds(visit)

    def content(self, visit: Visit) -> Reply | None:
        reply = self._provider.content(visit)
        self.taken[visit.address] += reply is not None and reply.is_positive
        return reply
