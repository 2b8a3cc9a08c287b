"""The spool against a model of it in a dictionary, through any sequence of calls, restarts and crashes."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.mail.event import Kind
from relay.spool import (
    INLINE_OCTETS,
    Cursor,
    Outcome,
    QueuedRecipient,
    Selection,
    Settled,
    Settlement,
    Status,
    StatusTotal,
    Totals,
    queries,
)
from relay.spool.spool import Spool
from tests.spool.letters import FIVE_DAYS, Clock, deferred, delivered, event_of, new_message

T = TypeVar("T")
Key = tuple[str, int]

DOMAINS = ("example.org", "example.net")
SELECTIONS = st.sampled_from(
    [Selection(), *(Selection(recipient_domain=domain) for domain in DOMAINS), Selection(status=Status.HELD)]
)


@dataclass
class Entry:
    """One recipient, as it should be. fresh: claimed and in no index; due_at counts once it is queued."""

    address: str
    accepted_at: float
    expires_at: float
    due_at: float
    fresh: bool
    attempts: int = 0
    held_at: float = 0.0
    intended: bool = False
    doubtful: bool = False
    claim: QueuedRecipient | None = None
    was_met: bool = False  # by the walker, since it was queued

    @property
    def status(self) -> Status:
        if self.held_at:
            return Status.HELD
        return Status.DEFERRED if self.attempts else Status.QUEUED

    @property
    def is_queued(self) -> bool:
        return not (self.fresh or self.held_at or self.intended or self.doubtful)

    def matches(self, selection: Selection) -> bool:
        return self.address.endswith(selection.recipient_domain) and selection.status in (None, self.status)


@dataclass
class Model:
    entries: dict[Key, Entry] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    told: list[tuple[Kind, str]] = field(default_factory=list)  # (kind, recipient) not yet forgotten

    def remove(self, key: Key) -> None:
        del self.entries[key]
        if not any(message_id == key[0] for message_id, _ in self.entries):
            del self.bodies[key[0]]

    def selected(self, selection: Selection) -> list[Key]:
        return sorted(key for key, entry in self.entries.items() if entry.matches(selection))


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(prefix="spool-stateful-"))
        self.directory = self.base / "0"
        self.clock = Clock()
        self.model = Model()
        self.last_sequence = 0
        self.restarts = 0
        self.cursor: Cursor | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    async def settle(self, settlement: Settlement) -> Settled:
        return await self.spool.settle(settlement)

    @initialize()
    def open(self) -> None:
        self.spool = self.run(Spool.open(self.directory, shard=0, now=self.clock))

    def teardown(self) -> None:
        self.run(self.spool.close())
        self.runner.close()
        shutil.rmtree(self.base)

    @rule(
        domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4),
        hand_over=st.booleans(),
        held=st.sampled_from([False, False, True]),
        large=st.sampled_from([False, False, False, True]),
    )
    def accept(self, domains: list[str], *, hand_over: bool, held: bool, large: bool) -> None:
        now = self.clock()
        addresses = [f"user{n}@{domain}" for n, domain in enumerate(domains)]
        body = b"x" * (INLINE_OCTETS + 1 if large else 10)
        message = new_message(self.spool, *addresses, at=now, held=held, body=body)
        claimed = self.run(self.spool.accept(message, hand_over=hand_over))
        assert len(claimed) == (len(addresses) if hand_over and not held else 0)
        self.model.bodies[message.id] = body
        for position, address in enumerate(addresses):
            entry = Entry(address, now, now + FIVE_DAYS, now, fresh=bool(claimed), held_at=now if held else 0.0)
            entry.claim = claimed[position] if claimed else None
            self.model.entries[message.id, position] = entry
            self.model.told += [(Kind.ACCEPTED, address), *([(Kind.HELD, address)] if held else [])]

    @rule(seconds=st.sampled_from([1.0, 60.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_by(seconds)

    @rule(limit=st.sampled_from([2, 1000]))
    def walk_on_and_claim_what_is_due(self, limit: int) -> None:
        """A walker who never begins anew meets everything that is due."""
        while batch := self.run(self.spool.due(after=self.cursor, until=self.clock(), limit=limit)):
            self.cursor = batch[-1].cursor
            for one in batch:
                entry = self.model.entries[one.message.id, one.position]
                entry.claim, entry.was_met = one, True
        for entry in self.model.entries.values():
            assert entry.was_met or not entry.is_queued or entry.due_at > self.clock()

    def queued(self, entry: Entry, due_at: float) -> None:
        entry.due_at, entry.was_met, entry.fresh, entry.intended = due_at, False, False, False

    def claims(self) -> list[Key]:
        return sorted(key for key, entry in self.model.entries.items() if entry.claim is not None)

    def pick(self, data: st.DataObject) -> tuple[Key, Entry, QueuedRecipient]:
        key = data.draw(st.sampled_from(self.claims()))
        entry = self.model.entries[key]
        assert entry.claim is not None
        return key, entry, entry.claim

    @precondition(lambda self: self.claims())
    @rule(data=st.data(), with_report=st.booleans())
    def end(self, data: st.DataObject, *, with_report: bool) -> None:
        key, entry, claim = self.pick(data)
        settlement = delivered(claim)
        if with_report:
            report = new_message(self.spool, "shop@example.com", at=self.clock(), sender="")
            outcome = Outcome(claim.position, event_of(claim, Kind.BOUNCED), final=True)
            settlement = Settlement(key[0], (outcome,), reports=(report,))
            self.model.bodies[report.id] = report.content.body
            self.model.entries[report.id, 0] = Entry(
                "shop@example.com", self.clock(), self.clock() + FIVE_DAYS, self.clock(), fresh=False
            )
        assert self.run(self.settle(settlement)).missing == ()
        assert self.run(self.settle(settlement)).missing == (claim.position,), "settled once, not twice"
        self.model.remove(key)
        self.model.told.append((Kind.BOUNCED if with_report else Kind.DELIVERED, entry.address))
        if with_report:
            self.model.told.append((Kind.ACCEPTED, "shop@example.com"))

    @precondition(lambda self: self.claims())
    @rule(data=st.data(), seconds=st.sampled_from([-30.0, 0.0, 60.0]), climbs=st.booleans())
    def defer(self, data: st.DataObject, seconds: float, *, climbs: bool) -> None:
        _, entry, claim = self.pick(data)
        until = self.clock() + seconds
        self.run(self.settle(deferred(claim, until=until, climbs=climbs)))
        self.queued(entry, until)
        entry.attempts, entry.claim = entry.attempts + climbs, None
        self.model.told.append((Kind.DEFERRED, entry.address))

    @precondition(lambda self: self.claims())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        _, entry, claim = self.pick(data)
        self.run(self.spool.give_back([claim]))
        if (entry.fresh or entry.intended) and not entry.held_at:
            self.queued(entry, self.clock())
        entry.claim = None

    @precondition(lambda self: self.claims())
    @rule(data=st.data())
    def intend(self, data: st.DataObject) -> None:
        key, entry, _ = self.pick(data)
        may = not entry.held_at
        assert self.run(self.spool.intend(key[0], (key[1],))) == (() if may else (key[1],))
        if may:
            entry.intended, entry.fresh = True, False

    async def order(self, verb: str, selection: Selection) -> list[Key]:
        batches = getattr(self.spool, verb)(selection, by="test")
        return sorted([(change.message_id, change.position) async for batch in batches for change in batch])

    @rule(selection=SELECTIONS)
    def hold(self, selection: Selection) -> None:
        changed = self.run(self.order("hold", selection))
        expected = [
            key for key in self.model.selected(selection) if (entry := self.model.entries[key]).fresh or entry.is_queued
        ]
        assert changed == expected
        for key in changed:
            entry = self.model.entries[key]
            entry.held_at, entry.fresh = self.clock(), False
        self.model.told += [(Kind.HELD, self.model.entries[key].address) for key in changed]

    @rule(selection=SELECTIONS)
    def release(self, selection: Selection) -> None:
        changed = self.run(self.order("release", selection))
        assert changed == [key for key in self.model.selected(selection) if self.model.entries[key].held_at]
        for key in changed:
            entry = self.model.entries[key]
            entry.expires_at += self.clock() - entry.held_at
            entry.held_at = 0.0
            self.queued(entry, self.clock())
        self.model.told += [(Kind.RELEASED, self.model.entries[key].address) for key in changed]

    @rule(selection=SELECTIONS)
    def retry(self, selection: Selection) -> None:
        changed = self.run(self.order("retry", selection))
        expected = [
            key
            for key in self.model.selected(selection)
            if (entry := self.model.entries[key]).is_queued and entry.due_at > self.clock()
        ]
        assert changed == expected
        for key in changed:
            self.queued(self.model.entries[key], self.clock())
        self.model.told += [(Kind.DEFERRED, self.model.entries[key].address) for key in changed]

    @rule(selection=SELECTIONS)
    def cancel(self, selection: Selection) -> None:
        changed = self.run(self.order("cancel", selection))
        assert changed == self.model.selected(selection)
        self.model.told += [(Kind.CANCELLED, self.model.entries[key].address) for key in changed]
        for key in changed:
            self.model.remove(key)

    @rule()
    def forget(self) -> None:
        events = self.run(self.spool.events(limit=3))
        if events:
            self.run(self.spool.forget_events(events[-1][0]))
            self.last_sequence = events[-1][0]
            del self.model.told[: len(events)]

    @rule(cleanly=st.booleans())
    def restart(self, *, cleanly: bool) -> None:
        """Uncleanly: what is on disk at this moment is all the next owner has."""
        self.restarts += 1
        left = self.base / str(self.restarts)
        if cleanly:
            self.run(self.spool.close())
            self.directory.rename(left)
        else:
            shutil.copytree(self.directory, left)
            self.run(self.spool.close())
            shutil.rmtree(self.directory)
        self.directory = left
        self.spool = self.run(Spool.open(self.directory, shard=0, now=self.clock))
        for entry in self.model.entries.values():
            if entry.fresh:
                entry.due_at = self.clock()
            entry.doubtful |= entry.intended
            entry.fresh = entry.intended = entry.was_met = False
            entry.claim = None
        self.cursor = None

    @precondition(lambda self: any(entry.doubtful for entry in self.model.entries.values()))
    @rule()
    def settle_what_is_in_doubt(self) -> None:
        for one in self.run(self.spool.in_doubt(limit=1000)):
            key = (one.message.id, one.position)
            assert self.model.entries[key].doubtful
            outcome = Outcome(one.position, event_of(one, Kind.UNKNOWN), final=True)
            self.run(self.settle(Settlement(one.message.id, (outcome,))))
            self.model.told.append((Kind.UNKNOWN, one.recipient.address))
            self.model.remove(key)

    @invariant()
    def the_queue_is_as_it_should_be(self) -> None:
        found = {(entry.message_id, entry.position): entry for entry in self.run(self.spool.find(Selection()))}
        assert set(found) == set(self.model.entries)
        for key, expected in self.model.entries.items():
            entry = found[key]
            assert (entry.recipient.address, entry.status, entry.attempts, entry.held_at, entry.expires_at) == (
                expected.address,
                expected.status,
                expected.attempts,
                expected.held_at,
                expected.expires_at,
            )

    @invariant()
    def what_is_due_is_due_in_order(self) -> None:
        # Not by due(), which is one walker's.
        query = queries.due(after=None, until=self.clock(), limit=1000, shard=0)
        due = self.run(self.spool._ask(query)).recipients
        assert due == sorted(due, key=lambda one: one.cursor)
        expected = {key: entry.due_at for key, entry in self.model.entries.items() if entry.is_queued}
        now = self.clock()
        assert {(one.message.id, one.position): one.due_at for one in due} == {
            key: due_at for key, due_at in expected.items() if due_at <= now
        }
        later = [due_at for due_at in expected.values() if due_at > now]
        assert self.run(self.spool.next_due_at(now)) == min(later, default=None)

    @invariant()
    def totals_agree(self) -> None:
        totals = self.run(self.spool.totals())
        expected = {status: [e for e in self.model.entries.values() if e.status is status] for status in Status}
        for total, status in zip(_parts(totals), (Status.QUEUED, Status.DEFERRED, Status.HELD), strict=True):
            assert total.count == len(expected[status])

    @invariant()
    def every_content_is_there_and_no_other(self) -> None:
        files = set()
        for message_id, body in self.model.bodies.items():
            content = self.run(self.spool.content(message_id))
            assert b"".join(content.chunks()) == body
            files |= {content.path} - {None}
        self.run(self.spool._parts.keeper._disk.run(bool))  # what is to be unlinked is
        assert set((self.directory / "shard-0" / "content").iterdir()) == files

    @invariant()
    def every_event_is_told_once_in_order(self) -> None:
        events = self.run(self.spool.events(limit=100_000))
        sequences = [sequence for sequence, _ in events]
        assert sequences == sorted(set(sequences)) and all(number > self.last_sequence for number in sequences)
        assert [(event.kind, event.recipient) for _, event in events] == self.model.told


def _parts(totals: Totals) -> tuple[StatusTotal, StatusTotal, StatusTotal]:
    return totals.queued, totals.deferred, totals.held


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
