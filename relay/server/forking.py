"""server.forking: a process of its own for a worker, with what ties it to the supervisor.

Two socket pairs: `tie` for the channel, whose end tells either side that the other is gone, and `passing` for
listening sockets. The child lets go of the supervisor's ends of every pair: one left open would keep another worker
from noticing that the supervisor is gone.

Signals are held back over the fork: between it and the child's own handlers the child would run the supervisor's,
which wake the supervisor's loop and are lost to the child. What a terminal sends to the whole group (SIGINT, SIGHUP)
is the supervisor's to understand; the child ignores it.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

from relay.server import passing

HELD_BACK = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})


@dataclass(frozen=True, slots=True)
class Ends:
    """One side of both pairs."""

    tie: socket.socket
    passing: socket.socket

    def all(self) -> tuple[socket.socket, socket.socket]:
        return self.tie, self.passing

    def close(self) -> None:
        for end in self.all():
            end.close()


def fork_worker(
    main: Callable[[Ends], int], *, others: Iterable[Ends], fork: Callable[[], int] = os.fork
) -> tuple[int, Ends]:
    """The child's process id and our ends. `main` is given the child's, and its result is the exit code.

    others: our ends of the workers that run. Raises OSError, and leaves nothing open then.
    """
    ours, theirs = _pairs()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        pid = fork()
        if pid == 0:
            _become_worker(main, theirs, [*others, ours], before)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return pid, ours


def exit_code(pid: int) -> int | None:
    """None while the child runs; negative: the signal that ended it."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _pairs() -> tuple[Ends, Ends]:
    ties = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        passings = passing.pair()
    except OSError:
        for tie in ties:
            tie.close()
        raise
    return Ends(ties[0], passings[0]), Ends(ties[1], passings[1])


def _become_worker(
    main: Callable[[Ends], int], ends: Ends, supervisors: Iterable[Ends], mask: Iterable[int]
) -> NoReturn:
    """In the child. Does not return, whatever happens."""
    code = os.EX_SOFTWARE
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        asyncio.set_event_loop(None)
        for each in supervisors:
            for end in each.all():
                os.close(end.detach())
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = main(ends)
    finally:
        os._exit(code)
