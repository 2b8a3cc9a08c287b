"""server.repeating: a work that is done again and again beside the mail.

What fails for a reason of the machine's (a disk that is full, a database that another process keeps) is told to the
log and tried again: none of these works is worth ending a worker for. Anything else is a bug, and ends it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.errors import RelayError
from relay.log import Log


async def repeat(work: Callable[[], Awaitable[object]], *, every: float, log: Log, failing: str) -> None:
    """Until cancelled: `work`, a pause of `every` seconds, again. failing: the log's word for a RelayError."""
    while True:
        await attempt(work, log=log, failing=failing)
        await asyncio.sleep(every)


async def attempt(work: Callable[[], Awaitable[object]], *, log: Log, failing: str) -> None:
    """Once."""
    try:
        await work()
    except RelayError as error:
        log.error(failing, error=error.text, remedy=error.remedy)
