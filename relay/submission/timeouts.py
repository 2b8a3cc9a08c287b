"""submission.timeouts: who has taken too long. Pure: a look at a session and the time in, the reply to end it with out.

There is no timer per command and no clock per read: one sweep a second looks at every session, compares how much it has
received with what it had last time, and so knows, to a second, since when it has been silent. Times are monotonic.

Before AUTH: a time in all. After it: a time of silence, between commands and within content, and a rate that content
must keep on average (RFC 5321 4.5.3.2.7 asks for 5 minutes). While a message is being committed the time is ours.
"""

from relay.config.models import SubmissionLimits
from relay.mail.reply import Reply
from relay.submission import replies
from relay.submission.dialogue import Turn
from relay.submission.session import Session


class Watch:
    """What is remembered of one session between sweeps. quiet_since: when it was last seen to have received more."""

    __slots__ = ("_octets", "_opened_at", "_window_at", "_window_octets", "quiet_since")

    def __init__(self, now: float) -> None:
        self._opened_at = now
        self.quiet_since = now
        self._octets = 0
        self._window_at = 0.0  # when the window of content under way began; 0.0 for none
        self._window_octets = 0

    def overdue(self, session: Session, limits: SubmissionLimits, *, now: float) -> Reply | None:
        """The reply to end the session with, or None."""
        before = self._octets
        if session.received != before or session.turn is Turn.COMMIT:
            self._octets, self.quiet_since = session.received, now
        if session.credential is None:
            late = now - self._opened_at >= limits.unauthenticated
            return replies.NOT_AUTHENTICATED_IN_TIME if late else None
        if now - self.quiet_since >= limits.command:
            return replies.IDLE
        if session.turn is not Turn.CONTENT:
            self._window_at = 0.0
            return None
        if not self._window_at:
            self._window_at, self._window_octets = now, before
        return self._too_slow(limits, now)

    def _too_slow(self, limits: SubmissionLimits, now: float) -> Reply | None:
        elapsed = now - self._window_at
        if elapsed < limits.data_window:
            return None
        if self._octets - self._window_octets < limits.data_rate * elapsed:
            return replies.TOO_SLOW
        self._window_at, self._window_octets = now, self._octets
        return None
