"""server.ending: what ended a process, in words: for its log, for the command that began it, for its exit code.

Errors of ours are told with what to do about them; anything else is a bug and told with its traceback. Nothing is
printed by anybody else, so no traceback ever lands on a terminal.
"""

import asyncio
import os
from collections.abc import Iterator

from relay.errors import RelayError
from relay.log import Log


def told(error: BaseException, log: Log) -> RelayError:
    """Log what ended this process; the one error that stands for all of it: a bug before anything that follows it."""
    errors = list(_leaves(error))
    for each in errors:
        if isinstance(each, RelayError):
            log.error("worker cannot run", error=each.text, remedy=each.remedy)
        else:
            log.exception("worker failed", each)
    log.output.flush()
    bug = next((each for each in errors if not isinstance(each, RelayError)), None)
    if bug is not None:
        return RelayError(
            f"relay ended by an error of its own: {type(bug).__name__}: {bug}",
            remedy="its log has the places it came through; please report them",
        )
    return next(each for each in errors if isinstance(each, RelayError))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def give_up_after(seconds: float, log: Log) -> None:
    """A drain that does not end by itself is ended, as a supervisor ends it: recovery knows how to go on."""

    def give_up() -> None:
        log.error("drain cut short", seconds=seconds)
        log.output.flush()
        os._exit(os.EX_TEMPFAIL)

    asyncio.get_running_loop().call_later(seconds, give_up)
