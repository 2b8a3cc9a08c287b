"""A submission server's surroundings for tests: small real objects instead of spool, registry and journal."""

import asyncio
import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from relay.log import Level, Log, Output
from relay.mail.address import Pattern
from relay.mail.event import Event
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.reception import Submitted
from relay.registry.credentials import Credential, StoredSecret
from relay.registry.snapshot import Snapshot
from relay.registry.usage import Use
from relay.server.load_table import LoadTable
from relay.spool.content import IncomingFile
from relay.submission.guessing import Guessing
from relay.submission.limits import InProcessLimiter, Rates, Sessions
from relay.submission.services import Services

NOW = 1_800_000_000.0
SECRET = "correct-horse"


class Clock:
    """POSIX or monotonic seconds, moved by hand."""

    def __init__(self, time: float = NOW) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


def credential(name: str = "shop", **fields: Any) -> Credential:
    """Login and name are the same; the secret is SECRET; may send as anybody@example.com."""
    known: dict[str, Any] = {
        "name": name,
        "login": name,
        "secrets": (StoredSecret(sha256(SECRET.encode()).hexdigest(), created_at=0.0),),
        "senders": (Pattern.parse("*@example.com"),),
        "created_at": 0.0,
    }
    return Credential(**(known | fields))


class Inbox:
    """A receiver: keeps what comes. While `gate` is not set, a commit hangs."""

    def __init__(self) -> None:
        self.messages: list[Submitted] = []
        self.reply = Reply(250, "2.0.0", "Ok: queued")
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def receive(self, submitted: Submitted, /) -> Reply:
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.messages.append(submitted)
        return self.reply if self.reply.code != 250 else Reply(250, "2.0.0", f"Ok: queued as {submitted.id}")


class Acquaintances:
    """Recipients: whom each credential has sent to. Whoever is asked about is kept in `asked`."""

    def __init__(self) -> None:
        self.known: set[tuple[str, str]] = set()
        self.asked: list[str] = []

    async def first_time(self, credential: str, recipients: Collection[str], /) -> int:
        self.asked += recipients
        return sum((credential, each) not in self.known for each in recipients)

    def sent_to(self, credential: str, recipients: Collection[str], /) -> None:
        self.known |= {(credential, each) for each in recipients}


@dataclass
class Tally:
    """Facts, counted."""

    words: list[str] = field(default_factory=list)

    def _note(self, *words: object) -> None:
        self.words.append(" ".join(map(str, words)))

    def session_opened(self, listener: str, /) -> None:
        self._note("opened", listener)

    def session_closed(self, listener: str, /) -> None:
        self._note("closed", listener)

    def session_refused(self, reason: str, /) -> None:
        self._note("refused", reason)

    def tls_failed(self) -> None:
        self._note("tls failed")

    def auth_succeeded(self) -> None:
        self._note("auth succeeded")

    def auth_failed(self, reason: str, /) -> None:
        self._note("auth failed", reason)

    def message_refused(self, code: int, /) -> None:
        self._note("message refused", code)

    def long_lines(self, count: int, /) -> None:
        self._note("long lines", count)


class House:
    """`services` for a server, and what they lead to."""

    def __init__(self, directory: Path, *credentials: Credential) -> None:
        self.clock = Clock()
        self.inbox = Inbox()
        self.facts = Tally()
        self.events: list[Event] = []
        self.uses: list[Use] = []
        self.known: dict[tuple[str, str], float] = {}
        self.suppressions: dict[str, Suppression] = {}
        self.literals: set[str] = set()
        self.has_room = True
        self.sessions = Sessions()
        self.load = LoadTable(workers=1).of_worker(0)
        self.rates = Rates()
        self.acquaintances = Acquaintances()
        self.guard = Guessing(failures=10, window=600.0)
        self.snapshot = Snapshot.of(credentials or (credential(),), ())
        self.log_path = directory / "log"
        self.log = Log(Output(self.log_path), now=self.clock, level=Level.DEBUG)
        self.files: list[IncomingFile] = []
        self._directory = directory
        self._ids = itertools.count(1)

    def grant(self, *credentials: Credential) -> None:
        """What the registry holds from now on."""
        self.snapshot = Snapshot.of(credentials, ())

    def services(self, **changed: Any) -> Services:
        known: dict[str, Any] = {
            "receiver": self.inbox,
            "snapshot": lambda: self.snapshot,
            "last_login_from": lambda login, address: self.known.get((login, address), 0.0),
            "record_use": self.uses.append,
            "suppressed": lambda recipient, _credential: self.suppressions.get(recipient),
            "literal_allowed": self.literals.__contains__,
            "disk_ok": lambda: self.has_room,
            "new_id": lambda: f"id{next(self._ids)}",
            "incoming": self._incoming,
            "journal_rejection": self.events.append,
            "sessions": self.sessions,
            "load": self.load,
            "limiter": InProcessLimiter(self.rates, now=self.clock),
            "recipients": self.acquaintances,
            "guard": self.guard,
            "facts": self.facts,
            "log": self.log,
            "now": self.clock,
        }
        return Services(**(known | changed))

    def logged(self) -> str:
        """All lines so far."""
        self.log.output.flush()
        return self.log_path.read_text()

    def _incoming(self) -> IncomingFile:
        file = IncomingFile(self._directory / f"incoming-{len(self.files)}")
        self.files.append(file)
        return file
