"""Where mail goes is asked for so much at once, for one application no later than for another."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from relay.delivery.destination import Resolution, Unresolved
from relay.delivery.lookups import FIRST_AT_ONCE, LookupKey, Lookups
from relay.delivery.site import Job
from relay.spool import QueuedMessage

MESSAGE = QueuedMessage("", 0.0, "", "", "", "", "7BIT", False, "", "", 0, "", "", "", "", False, "retry")
NEWS = replace(MESSAGE, credential="news", stream="bulk")
SHOP = replace(MESSAGE, credential="shop", stream="transactional")


@dataclass
class Asking:
    """Nameservers that answer when they are told to, and what was heard of them. asked: in order."""

    tasks: asyncio.TaskGroup
    asked: list[LookupKey] = field(default_factory=list)
    answered: dict[LookupKey, int] = field(default_factory=dict)
    answers: dict[LookupKey, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lookups = Lookups(self._resolve, self._answered, self.tasks)

    def want(self, domain: str, message: QueuedMessage) -> None:
        self.lookups.add(domain, Job(message, domain, []))

    async def answer(self, domain: str) -> None:
        """What waits for a place has its turn then."""
        self.answers[domain].set()
        await self.settled()

    async def settled(self) -> None:
        """All that can be asked is asked."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def _resolve(self, key: LookupKey) -> Resolution:
        self.asked.append(key)
        await self.answers.setdefault(key, asyncio.Event()).wait()
        return Unresolved("nobody knows")

    def _answered(self, key: LookupKey, _: Resolution, jobs: Sequence[Job]) -> None:
        self.answered[key] = len(jobs)


async def test_ones_mail_to_a_new_domain_does_not_wait_for_all_that_anothers_is_for() -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = Asking(tasks)
        for number in range(1000):
            asking.want(f"silent{number}", NEWS)
        asking.want("new", SHOP)
        await asking.settled()
        assert len(asking.asked) == FIRST_AT_ONCE
        await asking.answer("silent0")
        assert "new" in asking.asked
        asking.lookups.stop()


async def test_who_waits_for_the_same_answer_asks_once_whoever_has_its_turn_first() -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = Asking(tasks)
        for number in range(FIRST_AT_ONCE + 1):
            asking.want(f"silent{number}", NEWS)
        asking.want("both", NEWS)
        asking.want("both", SHOP)
        await asking.settled()
        await asking.answer("silent0")
        assert "both" in asking.asked
        asking.want("both", NEWS)
        await asking.answer("both")
        for number in range(1, FIRST_AT_ONCE + 1):
            await asking.answer(f"silent{number}")
        assert (asking.asked.count("both"), asking.answered["both"]) == (1, 3)
        assert not list(asking.lookups.waiting())


async def test_what_is_taken_away_is_not_asked_for() -> None:
    async with asyncio.TaskGroup() as tasks:
        asking = Asking(tasks)
        for number in range(FIRST_AT_ONCE + 5):
            asking.want(f"silent{number}", NEWS)
        await asking.settled()
        assert len(asking.lookups.take_waiting()) == FIRST_AT_ONCE + 5
        for number in range(FIRST_AT_ONCE):
            await asking.answer(f"silent{number}")
        assert len(asking.asked) == FIRST_AT_ONCE
        assert set(asking.answered.values()) == {0}
