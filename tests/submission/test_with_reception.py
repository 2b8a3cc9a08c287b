"""From the socket into a real spool, by the real reception: signed, durable, and refused where it must be."""

import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dkim
import pytest

from relay.config.models import Retry, SubmissionLimits
from relay.dkim import KeyRing, generate_keys, public_record
from relay.metrics import Metrics
from relay.reception import Reception, Signing, Terms
from relay.registry.domains import DkimKey
from relay.spool import NewMessage, QueuedRecipient
from relay.spool.spool import Spool
from relay.submission.policy import check_header
from tests.peers.certificates import Authority, Issued
from tests.submission.house import House
from tests.submission.talk import MESSAGE
from tests.submission.wire import Running, Wire, running


@dataclass
class Scheduler:
    """Takes what is handed over."""

    recipients: list[QueuedRecipient] = field(default_factory=list)

    def has_room(self, _message: NewMessage) -> bool:
        return True

    def hand_over(self, recipients: Sequence[QueuedRecipient]) -> None:
        self.recipients += recipients

    def stored(self, message: NewMessage) -> None:
        raise AssertionError(message)


@dataclass
class Whole:
    """A server that runs, and what is behind it."""

    up: Running
    spool: Spool
    scheduler: Scheduler
    wire: Wire


@dataclass
class Setting:
    """What it is made of."""

    house: House
    issued: Issued
    trust: ssl.SSLContext
    directory: Path
    key: DkimKey


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("relay.test")


@pytest.fixture(scope="session")
def key() -> DkimKey:
    pem, _ = generate_keys()
    return DkimKey("example.com", "s1", "rsa", pem, public_record(pem), created_at=0.0)


@pytest.fixture
def setting(house: House, issued: Issued, authority: Authority, tmp_path: Path, key: DkimKey) -> Setting:
    house.clock.time = time.time()  # a verifier looks at the time of signing
    return Setting(house, issued, ssl.create_default_context(cafile=authority.root), tmp_path, key)


@asynccontextmanager
async def whole(setting: Setting) -> AsyncIterator[Whole]:
    house = setting.house
    spool = await Spool.open(setting.directory, shard=0, now=house.clock)
    scheduler = Scheduler()
    reception = Reception(
        spool=spool,
        delivery=scheduler,
        signing=Signing(KeyRing([setting.key]), now=house.clock),
        authorize=lambda credential, header: check_header(credential, header, lambda domain: domain == "example.com"),
        suppressed=lambda _recipient, _credential: None,
        terms=lambda: Terms("relay.test", Retry(), {}, SubmissionLimits(), show_client=False),
        metrics=Metrics(streams=["transactional"]),
        log=house.log,
        now=house.clock,
    )
    services = {"receiver": reception, "new_id": spool.next_id, "incoming": spool.incoming}
    try:
        async with running(house, setting.issued, services=services) as up:
            wire = await Wire.to(up.tls, context=setting.trust)
            await wire.reply()
            await wire.login()
            yield Whole(up, spool, scheduler, wire)
            await wire.close()
    finally:
        await spool.close()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Hello\r\n..dot\r\n", id="small, in the spool's row"),
        pytest.param(b"A line of some length\r\n" * 20_000, id="large, in a file"),
    ],
)
async def test_what_was_sent_is_what_is_spooled_signed(setting: Setting, body: bytes) -> None:
    async with whole(setting) as relay:
        content = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: Hi\r\n\r\n" + body.replace(b"\r\n.", b"\r\n..")
        reply = await relay.wire.send(content)
        [recipient] = relay.scheduler.recipients
        assert reply == f"250 2.0.0 Ok: queued as {recipient.message.id}"
        stored = await relay.spool.content(recipient.message.id)
        assert b"".join(stored.chunks()) == body
        assert b"with ESMTPSA" in stored.head and b"DKIM-Signature:" in stored.head
        record = setting.key.public_record.encode()
        assert dkim.verify(stored.head + body, dnsfunc=lambda *_, **__: record)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(MESSAGE.replace(b"a@example.com", b"x@example.org"), "550 5.7.1", id="a From that is not its own"),
        pytest.param(b"Subject: none\r\n\r\n", "550 5.6.0", id="no From"),
        pytest.param(b"no header at all\r\n", "550 5.6.0", id="no header"),
    ],
)
async def test_what_reception_refuses_is_journaled_and_leaves_nothing(
    setting: Setting, content: bytes, expected: str
) -> None:
    async with whole(setting) as relay:
        large = content + b"\r\n" + b"line\r\n" * 20_000
        for each in (content, large):
            assert (await relay.wire.send(each)).startswith(expected)
        assert relay.scheduler.recipients == []
        assert [event.reply[:9] for event in setting.house.events] == [expected, expected]
        assert not list((setting.directory / "shard-0" / "content").iterdir())
