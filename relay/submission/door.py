"""submission.door: one listener at work: who is let in, and what a session of it begins with.

The terms are replaced on reload and hold for sessions that begin afterwards.
"""

from dataclasses import dataclass

from relay.config.models import Submission
from relay.submission.admission import Admission, Reason, admit, admit_trusted
from relay.submission.client import Client
from relay.submission.limits import Excess
from relay.submission.listener import Kind, Listener
from relay.submission.services import Services
from relay.submission.session import Session
from relay.submission.terms import Terms


@dataclass(slots=True)
class Door:
    """is_open: False from the beginning of a drain."""

    listener: Listener
    services: Services
    over: Excess
    submission: Submission
    terms: Terms
    is_open: bool = True

    @classmethod
    def of(
        cls, listener: Listener, *, hostname: str, submission: Submission, services: Services, over: Excess
    ) -> "Door":
        terms = Terms.of(hostname, submission, trusted=_bound_to(listener))
        return cls(listener, services, over, submission, terms)

    def reload(self, listener: Listener, *, hostname: str, submission: Submission) -> None:
        self.listener = listener
        self.submission = submission
        self.terms = Terms.of(hostname, submission, trusted=_bound_to(listener))

    def is_proxy(self, client: Client) -> bool:
        """Whether a connection from there must begin with a PROXY header, and is believed."""
        return bool(self.submission.proxy_networks) and client.is_in(self.submission.proxy_networks)

    def admit(self, client: Client) -> Admission | Reason:
        outcome = self._admit(client)
        if isinstance(outcome, Reason):
            self.services.facts.session_refused(outcome)
        return outcome

    def _admit(self, client: Client) -> Admission | Reason:
        if not self.is_open:
            return Reason.DRAINING
        trusted = self.listener.trusted
        if trusted is None:
            return admit(self.services.sessions, client, self.submission.limits)
        if not client.is_in(trusted.networks):
            self.services.log.warning("trusted listener refused a client", client=client.address, listen=trusted.listen)
            return Reason.NETWORK
        return admit_trusted(self.services.sessions, trusted.listen, limit=trusted.sessions)

    def session(self, client: Client, admission: Admission, *, tls: str) -> Session:
        self.services.facts.session_opened(self.listener.kind)
        return Session(self.terms, self.services, client, admission=admission, over=self.over, tls=tls)

    def session_closed(self) -> None:
        self.services.facts.session_closed(self.listener.kind)


def _bound_to(listener: Listener) -> str:
    return listener.trusted.credential if listener.kind is Kind.TRUSTED and listener.trusted is not None else ""
