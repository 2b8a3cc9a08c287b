"""No recipient ends that nobody ended: spool, mover, journal and retention together, against a model.

Whatever is done in whatever order (retention with any number of days, restarts and crashes, hold, release, retry,
cancel by filter, the suspension of a site, the mover, clocks that jump, the end of others), each recipient is owed in
the spool, or an event tells its end: delivered, bounced, expired, or cancelled by an order that selected it. Where the
journal's day was past its time the event has gone with it; what it told is remembered here.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.journal.mover import Mover
from relay.journal.query import Query
from relay.journal.search import Search
from relay.journal.store import Journal
from relay.mail.event import Event, Kind
from relay.spool import Outcome, QueuedRecipient, Selection, Settled, Settlement, Status
from relay.spool.spool import Spool
from tests.spool.letters import DAY, Clock, deferred, event_of, new_message

T = TypeVar("T")
Key = tuple[str, str]  # message, address

DOMAINS = ("example.org", "example.net")
CREDENTIALS = ("shop", "news")
SELECTIONS = st.sampled_from(
    [
        Selection(),
        *(Selection(recipient_domain=domain) for domain in DOMAINS),
        *(Selection(credential=credential) for credential in CREDENTIALS),
        *(Selection(status=status) for status in Status),
        Selection(older_than=2 * DAY),
    ]
)
ENDS = (Kind.DELIVERED, Kind.BOUNCED, Kind.EXPIRED)
LAST = frozenset({*ENDS, Kind.CANCELLED})


@dataclass
class Owed:
    """One recipient as it was accepted. end: what somebody did to it. claim: whoever may settle it."""

    credential: str
    end: Kind | None = None
    claim: QueuedRecipient | None = None


class _Events:
    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def events(self, limit: int, /) -> list[tuple[int, Event]]:
        return await self._spool.events(limit=limit)

    async def forget_events(self, upto: int, /) -> None:
        await self._spool.forget_events(upto)


class Everything(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(prefix="nobody-ended-"))
        self.directory = self.base / "0"
        self.restarts = 0
        self.clock = Clock()
        self.recipients: dict[Key, Owed] = {}
        self.told: set[tuple[str, str, Kind]] = set()  # ends seen in the journal before its day was deleted

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    async def settle(self, settlement: Settlement) -> Settled:
        return await self.spool.settle(settlement)

    @initialize()
    def begin(self) -> None:
        self.run(self.open())

    async def open(self) -> None:
        self.spool = await Spool.open(self.directory, shard=0, now=self.clock)
        self.journal = await Journal.open(self.directory / "shard-0", damaged=lambda path, text: None)

    async def close(self) -> None:
        await self.journal.close()
        await self.spool.close()

    def teardown(self) -> None:
        self.run(self.close())
        self.runner.close()
        shutil.rmtree(self.base)

    # What happens to mail.

    @rule(
        domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=3),
        credential=st.sampled_from(CREDENTIALS),
        held=st.sampled_from([False, False, True]),
    )
    def accept(self, domains: list[str], credential: str, *, held: bool) -> None:
        addresses = [f"user{number}@{domain}" for number, domain in enumerate(domains)]
        message = new_message(self.spool, *addresses, at=self.clock(), credential=credential, held=held)
        claimed = self.run(self.spool.accept(message, hand_over=True))
        for address in addresses:
            claim = next((one for one in claimed if one.recipient.address == address), None)
            self.recipients[message.id, address] = Owed(credential, claim=claim)

    def claims(self) -> list[Key]:
        return sorted(key for key, each in self.recipients.items() if each.claim is not None and each.end is None)

    @precondition(lambda self: self.claims())
    @rule(data=st.data(), kind=st.sampled_from(ENDS))
    def end(self, data: st.DataObject, kind: Kind) -> None:
        owed = self.recipients[data.draw(st.sampled_from(self.claims()))]
        assert owed.claim is not None
        outcome = Outcome(owed.claim.position, event_of(owed.claim, kind, at=self.clock()), final=True)
        assert self.run(self.settle(Settlement(owed.claim.message.id, (outcome,)))).missing == ()
        owed.end = kind

    @precondition(lambda self: self.claims())
    @rule(data=st.data(), days=st.sampled_from([-1.0, 0.0, 0.5, 3.0]))
    def put_off(self, data: st.DataObject, days: float) -> None:
        owed = self.recipients[data.draw(st.sampled_from(self.claims()))]
        assert owed.claim is not None
        self.run(self.settle(deferred(owed.claim, until=self.clock() + days * DAY)))
        owed.claim = None

    @precondition(lambda self: self.claims())
    @rule(domain=st.sampled_from(DOMAINS))
    def suspend(self, domain: str) -> None:
        """Their site is suspended, or in trouble: what was to be sent is given back as it was."""
        given_back = [owed for (_, address), owed in self.recipients.items() if address.endswith(f"@{domain}")]
        claims = [owed.claim for owed in given_back if owed.claim is not None and owed.end is None]
        self.run(self.spool.give_back(claims))
        for owed in given_back:
            owed.claim = None

    @rule()
    def take_what_is_due(self) -> None:
        for one in self.run(self.spool.due(until=self.clock(), limit=1000)):
            owed = self.recipients[one.message.id, one.recipient.address]
            assert owed.end is None, "what has ended is due again"
            owed.claim = one

    # What operators do.

    async def order(self, verb: str, selection: Selection) -> set[tuple[str, int]]:
        batches = getattr(self.spool, verb)(selection, by="test")
        return {(change.message_id, change.position) async for batch in batches for change in batch}

    @rule(selection=SELECTIONS, verb=st.sampled_from(["hold", "release", "retry"]))
    def order_what_ends_nothing(self, verb: str, selection: Selection) -> None:
        self.run(self.order(verb, selection))

    @rule(selection=SELECTIONS)
    def cancel(self, selection: Selection) -> None:
        selected = {(each.message_id, each.position) for each in self.run(self.spool.find(selection, limit=10_000))}
        addresses = {
            (each.message_id, each.position): each.recipient.address
            for each in self.run(self.spool.find(Selection(), limit=10_000))
        }
        cancelled = self.run(self.order("cancel", selection))
        assert cancelled == selected, "an order ends what it selects, and nothing else"
        for message, position in cancelled:
            self.recipients[message, addresses[message, position]].end = Kind.CANCELLED

    # What runs beside.

    @rule()
    def move(self) -> None:
        self.run(self._mover().drain())

    def _mover(self) -> Mover:
        async def at_once(_: float = 0.0) -> None:
            return None

        return Mover(_Events(self.spool), self.journal, wait=at_once, failed=lambda error: None, sleep=at_once)

    @rule(days=st.sampled_from([0, 1, 30]))
    def delete_old_days(self, days: int) -> None:
        self.told |= self.ends()
        today = datetime.fromtimestamp(self.clock(), tz=UTC).date()
        self.run(self.journal.expire(today=today, retention_days=days))

    @rule(days=st.sampled_from([-1.0, 0.01, 1.0, 7.0, 40.0]))
    def the_clock_jumps(self, days: float) -> None:
        self.clock.pass_by(days * DAY)

    @rule(cleanly=st.booleans(), moved=st.booleans())
    def restart(self, *, cleanly: bool, moved: bool) -> None:
        """Uncleanly: what is on disk now is all the next owner has. moved: between two steps of the mover."""
        self.restarts += 1
        left = self.base / str(self.restarts)
        if moved:
            self.run(self._ingest_without_forgetting())
        if cleanly:
            self.run(self.close())
            self.directory.rename(left)
        else:
            shutil.copytree(self.directory, left)
            self.run(self.close())
            shutil.rmtree(self.directory)
        self.directory = left
        self.run(self.open())
        for owed in self.recipients.values():
            owed.claim = None

    async def _ingest_without_forgetting(self) -> None:
        if events := await self.spool.events(limit=5):
            await self.journal.ingest(events)

    # What must hold.

    def events(self) -> list[Event]:
        pending = [event for _, event in self.run(self.spool.events(limit=100_000))]
        found = self.run(Search(self.directory).search(Query(limit=100_000), pending=pending))
        return list(found.events)

    def ends(self) -> set[tuple[str, str, Kind]]:
        return {(event.message, event.recipient, event.kind) for event in self.events() if event.kind in LAST}

    @invariant()
    def each_recipient_is_owed_or_somebody_ended_it(self) -> None:
        owed = {
            (each.message_id, each.recipient.address) for each in self.run(self.spool.find(Selection(), limit=10_000))
        }
        assert owed == {key for key, each in self.recipients.items() if each.end is None}

    @invariant()
    def every_end_is_told_as_what_it_was(self) -> None:
        expected = {(*key, each.end) for key, each in self.recipients.items() if each.end is not None}
        assert self.ends() | self.told == expected


TestEverything = Everything.TestCase
TestEverything.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
