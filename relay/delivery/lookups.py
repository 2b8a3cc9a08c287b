"""delivery.lookups: jobs that wait to hear where their mail goes; all that wait for the same answer ask once.

So many questions are under way at once. Whoever chooses the domains may choose some whose servers say nothing, so that
each has its place for seconds; the next place goes to whose turn it is, in a fair order of whose mail is waiting: one
application's mail to a new domain does not wait for all that another's is for.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence

from relay.delivery.destination import Resolution
from relay.delivery.fair_order import FairOrder, Sharer
from relay.delivery.routing import Smarthost
from relay.delivery.site import Job

LookupKey = Smarthost | str  # a host that a route names, or the domain whose DNS is asked

AT_ONCE = 500  # questions ...
FIRST_AT_ONCE = 20  # ... and after a start: each that ends lets one more begin

Resolve = Callable[[LookupKey], Awaitable[Resolution]]
Answered = Callable[[LookupKey, Resolution, Sequence[Job]], None]


class Lookups:
    """One shard's. `tasks` owns every task begun here."""

    def __init__(self, resolve: Resolve, answered: Answered, tasks: asyncio.TaskGroup) -> None:
        self._resolve = resolve
        self._answered = answered
        self._tasks = tasks
        self._asking: dict[LookupKey, list[Job]] = {}
        self._unasked: dict[Sharer, OrderedDict[LookupKey, list[Job]]] = {}  # they wait for others to end
        self._order = FairOrder()
        self._tasks_asking: set[asyncio.Task[None]] = set()
        self._at_once = FIRST_AT_ONCE
        self._stopped = False

    def add(self, key: LookupKey, job: Job) -> None:
        asking = self._asking.get(key)
        if asking is not None:
            asking.append(job)
            return
        self._unasked.setdefault(job.sharer, OrderedDict()).setdefault(key, []).append(job)
        self._order.wait(job.sharer)
        self._ask()

    def waiting(self) -> Iterable[list[Job]]:
        """To be changed in place."""
        yield from self._asking.values()
        for keys in self._unasked.values():
            yield from keys.values()

    def take_waiting(self) -> list[Job]:
        """What is being asked for them is still answered, to nobody or to who comes meanwhile."""
        taken = [job for jobs in self.waiting() for job in jobs]
        self._unasked.clear()
        self._order.clear()
        for jobs in self._asking.values():
            jobs.clear()
        return taken

    def stop(self) -> None:
        self._stopped = True
        for task in self._tasks_asking:
            task.cancel()

    def _ask(self) -> None:
        """All that is begun goes on in step: with thousands begun at a start, the first mail would leave after them."""
        while self._unasked and len(self._tasks_asking) < self._at_once and not self._stopped:
            key = self._next()
            self._asking[key] = self._take_unasked(key)
            task = self._tasks.create_task(self._answer(key))
            self._tasks_asking.add(task)
            task.add_done_callback(self._asked_one)

    def _next(self) -> LookupKey:
        sharer = self._order.first()
        self._order.reach(self._order.place(sharer))
        return next(iter(self._unasked[sharer]))

    def _take_unasked(self, key: LookupKey) -> list[Job]:
        """Whoever they are of."""
        taken = []
        for sharer, keys in list(self._unasked.items()):
            taken += keys.pop(key, [])
            if not keys:
                del self._unasked[sharer]
                self._order.leave(sharer)
        return taken

    def _asked_one(self, task: asyncio.Task[None]) -> None:
        self._tasks_asking.discard(task)
        self._at_once = min(AT_ONCE, self._at_once + 1)
        if not task.cancelled():
            self._ask()

    async def _answer(self, key: LookupKey) -> None:
        resolution = await self._resolve(key)
        self._answered(key, resolution, self._asking.pop(key))
