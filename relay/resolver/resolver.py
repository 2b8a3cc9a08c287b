"""resolver.resolver: what delivery and `relay domain check` ask DNS, answered from memory where possible.

Answers are values (`resolver.answer`); nothing raises for what a domain or a nameserver does. An answer is kept for
its TTL, within `minimum_ttl` and `maximum_ttl`; absence for at most three hours (RFC 2308 5); a failure for
`minimum_ttl`, so that a thousand recipients at a domain whose servers are down make one question (RFC 9520 3.2).
Equal questions under way are one.

Names are A-labels. There is no search list and no hosts file; only "localhost" is answered without asking (RFC 6761
6.3). CNAMEs are followed by the nameservers.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from relay.config.models import Dns
from relay.config.values import Address
from relay.resolver.answer import AddressAnswer, Failure, Found, MxAnswer, NoDomain, NoRecords, TextAnswer
from relay.resolver.cache import Answer, Cache, Question
from relay.resolver.question import Nameservers

_NEGATIVE_TTL = 10_800.0  # RFC 2308 5: one to three hours have been found to work well
_FAILURE_KEPT = 1.0  # RFC 9520 3.2: at least a second
_LOOPBACK: AddressAnswer = Found((ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")))


class Resolver:
    """One per worker. now: wall clock, POSIX seconds. Raises ConfigError when there is no nameserver to ask."""

    def __init__(self, settings: Dns, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._nameservers = Nameservers(settings)
        self._cache = Cache(size=settings.cache_size, stale=settings.stale)
        self.questions = 0  # put to nameservers
        self.cache_hits = 0
        self.failures = 0
        self._asking: dict[Question, asyncio.Future[Answer | None]] = {}

    async def mx(self, domain: str) -> MxAnswer:
        """The domain's MX hosts, best first. NoRecords: the domain itself is its mail host, if it has an address (RFC
        5321 5.1).
        """
        return cast(MxAnswer, await self._answer((domain.lower(), "MX")))

    async def addresses(self, host: str) -> AddressAnswer:
        """A and AAAA together, A first. If only one of the two can be asked, what it found is the answer, and
        `missing` the other.
        """
        name = host.lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            return _LOOPBACK
        four, six = await self._both((name, "A"), (name, "AAAA"))
        return _joined(cast(AddressAnswer, four), cast(AddressAnswer, six))

    async def ipv4(self, name: str) -> AddressAnswer:
        """A alone."""
        return cast(AddressAnswer, await self._answer((name.lower(), "A")))

    async def txt(self, name: str) -> TextAnswer:
        """Each record's strings joined (RFC 7208 3.3)."""
        return cast(TextAnswer, await self._answer((name.lower(), "TXT")))

    async def ptr(self, address: Address) -> TextAnswer:
        """The names of an address, without the final dot."""
        return cast(TextAnswer, await self._answer((address.reverse_pointer, "PTR")))

    async def _both(self, one: Question, other: Question) -> tuple[Answer, Answer]:
        now = self._now()
        first, second = self._cache.fresh(one, now=now), self._cache.fresh(other, now=now)
        if first is not None and second is not None:
            self.cache_hits += 2
            return first, second
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(self._answer(one)), group.create_task(self._answer(other))
        return tasks[0].result(), tasks[1].result()

    async def _answer(self, question: Question) -> Answer:
        answer = self._cache.fresh(question, now=self._now())
        if answer is not None:
            self.cache_hits += 1
            return answer
        while (asking := self._asking.get(question)) is not None:
            # Shielded: when this caller gives up, the others still wait for the same future.
            answer = await asyncio.shield(asking)
            if answer is not None:
                return answer
        return await self._lead(question)

    async def _lead(self, question: Question) -> Answer:
        """Ask for all who want to know. If this caller is cancelled, the future says None and the next one asks."""
        self.questions += 1
        answer: Answer | None = None
        future = self._asking[question] = asyncio.get_running_loop().create_future()
        try:
            answer = self._remember(question, *await self._nameservers.ask(*question))
            return answer
        finally:
            del self._asking[question]
            future.set_result(answer)

    def _remember(self, question: Question, answer: Answer, ttl: float) -> Answer:
        now = self._now()
        if isinstance(answer, Failure):
            self.failures += 1
            recheck = max(self._settings.minimum_ttl, _FAILURE_KEPT)
            return self._cache.fall_back(question, answer, now=now, recheck=recheck)
        most = self._settings.maximum_ttl
        if not isinstance(answer, Found):
            most = min(most, _NEGATIVE_TTL)
        self._cache.keep(question, answer, now=now, ttl=min(max(ttl, self._settings.minimum_ttl), most))
        return answer


def _joined(four: AddressAnswer, six: AddressAnswer) -> AddressAnswer:
    """Something found beats a failure, a failure beats absence: only when both say so is there no address."""
    if isinstance(four, Found) and isinstance(six, Found):
        return Found(four.records + six.records, stale=four.stale or six.stale)
    if isinstance(four, Found):
        return _beside(four, six)
    if isinstance(six, Found):
        return _beside(six, four)
    for answer in (four, six):
        if isinstance(answer, Failure):
            return answer
    return NoDomain() if isinstance(four, NoDomain) and isinstance(six, NoDomain) else NoRecords()


def _beside(found: Found[Address], other: AddressAnswer) -> AddressAnswer:
    return replace(found, missing=other.text) if isinstance(other, Failure) else found
