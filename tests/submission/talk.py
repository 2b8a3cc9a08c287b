"""A session without sockets, driven by hand."""

from collections.abc import Mapping
from typing import Any

from relay.config.models import Submission
from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.submission.admission import Admission
from relay.submission.client import Client
from relay.submission.limits import Excess
from relay.submission.session import Action, Close, Commit, Session, StartTls
from relay.submission.terms import Terms
from tests.submission.house import House

TLS = "TLSv1.3 TLS_AES_256_GCM_SHA384"
LOGIN = b"AUTH PLAIN AHNob3AAY29ycmVjdC1ob3JzZQ==\r\n"  # shop, correct-horse
MESSAGE = b"From: a@example.com\r\nSubject: Hi\r\n\r\nHello\r\n"
NO_COMMIT = Reply(451, "4.3.0", "not asked")


class Talk:
    """`say` gives what is answered. A commit is answered with `outcome`, unless that is None: then `finish` does it."""

    def __init__(
        self,
        house: House,
        *,
        tls: str = TLS,
        trusted: str = "",
        services: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.house = house
        self.services = house.services(**(services or {}))
        self.terms = Terms.of("relay.test", Submission(**settings), trusted=trusted)
        self.session = Session(
            self.terms,
            self.services,
            Client("192.0.2.7", "192.0.2.7"),
            admission=Admission(self.services.sessions),
            over=Excess(),
            tls=tls,
        )
        self.outcome: Reply | None = Reply(250, "2.0.0", "Ok: queued as x")
        self.messages: list[Submitted] = []
        self.writes: list[bytes] = []
        self.is_closed = False
        self.starts_tls = False

    @classmethod
    def ready(cls, house: House, **settings: Any) -> "Talk":
        """Authenticated as shop."""
        talk = cls(house, **settings)
        talk.say(b"EHLO client\r\n", LOGIN)
        return talk

    def say(self, *octets: bytes) -> bytes:
        """Each piece as one read; what was written meanwhile, all together."""
        self.writes = []
        for piece in octets:
            self._carry_out(self.session.receive(piece))
            while self.session.has_more:
                self._carry_out(self.session.receive(b""))
        return b"".join(self.writes)

    def finish(self, reply: Reply) -> bytes:
        self.writes = []
        self._carry_out(self.session.finished(reply))
        return b"".join(self.writes)

    def after(self, actions: list[Action]) -> bytes:
        self.writes = []
        self._carry_out(actions)
        return b"".join(self.writes)

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, bytes):
                self.writes.append(action)
            elif isinstance(action, Commit):
                self.messages.append(action.submitted)
                if self.outcome is not None:
                    self._carry_out(self.session.finished(self.outcome))
            elif isinstance(action, StartTls):
                self.starts_tls = True
            elif isinstance(action, Close):
                self.is_closed = True
