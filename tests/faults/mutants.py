"""faults.mutants: a Relay with a mistake in it, for the harness to find: `python -m tests.faults.mutants NAME`.

The rest of the command line is Relay's. This is the only module here that knows its code, and it changes it in memory.
"""

import sys

from relay.cli import main
from relay.delivery.attempt import compose
from relay.delivery.carriage import Carriage
from relay.delivery.judging import NOWHERE
from relay.delivery.site import Job, Line
from relay.mail.reply import Reply
from relay.smtpclient import OutgoingContent, TransactionResult

TAKEN = Reply(250, "2.0.0", "Taken")


async def _settles_first(self: Carriage, job: Job, line: Line) -> TransactionResult:
    """Delivered, it says, and is on its way."""
    stored = await self._spool.content(job.message.id)
    judge = self._settling.judge
    self._settling.settle(
        job.message, [judge.delivered(each, TAKEN, NOWHERE, dsn_offered=True) for each in job.recipients]
    )
    await self._settling.idle.wait()
    line.messages += 1
    content = OutgoingContent(stored.head, stored.body, stored.path, stored.body_size if stored.path else 0)
    return await line.connection.transact(compose(job, line.connection.extensions, content))


def _mutate(name: str) -> None:
    if name != "settles-first":
        raise SystemExit(f"no such mutant: {name}")
    Carriage.transact = _settles_first  # type: ignore[method-assign]


if __name__ == "__main__":
    _mutate(sys.argv.pop(1))
    main()
