"""server.guard: the guessing guard for the machine.

Each worker counts what it sees and what the others tell it, so a guesser gets no fresh start by reaching another
worker. What is told arrives within a millisecond or so; a limit may be passed by what is under way just then.

A login that succeeds once per message is told about once a minute: what the others are to know is that the pair is
known here, and that its failures, if there were any, are forgiven.
"""

from relay.server.switchboard import Board
from relay.submission.guessing import Guessing

TELL_EVERY = 60.0


class SharedGuard:
    """A `services.Guard` over one worker's Guessing and the board."""

    def __init__(self, own: Guessing, board: Board) -> None:
        self._own = own
        self._board = board

    def locked(self, *, address: str, now: float) -> float:
        return self._own.locked(address=address, now=now)

    def locked_pair(self, *, address: str, login: str, now: float) -> float:
        return self._own.locked_pair(address=address, login=login, now=now)

    def known_at(self, *, address: str, login: str) -> float:
        return self._own.known_at(address=address, login=login)

    def hear(self, outcome: str, *, address: str, login: str, now: float) -> None:
        """What another worker saw: "failed" or "succeeded"."""
        if outcome == "failed":
            self._own.failed(address=address, login=login, now=now)
        else:
            self._own.succeeded(address=address, login=login, now=now)

    def failed(self, *, address: str, login: str, now: float) -> None:
        self._own.failed(address=address, login=login, now=now)
        self._board.auth_failed(address=address, login=login)

    def succeeded(self, *, address: str, login: str, now: float) -> None:
        is_news = now - self._own.known_at(address=address, login=login) >= TELL_EVERY
        is_news = is_news or self._own.has_failed(address=address, login=login)
        self._own.succeeded(address=address, login=login, now=now)
        if is_news:
            self._board.auth_succeeded(address=address, login=login)
