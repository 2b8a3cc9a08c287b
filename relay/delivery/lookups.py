"""delivery.lookups: jobs that wait to hear where their mail goes; all that wait for the same answer ask once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from relay.delivery.destination import Resolution
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
        self._waiting: dict[LookupKey, list[Job]] = {}
        self._unasked: deque[LookupKey] = deque()  # they wait for others to end
        self._asked: set[asyncio.Task[None]] = set()
        self._at_once = FIRST_AT_ONCE
        self._stopped = False

    def add(self, key: LookupKey, job: Job) -> None:
        jobs = self._waiting.get(key)
        if jobs is None:
            jobs = self._waiting[key] = []
            self._unasked.append(key)
            self._ask()
        jobs.append(job)

    def waiting(self) -> Iterable[list[Job]]:
        """To be changed in place."""
        return self._waiting.values()

    def take_waiting(self) -> list[Job]:
        """What was asked for them is still answered, to nobody or to who comes meanwhile."""
        taken: list[Job] = []
        for jobs in self._waiting.values():
            taken += jobs
            jobs.clear()
        return taken

    def stop(self) -> None:
        self._stopped = True
        for task in self._asked:
            task.cancel()

    def _ask(self) -> None:
        """All that is begun goes on in step: with thousands begun at a start, the first mail would leave after them."""
        while self._unasked and len(self._asked) < self._at_once and not self._stopped:
            task = self._tasks.create_task(self._answer(self._unasked.popleft()))
            self._asked.add(task)
            task.add_done_callback(self._asked_one)

    def _asked_one(self, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        self._at_once = min(AT_ONCE, self._at_once + 1)
        if not task.cancelled():
            self._ask()

    async def _answer(self, key: LookupKey) -> None:
        resolution = await self._resolve(key)
        self._answered(key, resolution, self._waiting.pop(key))
