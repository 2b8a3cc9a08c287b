"""The built-in receiver, reached by Relay's own client."""

import asyncio
import time
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from relay.mail.reply import Reply
from relay.mail.verdict import Blame, Rules, Stage, classify
from relay.simulator import Simulator
from relay.smtpclient import (
    Connection,
    Endpoint,
    OutgoingContent,
    SessionOptions,
    TlsContexts,
    TlsMode,
    Transaction,
    TransactionResult,
    connect,
)
from tests.peers.mx import until

RULES = Rules.parse(tomllib.loads((Path(__file__).parents[2] / "config" / "bounce-rules.toml").read_text()))
SMALL = OutgoingContent(head=b"Subject: hello\r\n\r\n", body=b".\r\n..\r\n")


@pytest.fixture(scope="module")
def contexts() -> TlsContexts:
    return TlsContexts(monotonic=time.monotonic)


@pytest_asyncio.fixture
async def simulator() -> AsyncIterator[Simulator]:
    simulator = Simulator(defer=10, slow=0.2)
    await simulator.start()
    yield simulator
    await simulator.close()


@pytest_asyncio.fixture
async def connection(simulator: Simulator, contexts: TlsContexts) -> AsyncIterator[Connection]:
    endpoint = Endpoint("127.0.0.1", simulator.port, "localhost")
    outcome = await connect(endpoint, SessionOptions(contexts, "relay.test", tls=TlsMode.NONE))
    assert isinstance(outcome, Connection)
    yield outcome
    outcome.close()
    await asyncio.sleep(0)


async def send(
    connection: Connection, *locals_: str, content: OutgoingContent = SMALL, parameters: str = ""
) -> TransactionResult:
    recipients = tuple((f"{local}@simulator.test", "") for local in locals_)
    size = f" SIZE={content.octets}"
    return await connection.transact(Transaction("a@example.com", recipients, content, size + parameters))


async def test_it_offers_what_works(connection: Connection) -> None:
    assert connection.extensions == {
        "PIPELINING": "",
        "SIZE": "67108864",
        "8BITMIME": "",
        "SMTPUTF8": "",
        "ENHANCEDSTATUSCODES": "",
    }


TAKEN = Reply(250, "2.0.0", "Taken by the simulator")
OK = Reply(250, "2.1.5", "Ok")


async def test_delivered_is_taken_and_counted(connection: Connection, simulator: Simulator) -> None:
    for count in (1, 2, 3):
        result = await send(connection, "delivered")
        assert (result.recipients, result.final, simulator.received) == ((OK,), TAKEN, count)


@pytest.mark.parametrize(
    "local",
    [
        pytest.param("Delivered", id="in any case"),
        pytest.param("delivered+label", id="with a label"),
        pytest.param("delivered+a+b", id="with two"),
    ],
)
async def test_labels_and_case_do_not_matter(local: str, connection: Connection) -> None:
    assert (await send(connection, local)).final == TAKEN


REFUSED = [
    pytest.param("bounce", "550 5.1.1", (Blame.RECIPIENT, True), id="bounce@ is a dead mailbox, and suppresses"),
    pytest.param("full", "552 5.2.2", (Blame.RECIPIENT, True), id="full@ is a full one"),
    pytest.param("nobody", "550 5.1.1", (Blame.RECIPIENT, True), id="others do not exist"),
    pytest.param("defer", "451 4.7.1", (Blame.TRANSIENT, False), id="defer@ is greylisted"),
]


@pytest.mark.parametrize(("local", "codes", "judgement"), REFUSED)
async def test_refused_at_rcpt_as_the_shipped_rules_know_it(
    local: str, codes: str, judgement: tuple[Blame, bool], connection: Connection, simulator: Simulator
) -> None:
    result = await send(connection, local, "delivered")
    reply = result.recipients[0]
    assert reply is not None
    assert str(reply).startswith(codes)
    verdict = classify(reply, stage=Stage.RCPT, recipients=2, mx="localhost", rules=RULES)
    assert (verdict.blame, verdict.suppress is not None) == judgement
    assert (result.final, simulator.received) == (TAKEN, 1)


async def test_an_unknown_mailbox_is_told_the_known_ones(connection: Connection) -> None:
    (reply,) = (await send(connection, "nobody")).recipients
    text = "No such user; the simulator knows delivered@, bounce@, defer@, full@, blocked@, slow@, drop@"
    assert reply == Reply(550, "5.1.1", text)


async def test_another_domain_is_not_taken_for(connection: Connection) -> None:
    transaction = Transaction("a@example.com", (("delivered@example.com", ""),), SMALL)
    (reply,) = (await connection.transact(transaction)).recipients
    assert reply == Reply(550, "5.7.1", "The simulator takes mail for simulator.test only")


async def test_blocked_is_a_block_of_our_address(connection: Connection, simulator: Simulator) -> None:
    result = await send(connection, "blocked")
    assert result.final is not None
    assert (result.final.code, result.final.status, simulator.received) == (550, "5.7.1", 0)
    verdict = classify(result.final, stage=Stage.FINAL, recipients=1, mx="localhost", rules=RULES)
    assert (verdict.blame, verdict.action, verdict.suppress) == (Blame.SENDER, "block", None)


async def test_deferred_once_per_message_and_recipient(connection: Connection) -> None:
    greylisted = Reply(451, "4.7.1", "Greylisted by the simulator, try again in 10 seconds")
    other = OutgoingContent(head=b"Subject: another\r\n\r\n")
    for content in (SMALL, other):
        assert (await send(connection, "defer", "defer+x", content=content)).recipients == (greylisted, greylisted)
    for content in (SMALL, other):
        assert (await send(connection, "defer+x", content=content)).final == TAKEN
        assert (await send(connection, "defer", content=content)).final == TAKEN
    assert (await send(connection, "defer")).recipients == (greylisted,)


async def test_slow_takes_its_time(connection: Connection) -> None:
    started = time.monotonic()
    assert (await send(connection, "slow")).final == TAKEN
    assert time.monotonic() - started >= 0.2


async def test_drop_leaves_the_outcome_unknown(connection: Connection, simulator: Simulator) -> None:
    result = await send(connection, "drop")
    assert (result.outcome_unknown, result.failure, simulator.received) == (True, "the server closed the connection", 0)
    assert not connection.usable


async def test_long_lines_and_large_messages_are_taken(connection: Connection) -> None:
    content = OutgoingContent(head=b"Subject: long\r\n\r\n", body=(b"x" * 65536 + b"\r\n") * 50)
    assert (await send(connection, "delivered", content=content)).final == TAKEN


async def test_what_needs_smtputf8_is_taken(connection: Connection) -> None:
    content = OutgoingContent(head="Subject: grüße\r\n\r\n".encode())
    assert (await send(connection, "delivered+ü", content=content, parameters=" SMTPUTF8 BODY=8BITMIME")).final == TAKEN


COMMANDS = [
    pytest.param(b"NOOP", b"250 2.0.0 Ok", id="NOOP"),
    pytest.param(b"RSET", b"250 2.0.0 Ok", id="RSET"),
    pytest.param(b"XYZZY", b'500 5.5.2 "XYZZY" is no command here', id="an unknown command"),
    pytest.param(b"DATA", b"503 5.5.1 MAIL comes first", id="DATA too early"),
    pytest.param(
        b"MAIL FROM:<a@b.test> FOO=1",
        b"555 5.5.4 The parameter FOO is not offered here",
        id="a parameter",
    ),
    pytest.param(
        b"MAIL FROM:<a@b.test> SIZE=99999999999",
        b"552 5.3.4 A message may have 67108864 octets here",
        id="too large",
    ),
    pytest.param(b"QUIT", b"221 2.0.0 Bye", id="QUIT"),
]


@pytest.mark.parametrize(("command", "reply"), COMMANDS)
async def test_every_reply_after_ehlo_has_an_enhanced_code(command: bytes, reply: bytes, simulator: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    assert await reader.readline() == b"220 simulator.test Relay's simulator\r\n"
    writer.write(b"HELO a\r\n")
    assert await reader.readline() == b"250 simulator.test\r\n"
    writer.write(b"EHLO a\r\n")
    while (await reader.readline())[3:4] == b"-":
        pass
    writer.write(command + b"\r\n")
    assert await reader.readline() == reply + b"\r\n"
    writer.close()
    await writer.wait_closed()


async def test_closing_ends_every_session(simulator: Simulator, connection: Connection) -> None:
    await simulator.close()
    await until(lambda: not connection.usable, what="the session ended")
    await simulator.close()


async def test_one_that_was_never_started_can_be_closed() -> None:
    simulator = Simulator()
    assert simulator.port == 0
    await simulator.close()


async def test_memory_of_deferrals_is_bounded(simulator: Simulator, connection: Connection) -> None:
    simulator._mailboxes._deferred.update({(str(number),): None for number in range(10_000)})
    await send(connection, "defer")
    assert len(simulator._mailboxes._deferred) == 10_000
