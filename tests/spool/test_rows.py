import msgspec
import pytest

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, Kind
from relay.mail.suppression import Cause, Strike, Suppression
from relay.spool import Content, NewMessage, Status, rows, stored
from tests.spool.letters import NOON

MESSAGE = NewMessage(
    id="01j000000000000",
    accepted_at=NOON,
    expires_at=NOON + 100,
    credential="shop",
    stream="bulk",
    sender_domain="example.com",
    envelope=Envelope("a@example.com", (Recipient("b@example.org"),), body="8BITMIME", smtputf8=True, ret="HDRS"),
    content=Content(b"h"),
    size=1,
    header_from="a@example.com",
    subject="Grüße",
    header_message_id="<1@example.com>",
    client="192.0.2.1",
)
FULL = Event(
    at=NOON,
    kind=Kind.BOUNCED,
    message="01j000000000000",
    sender="a@example.com",
    recipient="b@example.org",
    credential="shop",
    stream="bulk",
    reply="550 5.1.1 no such user",
    mx="mx.example.org[192.0.2.9]:25",
    source="192.0.2.1",
    tls="TLSv1.3 verified",
    verdict="recipient",
    attempt=3,
    next_attempt_at=NOON + 60,
    size=4096,
    header_from="a@example.com",
    subject="Grüße",
    header_message_id="<1@example.com>",
    client="192.0.2.7",
    detail="said so",
)


def test_an_event_comes_back_as_it_was() -> None:
    assert rows.unpack_event(rows.pack_event(FULL)) == FULL


def test_an_event_written_before_a_field_was_added_still_decodes() -> None:
    fields = msgspec.msgpack.decode(rows.pack_event(FULL))
    older = msgspec.msgpack.encode(fields[:-1])
    assert rows.unpack_event(older).detail == "" and rows.unpack_event(older).client == FULL.client


def test_a_new_messages_event_is_packed_as_the_event_itself_would_be() -> None:
    event = Event(
        at=NOON,
        kind=Kind.ACCEPTED,
        message=MESSAGE.id,
        sender="a@example.com",
        recipient="b@example.org",
        credential="shop",
        stream="bulk",
        size=1,
        header_from=MESSAGE.header_from,
        subject=MESSAGE.subject,
        header_message_id=MESSAGE.header_message_id,
        client=MESSAGE.client,
        detail="why",
    )
    assert rows.pack_arrival(MESSAGE, Kind.ACCEPTED, "b@example.org", detail="why") == rows.pack_event(event)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(
            Suppression("b@example.org", Cause.HARD_BOUNCE, NOON, 0.0, "all", "id", "550"), id="a suppression"
        ),
        pytest.param(Strike("b@example.org", Cause.MAILBOX_FULL, NOON, 3, 10.0, 20.0, "id", "452"), id="a strike"),
    ],
)
def test_what_suppresses_comes_back_as_it_was(value: Suppression | Strike) -> None:
    assert rows.unpack_suppression(rows.pack_suppression(value)) == value


def test_octets_of_a_peer_that_are_no_utf8_are_replaced() -> None:
    reply = b"550 caf\xe9".decode("utf-8", "surrogateescape")
    event = Event(at=NOON, kind=Kind.DEFERRED, message="m", sender="", recipient="r", credential="c", reply=reply)
    assert rows.unpack_event(rows.pack_event(event)).reply == "550 caf?"
    assert rows.last_reply(event) == "550 caf?"


def test_the_last_reply_is_cut_and_falls_back_to_the_detail() -> None:
    event = Event(at=NOON, kind=Kind.DEFERRED, message="m", sender="", recipient="r", credential="c", detail="x" * 5000)
    assert rows.last_reply(event) == "x" * rows.LAST_REPLY_LENGTH


@pytest.mark.parametrize(
    ("status", "attempts", "damage", "shown"),
    [
        pytest.param(rows.FRESH, 0, None, Status.QUEUED, id="a fresh one is queued"),
        pytest.param(rows.QUEUED, 0, None, Status.QUEUED, id="one never tried is queued"),
        pytest.param(rows.QUEUED, 2, None, Status.DEFERRED, id="one tried is deferred"),
        pytest.param(rows.HELD, 2, None, Status.HELD, id="a held one is held, tried or not"),
        pytest.param(rows.HELD, 2, "why", Status.DAMAGED, id="one that was set aside is damaged"),
        pytest.param(rows.INTENDED, 1, None, Status.DEFERRED, id="one under way again is deferred"),
        pytest.param(rows.DOUBTFUL, 0, None, Status.QUEUED, id="one in doubt at its first attempt is queued"),
    ],
)
def test_an_operator_sees_four_statuses(status: int, attempts: int, damage: str | None, shown: Status) -> None:
    assert stored.status_of(status, attempts=attempts, damage=damage) is shown
