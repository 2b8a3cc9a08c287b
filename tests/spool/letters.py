"""What the spool's tests post: messages, their events and outcomes, with everything that does not matter filled in."""

from dataclasses import dataclass

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, Kind
from relay.spool import Content, NewMessage, Outcome, QueuedRecipient, Settlement
from relay.spool.spool import Spool

NOON = 1_800_000_000.0  # 2027-01-15 08:00 UTC
DAY = 86400.0
FIVE_DAYS = 5 * DAY


@dataclass
class Clock:
    """POSIX seconds that pass only when told to."""

    time: float = NOON

    def __call__(self) -> float:
        return self.time

    def pass_by(self, seconds: float) -> None:
        self.time += seconds


def new_message(
    spool: Spool,
    *addresses: str,
    at: float = NOON,
    body: bytes = b"Hello.\r\n",
    content: Content | None = None,
    sender: str = "shop@example.com",
    credential: str = "shop",
    suppressed: tuple[str, ...] = (),
    held: bool = False,
    subject: str = "Your order",
) -> NewMessage:
    kept = content or Content(head=b"From: shop@example.com\r\n\r\n", body=body)
    return NewMessage(
        id=spool.next_id(),
        accepted_at=at,
        expires_at=at + FIVE_DAYS,
        credential=credential,
        stream="transactional",
        sender_domain="example.com",
        envelope=Envelope(sender, tuple(Recipient(address) for address in addresses)),
        content=kept,
        size=kept.size,
        header_from="shop@example.com",
        subject=subject,
        header_message_id="<1@example.com>",
        client="192.0.2.1",
        suppressed=tuple(Recipient(address) for address in suppressed),
        held=held,
    )


def event_of(
    one: QueuedRecipient, kind: Kind, *, at: float = NOON, reply: str = "250 2.0.0 Ok", detail: str = ""
) -> Event:
    return Event(
        at=at,
        kind=kind,
        message=one.message.id,
        sender=one.message.sender,
        recipient=one.recipient.address,
        credential=one.message.credential,
        reply=reply,
        detail=detail,
        attempt=one.attempts + 1,
    )


def delivered(*recipients: QueuedRecipient) -> Settlement:
    outcomes = tuple(Outcome(one.position, event_of(one, Kind.DELIVERED), final=True) for one in recipients)
    return Settlement(recipients[0].message.id, outcomes)


def deferred(
    *recipients: QueuedRecipient, until: float, reply: str = "451 4.7.1 greylisted", climbs: bool = True
) -> Settlement:
    outcomes = tuple(
        Outcome(one.position, event_of(one, Kind.DEFERRED, reply=reply), final=False, due_at=until, climbs=climbs)
        for one in recipients
    )
    return Settlement(recipients[0].message.id, outcomes)


async def kinds(spool: Spool) -> list[tuple[Kind, str]]:
    """What the journal will be told, in order."""
    return [(event.kind, event.recipient) for _, event in await spool.events()]


async def addresses_due(spool: Spool, *, until: float = NOON) -> list[str]:
    return [one.recipient.address for one in await spool.due(until=until, limit=1000)]
