"""submission.admission: how many sessions there may be, and one session's place among them.

Before AUTH a session counts for its address and among the unauthenticated, who have at most half of all places, so that
those who only knock cannot keep out those who have a key. AUTH moves it to its credential. A trusted listener has a
limit of its own. Whoever gets an `Admission` ends it with `leave`, once, however the session ends.
"""

from enum import StrEnum

from relay.config.models import SubmissionLimits
from relay.mail.reply import Reply
from relay.submission.client import Client
from relay.submission.services import SessionTable

ALL = "all"
UNAUTHENTICATED = "unauthenticated"


class Reason(StrEnum):
    """Why a connection was turned away at the door."""

    ADDRESS = "address"  # too many from there
    FULL = "full"
    NETWORK = "network"  # a trusted listener is not for it
    DRAINING = "draining"


REPLIES = {
    Reason.ADDRESS: Reply(421, "4.7.0", "Too many sessions from your address; try again later"),
    Reason.FULL: Reply(421, "4.7.0", "Too many sessions; try again later"),
    Reason.NETWORK: Reply(554, "5.7.1", "This listener is not for your address"),
    Reason.DRAINING: Reply(421, "4.3.2", "Shutting down; try again later"),
}
TOO_MANY_OF_CREDENTIAL = Reply(421, "4.7.0", "Too many sessions with this credential; try again later")


class Admission:
    """The keys a session is counted under."""

    __slots__ = ("_keys", "_table")

    def __init__(self, table: SessionTable) -> None:
        self._table = table
        self._keys: list[str] = []

    def enter(self, key: str, *, limit: int) -> bool:
        if not self._table.enter(key, limit=limit):
            return False
        self._keys.append(key)
        return True

    def move_to_credential(self, name: str, *, limit: int) -> bool:
        """The session has authenticated; False when the credential has too many already."""
        for key in self._keys:
            if key != ALL:
                self._table.leave(key)
        self._keys = [ALL]
        return self.enter(f"credential:{name}", limit=limit)

    def leave(self) -> None:
        """Safe to call again."""
        keys, self._keys = self._keys, []
        for key in keys:
            self._table.leave(key)


def admit(table: SessionTable, client: Client, limits: SubmissionLimits) -> Admission | Reason:
    """A place before AUTH, or why there is none."""
    admission = Admission(table)
    if not admission.enter(f"address:{client.key}", limit=limits.sessions_per_address):
        return Reason.ADDRESS
    half = max(1, limits.sessions // 2)
    if admission.enter(UNAUTHENTICATED, limit=half) and admission.enter(ALL, limit=limits.sessions):
        return admission
    admission.leave()
    return Reason.FULL


def admit_trusted(table: SessionTable, listen: str, *, limit: int) -> Admission | Reason:
    """A place on the trusted listener at `listen`."""
    admission = Admission(table)
    return admission if admission.enter(f"trusted:{listen}", limit=limit) else Reason.FULL
