"""Transactions against a server that does as it is told."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from relay.mail.verdict import Stage
from relay.smtpclient import TransactionResult
from tests.peers.mx import Act, Mx, Peer, ScriptedMx, until
from tests.smtpclient.sessions import HEAD, Sessions, impatient, transaction

PIPELINING = ("PIPELINING", "ENHANCEDSTATUSCODES")
STEPS = ("ENHANCEDSTATUSCODES",)
CHUNKED = ("PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING")
CHUNKED_STEPS = ("ENHANCEDSTATUSCODES", "CHUNKING")
BOTH_WAYS = [
    pytest.param(PIPELINING, id="pipelined"),
    pytest.param(STEPS, id="by steps"),
]
WAYS = {"pipelined": PIPELINING, "by steps": STEPS, "in a chunk": CHUNKED, "in a chunk, by steps": CHUNKED_STEPS}


def replies(result: TransactionResult) -> tuple[str, ...]:
    """All that the server said, in order, in one line each; "-" for what it did not say."""
    return tuple(str(reply) if reply else "-" for reply in (result.mail, *result.recipients, result.final))


@pytest.mark.parametrize("extensions", BOTH_WAYS)
async def test_a_message_is_delivered_and_every_reply_is_kept(extensions: tuple[str, ...], sessions: Sessions) -> None:
    mx = Mx(extensions=extensions)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction("b@mx.test", "c@mx.test", mail_parameters=" SIZE=100"))
        await connection.quit()
    assert replies(result) == ("250 2.1.0 Ok", "250 2.1.5 Ok", "250 2.1.5 Ok", "250 2.0.0 Queued")
    assert (result.failure, result.stage, result.dot_sent, result.decided) == ("", Stage.FINAL, True, True)
    assert mx.sessions[0].commands == [
        b"EHLO relay.test",
        b"MAIL FROM:<a@relay.test> SIZE=100",
        b"RCPT TO:<b@mx.test>",
        b"RCPT TO:<c@mx.test>",
        b"DATA",
        b"QUIT",
    ]
    assert mx.messages[0].wire == HEAD + b"first\r\n..second\r\n.\r\n"
    assert mx.messages[0].content == HEAD + b"first\r\n.second\r\n"


@pytest.mark.parametrize("extensions", BOTH_WAYS)
async def test_a_connection_carries_many_messages(extensions: tuple[str, ...], sessions: Sessions) -> None:
    mx = Mx(extensions=extensions)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        for _ in range(5):
            assert connection.usable
            result = await connection.transact(transaction())
            assert result.decided
    assert len(mx.messages) == 5
    assert connection.messages == 5
    assert server.connections == 1


@dataclass
class Case:
    """What the server does, and what is known then. usable: the connection takes another message."""

    answers: dict[str, Any]
    replies: tuple[str, ...]
    stage: Stage
    usable: bool = True
    failure: str = ""
    dot_sent: bool = False
    decided: bool = True
    outcome_unknown: bool | None = None  # None: when the dot was sent


OK_MAIL = "250 2.1.0 Ok"
OK_RCPT = "250 2.1.5 Ok"
NOBODY = b"550 5.1.1 Nobody\r\n"

EITHER_WAY = [
    pytest.param(
        Case(
            {
                "MAIL": b"550 5.7.1 Not you\r\n",
                "RCPT": b"503 5.5.1 MAIL first\r\n",
                "DATA": b"503 5.5.1 MAIL first\r\n",
            },
            ("550 5.7.1 Not you", "-", "-", "-"),
            Stage.MAIL,
        ),
        id="a refused sender refuses all, and what was pipelined after it says nothing",
    ),
    pytest.param(
        Case(
            {"MAIL": b"421 4.3.2 Shutting down\r\n"},
            ("421 4.3.2 Shutting down", "-", "-", "-"),
            Stage.MAIL,
            usable=False,
            failure="the server ended the session: 421 4.3.2 Shutting down",
        ),
        id="421 to MAIL ends the connection",
    ),
    pytest.param(
        Case(
            {"RCPT": [NOBODY, b"250 2.1.5 Ok\r\n"]},
            (OK_MAIL, "550 5.1.1 Nobody", OK_RCPT, "250 2.0.0 Queued"),
            Stage.FINAL,
            dot_sent=True,
        ),
        id="a refused recipient does not stop the other",
    ),
    pytest.param(
        Case(
            {"RCPT": NOBODY, "DATA": b"554 5.5.1 No recipients\r\n"},
            (OK_MAIL, "550 5.1.1 Nobody", "550 5.1.1 Nobody", "-"),
            Stage.RCPT,
        ),
        id="all recipients refused",
    ),
    pytest.param(
        Case(
            {"RCPT": [b"250 2.1.5 Ok\r\n", b"421 4.7.0 Enough\r\n"], "DATA": Act.CLOSE},
            (OK_MAIL, OK_RCPT, "421 4.7.0 Enough", "-"),
            Stage.RCPT,
            usable=False,
            decided=False,
            failure="the server ended the session: 421 4.7.0 Enough",
        ),
        id="421 to the second RCPT leaves the first without an end",
    ),
    pytest.param(
        Case({"DATA": b"451 4.3.0 Not now\r\n"}, (OK_MAIL, OK_RCPT, OK_RCPT, "451 4.3.0 Not now"), Stage.DATA),
        id="DATA refused",
    ),
    pytest.param(
        Case(
            {"DATA": b"421 4.3.0 Not now\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "421 4.3.0 Not now"),
            Stage.DATA,
            usable=False,
        ),
        id="421 to DATA",
    ),
    pytest.param(
        Case(
            {"DATA": b"250 2.0.0 Ok\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.DATA,
            usable=False,
            decided=False,
            failure='the server answered DATA with "250 2.0.0 Ok"',
        ),
        id="250 to DATA is a server that has lost its place",
    ),
    pytest.param(
        Case(
            {"MAIL": b"354 Go on\r\n"},
            ("-", "-", "-", "-"),
            Stage.MAIL,
            usable=False,
            decided=False,
            failure='the server answered MAIL with "354 Go on"',
        ),
        id="354 to MAIL is a server that has lost its place",
    ),
    pytest.param(
        Case({"END": b"554 5.7.1 Spam\r\n"}, (OK_MAIL, OK_RCPT, OK_RCPT, "554 5.7.1 Spam"), Stage.FINAL, dot_sent=True),
        id="refused at the final dot",
    ),
    pytest.param(
        Case(
            {"END": b"421 4.7.0 Try later\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "421 4.7.0 Try later"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
        ),
        id="421 at the final dot is an answer, and the end",
    ),
    pytest.param(
        Case(
            {"END": b"354 Go on\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure='the server answered the content with "354 Go on"',
        ),
        id="354 at the final dot leaves the outcome unknown",
    ),
    pytest.param(
        Case(
            {"MAIL": b"2050 hello\r\n"},
            ("-", "-", "-", "-"),
            Stage.MAIL,
            usable=False,
            decided=False,
            failure='"2050 hello" is no SMTP reply',
        ),
        id="garbage to MAIL",
    ),
    pytest.param(
        Case(
            {"END": b"\x00\xff\x1b[2J\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure='"\\x00\\xff\\x1b[2J" is no SMTP reply',
        ),
        id="garbage at the final dot leaves the outcome unknown, and is shown escaped",
    ),
    pytest.param(
        Case(
            {"MAIL": b"250-" + b"x" * 9000},
            ("-", "-", "-", "-"),
            Stage.MAIL,
            usable=False,
            decided=False,
            failure="a reply line is longer than 8192 octets",
        ),
        id="a line without end",
    ),
    pytest.param(
        Case(
            {"MAIL": b"250-more\r\n" * 5000},
            ("-", "-", "-", "-"),
            Stage.MAIL,
            usable=False,
            decided=False,
            failure="a reply is longer than 32768 octets",
        ),
        id="a reply without end",
    ),
    pytest.param(
        Case(
            {"END": b"250 2.0.0 Queued\r\n250 2.0.0 Again\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "250 2.0.0 Queued"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
        ),
        id="one reply too many: what was asked for counts, and the connection is over",
    ),
    pytest.param(
        Case(
            {"END": b"554 5.7.1 Spam\r\n250 2.0.0 Queued\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure="the server sent a reply to nothing: 250 2.0.0 Queued",
        ),
        id="one reply too many: a refusal is not believed",
    ),
    pytest.param(
        Case(
            {"RCPT": [NOBODY, b"\xff\r\n"]},
            (OK_MAIL, "-", "-", "-"),
            Stage.RCPT,
            usable=False,
            decided=False,
            failure='"\\xff" is no SMTP reply',
        ),
        id="a refusal before garbage is not believed",
    ),
    pytest.param(
        Case(
            {"RCPT": [NOBODY, b"354 Go on\r\n"]},
            (OK_MAIL, "-", "-", "-"),
            Stage.RCPT,
            usable=False,
            decided=False,
            failure='the server answered RCPT with "354 Go on"',
        ),
        id="a refusal before a reply that fits no RCPT is not believed",
    ),
    pytest.param(
        Case(
            {"RCPT": [b"250 2.1.5 Ok\r\n", NOBODY], "END": b"250 2.0.0 Queued\r\n250 2.0.0 Again\r\n"},
            (OK_MAIL, OK_RCPT, "-", "250 2.0.0 Queued"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure="the server sent a reply to nothing: 250 2.0.0 Again",
            outcome_unknown=False,
        ),
        id="one reply too many: what was taken was taken, and a recipient's refusal is not believed",
    ),
    pytest.param(
        Case(
            {"END": b"250 2.0.0 Queued\r\n421 4.4.2 Bye\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "250 2.0.0 Queued"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
        ),
        id="taken, and then 421",
    ),
    pytest.param(
        Case(
            {"MAIL": Act.CLOSE},
            ("-", "-", "-", "-"),
            Stage.MAIL,
            usable=False,
            decided=False,
            failure="the server closed the connection",
        ),
        id="closed at MAIL",
    ),
    pytest.param(
        Case(
            {"END": Act.CLOSE},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure="the server closed the connection",
        ),
        id="closed after the final dot: the outcome is unknown",
    ),
    pytest.param(
        Case(
            {"END": b"250-2.0.0 Queu"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure="no reply within 0.2 s",
        ),
        id="half a reply after the final dot is no reply",
    ),
    pytest.param(
        Case(
            {"END": Act.STALL},
            (OK_MAIL, OK_RCPT, OK_RCPT, "-"),
            Stage.FINAL,
            usable=False,
            dot_sent=True,
            decided=False,
            failure="no reply within 0.2 s",
        ),
        id="no answer to the final dot: the outcome is unknown",
    ),
    pytest.param(
        Case(
            {"END": b"250-2.6.0 Queued\r\n250 2.6.0 as 17\r\n"},
            (OK_MAIL, OK_RCPT, OK_RCPT, "250 2.6.0 Queued as 17"),
            Stage.FINAL,
            dot_sent=True,
        ),
        id="a reply of several lines",
    ),
    pytest.param(
        Case(
            {"RCPT": [b"251 2.1.5 Will forward\r\n", b"252 2.1.5 Perhaps\r\n"]},
            (OK_MAIL, "251 2.1.5 Will forward", "252 2.1.5 Perhaps", "250 2.0.0 Queued"),
            Stage.FINAL,
            dot_sent=True,
        ),
        id="251 and 252 accept a recipient",
    ),
]


@pytest.mark.parametrize(
    ("case", "extensions"),
    [
        pytest.param(*row.values, extensions, id=f"{way}-{row.id}")
        for way, extensions in WAYS.items()
        for row in EITHER_WAY
        if "CHUNKING" not in extensions or row.values[0].stage is not Stage.DATA  # type: ignore[union-attr]
    ],
)
async def test_what_the_server_does_is_told_exactly(
    case: Case, extensions: tuple[str, ...], sessions: Sessions
) -> None:
    mx = Mx(case.answers, extensions=extensions)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server, timeouts=impatient(final=0.2))
        result = await connection.transact(transaction("b@mx.test", "c@mx.test"))
        assert replies(result) == case.replies
        assert result.stage is case.stage
        assert (result.dot_sent, result.decided, connection.usable) == (case.dot_sent, case.decided, case.usable)
        if not case.decided:
            assert result.failure == case.failure
            assert result.outcome_unknown == (case.dot_sent if case.outcome_unknown is None else case.outcome_unknown)
        if case.usable:
            again = await connection.transact(transaction("d@mx.test"))
            assert again.mail is not None
    assert ("DATA" in mx.sessions[0].verbs) <= ("CHUNKING" not in extensions)


TWO_TO_MAIL = b"250 2.1.0 Ok\r\n250 2.1.0 Ok again\r\n"


@pytest.mark.parametrize("extensions", BOTH_WAYS)
async def test_two_replies_to_mail_make_no_recipient_answer_for_another(
    extensions: tuple[str, ...], sessions: Sessions
) -> None:
    mx = Mx({"MAIL": TWO_TO_MAIL, "RCPT": [NOBODY]}, extensions=extensions)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction("b@mx.test", "c@mx.test"))
        assert (result.decided, connection.usable) == (False, False)
        assert all(reply is None or reply.is_positive for reply in result.recipients)


@pytest.mark.parametrize("extensions", BOTH_WAYS)
async def test_an_envelope_left_behind_is_reset_before_the_next(
    extensions: tuple[str, ...], sessions: Sessions
) -> None:
    mx = Mx({"DATA": [b"451 4.3.0 Not now\r\n"]}, extensions=extensions)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.transact(transaction())
        assert (await connection.transact(transaction())).decided
        assert (await connection.transact(transaction())).decided
    envelope = ["MAIL", "RCPT", "DATA"]
    assert mx.sessions[0].verbs == ["EHLO", *envelope, "RSET", *envelope, *envelope]


async def test_a_refused_sender_is_reset_too(sessions: Sessions) -> None:
    mx = Mx({"MAIL": [b"552 5.3.4 Too big\r\n"]}, extensions=STEPS)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.transact(transaction())
        assert (await connection.transact(transaction())).decided
    assert mx.sessions[0].verbs == ["EHLO", "MAIL", "RSET", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("extensions", BOTH_WAYS)
async def test_a_server_that_cannot_reset_is_left(extensions: tuple[str, ...], sessions: Sessions) -> None:
    mx = Mx({"DATA": [b"451 4.3.0 Not now\r\n"], "RSET": b"500 5.5.1 What?\r\n"}, extensions=extensions)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.transact(transaction())
        result = await connection.transact(transaction())
    assert (result.mail, result.stage, result.decided) == (None, Stage.MAIL, False)
    assert result.failure == 'the server answered RSET with "500 5.5.1 What?"'
    assert not connection.usable


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"554 5.5.1 No recipients\r\n", id="which the server refuses"),
        pytest.param(b"250 2.0.0 Sent to nobody\r\n", id="which the server takes for nobody"),
    ],
)
async def test_a_pipelined_data_that_was_accepted_for_nobody_ends_with_a_lone_dot(
    answer: bytes, sessions: Sessions
) -> None:
    mx = Mx({"RCPT": [NOBODY, NOBODY], "DATA": b"354 Go on\r\n", "END": [answer]}, extensions=PIPELINING)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction("b@mx.test", "c@mx.test"))
        assert replies(result) == (OK_MAIL, "550 5.1.1 Nobody", "550 5.1.1 Nobody", "-")
        assert (result.stage, result.dot_sent, result.decided) == (Stage.RCPT, False, True)
        assert (await connection.transact(transaction())).final is not None
    assert "RSET" not in mx.sessions[0].verbs


async def test_by_steps_nothing_is_sent_when_all_recipients_are_refused(sessions: Sessions) -> None:
    mx = Mx({"RCPT": [NOBODY]}, extensions=STEPS)
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.transact(transaction())
        await connection.transact(transaction())
    assert mx.sessions[0].verbs == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]


async def test_a_pipelined_envelope_comes_before_any_reply(sessions: Sessions) -> None:
    async def silent_until_data(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250-mx.test\r\n250 PIPELINING\r\n")
        commands = [await peer.line() for _ in range(102)]
        assert commands[-1] == b"DATA"
        await peer.say(b"250 ok\r\n" * 101 + b"354 go\r\n")
        await peer.content()
        await peer.say(b"250 ok\r\n")

    async with ScriptedMx(silent_until_data) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction(*(f"b{n}@mx.test" for n in range(100))))
    assert result.decided
    assert len(result.recipients) == 100


@pytest.mark.parametrize(
    ("sender", "recipient", "parameters"),
    [
        pytest.param("a@relay.test>\r\nRSET", "b@mx.test", "", id="CRLF in the sender"),
        pytest.param("a@relay.test", "b@mx.test\nRSET", "", id="LF in a recipient"),
        pytest.param("a@relay.test", "b\0@mx.test", "", id="NUL in a recipient"),
        pytest.param("a@relay.test", "b@mx.test", " SIZE=1\r", id="CR in a parameter"),
    ],
)
async def test_what_would_be_another_command_is_refused_before_a_byte_is_sent(
    sender: str, recipient: str, parameters: str, sessions: Sessions
) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        with pytest.raises(ValueError, match="another command"):
            await connection.transact(transaction(recipient, sender=sender, mail_parameters=parameters))
        assert connection.usable
        assert (await connection.transact(transaction())).decided
    assert mx.sessions[0].verbs == ["EHLO", "MAIL", "RCPT", "DATA"]


async def test_addresses_go_out_as_they_are(sessions: Sessions) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.transact(transaction('"b >c"@mx.test', "Ünï@mx.test", sender="", mail_parameters=" SMTPUTF8"))
    assert mx.messages[0].mail == b"MAIL FROM:<> SMTPUTF8"
    assert mx.messages[0].recipients == [b'RCPT TO:<"b >c"@mx.test>', "RCPT TO:<Ünï@mx.test>".encode()]


@pytest.mark.parametrize(
    ("verb", "time", "stage"),
    [
        pytest.param("MAIL", "mail", Stage.MAIL, id="MAIL"),
        pytest.param("RCPT", "rcpt", Stage.RCPT, id="RCPT"),
        pytest.param("DATA", "data", Stage.DATA, id="DATA"),
        pytest.param("END", "final", Stage.FINAL, id="the final dot"),
    ],
)
@pytest.mark.parametrize("extensions", BOTH_WAYS)
async def test_each_command_has_its_own_time(
    verb: str, time: str, stage: Stage, extensions: tuple[str, ...], sessions: Sessions
) -> None:
    async with ScriptedMx(Mx({verb: Act.STALL}, extensions=extensions)) as server:
        connection = await sessions.to(server, timeouts=impatient(**{time: 0.1}))
        result = await connection.transact(transaction())
    assert (result.failure, result.stage) == ("no reply within 0.1 s", stage)


async def test_a_reply_that_never_ends_is_waited_for_no_longer_than_any(sessions: Sessions) -> None:
    async def dripping(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250 mx.test\r\n")
        await peer.line()
        while not peer.writer.is_closing():
            await peer.say(b"250-wait\r\n")
            await asyncio.sleep(0.02)

    async with ScriptedMx(dripping) as server:
        connection = await sessions.to(server, timeouts=impatient(mail=0.3))
        async with asyncio.timeout(5.0):
            result = await connection.transact(transaction())
    assert (result.failure, result.stage) == ("no reply within 0.3 s", Stage.MAIL)


async def test_a_reset_connection_after_the_dot_leaves_the_outcome_unknown(sessions: Sessions) -> None:
    async with ScriptedMx(Mx({"END": Act.DROP})) as server:
        connection = await sessions.to(server)
        result = await connection.transact(transaction())
    assert result.outcome_unknown
    assert result.failure.startswith("connection lost")


IDLE = [
    pytest.param(b"421 4.4.2 Timeout\r\n", "the server ended the session: 421 4.4.2 Timeout", id="421"),
    pytest.param(b"250 Hello?\r\n", "the server sent a reply to nothing: 250 Hello?", id="a reply to nothing"),
    pytest.param(b"25", "the server sent what was not asked for", id="half a reply"),
    pytest.param(b"\x16\x03\x01\r\n", '"\\x16\\x03\\x01" is no SMTP reply', id="garbage"),
    pytest.param(Act.CLOSE, "the server closed the connection", id="closed"),
]


@pytest.mark.parametrize(("said", "failure"), IDLE)
async def test_an_idle_connection_notices_its_end(said: bytes | Act, failure: str, sessions: Sessions) -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250 mx.test\r\n")
        await go.wait()
        await peer.act(said)
        await peer.stall()

    async with ScriptedMx(script) as server:
        connection = await sessions.to(server)
        assert connection.usable
        go.set()
        await until(lambda: not connection.usable, what="the end is noticed")
        assert connection.failure == failure
        result = await connection.transact(transaction())
    assert (result.failure, result.mail, result.stage, result.dot_sent) == (failure, None, Stage.MAIL, False)


async def test_one_transaction_at_a_time_and_a_cancelled_one_cuts_the_connection(sessions: Sessions) -> None:
    mx = Mx({"END": Act.STALL})
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        first = asyncio.create_task(connection.transact(transaction()))
        await until(lambda: "DATA" in mx.sessions[0].verbs, what="the transaction is under way")
        assert not connection.usable
        with pytest.raises(RuntimeError, match="at a time"):
            await connection.transact(transaction())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert connection.failure == "cut in the middle of a transaction"


async def test_quit_says_goodbye_and_closes(sessions: Sessions) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server:
        connection = await sessions.to(server)
        await connection.quit()
        assert not connection.usable
        await connection.quit()
    assert mx.sessions[0].verbs == ["EHLO", "QUIT"]


async def test_quit_does_not_wait_for_a_server_that_says_nothing(sessions: Sessions) -> None:
    async with ScriptedMx(Mx({"QUIT": Act.STALL})) as server:
        connection = await sessions.to(server, timeouts=impatient(mail=0.1))
        await connection.quit()
    assert not connection.usable
