"""What a server says that it takes, in its reply to EHLO (RFC 9422): obeyed, and never run into."""

from pathlib import Path

import pytest

from relay.mail.event import Kind
from relay.smtpclient.ehlo import ServerLimits
from tests.delivery.outfit import config, outfit
from tests.peers.certificates import Authority
from tests.peers.mx import Mx, Peer, ScriptedMx

TOO_MANY = b"421 4.7.0 Too many messages in a session\r\n"


class Counting(Mx):
    """Ends a session at the transaction after the last that it said it takes."""

    def __init__(self, most: int) -> None:
        super().__init__(extensions=("PIPELINING", f"LIMITS MAILMAX={most}"))
        self._most = most
        self.refused = 0

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        if verb == "MAIL" and max(session.verbs.count("MAIL") for session in self.sessions) > self._most:
            self.refused += 1
            default = TOO_MANY
        return await super()._answer(peer, verb, default)


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        pytest.param("RCPTMAX=5 MAILMAX=7 RCPTDOMAINMAX=1", ServerLimits(recipients=5, messages=7), id="all three"),
        pytest.param("rcptmax=5", ServerLimits(recipients=5), id="in any case"),
        pytest.param("MAILMAX=999999", ServerLimits(messages=999_999), id="of six digits"),
        pytest.param("MAILMAX=7 RCPTMAX=5 MAILMAX=3", ServerLimits(recipients=5, messages=3), id="one named twice"),
        pytest.param(
            "FUTUREMAX=3 RCPTMAX=5 ODD", ServerLimits(recipients=5), id="those that nobody knows are left out"
        ),
        pytest.param("", ServerLimits(), id="none"),
    ],
)
def test_the_limits_named_are_read(words: str, limits: ServerLimits) -> None:
    assert ServerLimits.of({"LIMITS": words}) == limits


@pytest.mark.parametrize(
    "value", ["", "0", "05", "-1", "+1", "1.5", "5x", "1000000", "\u0665", "five", "5=6", "=5", "5,", " 5"]
)
def test_a_limit_that_is_written_otherwise_is_none(value: str) -> None:
    assert ServerLimits.of({"LIMITS": f"RCPTMAX={value} MAILMAX={value}"}) == ServerLimits()


async def test_no_transaction_has_more_recipients_than_the_server_takes(nameserver: str, tmp_path: Path) -> None:
    mx = Mx(extensions=("PIPELINING", "LIMITS RCPTMAX=2"))
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        recipients = [f"x{number}@dest.example" for number in range(5)]
        await relay.submit(*recipients)
        for recipient in recipients:
            await relay.until(recipient, Kind.DELIVERED)
        assert sorted(len(message.recipients) for message in mx.messages) == [1, 2, 2]


async def test_a_session_ends_before_the_server_would_refuse_one_more_message(nameserver: str, tmp_path: Path) -> None:
    mx = Counting(2)
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        for number in range(5):
            await relay.submit(f"x{number}@dest.example")
            assert (await relay.until(f"x{number}@dest.example", Kind.DELIVERED)).attempt == 1
        assert mx.refused == 0
        assert [session.verbs.count("MAIL") for session in mx.sessions] == [2, 2, 1]
        assert [session.verbs[-1] for session in mx.sessions[:2]] == ["QUIT", "QUIT"]


async def test_a_refused_transaction_counts_too(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": b"550 5.1.1 Nobody\r\n"}, extensions=("PIPELINING", "LIMITS MAILMAX=1"))
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        for number in range(3):
            await relay.submit(f"x{number}@dest.example", sender="")
            await relay.until(f"x{number}@dest.example", Kind.BOUNCED)
        assert [session.verbs.count("MAIL") for session in mx.sessions] == [1, 1, 1]


async def test_a_limit_above_ours_changes_nothing(nameserver: str, tmp_path: Path) -> None:
    table = {"mx_suffix": "mx.dest.example", "messages_per_connection": 2, "recipients": 3}
    mx = Mx(extensions=("PIPELINING", "LIMITS RCPTMAX=1000 MAILMAX=1000"))
    async with ScriptedMx(mx) as server:
        async with outfit(config(tmp_path, port=server.port, nameserver=nameserver, site=[table])) as relay:
            for number in range(3):
                await relay.submit(f"x{number}@dest.example", *(f"y{number}{each}@dest.example" for each in "abc"))
                await relay.until(f"y{number}c@dest.example", Kind.DELIVERED)
        assert max(session.verbs.count("MAIL") for session in mx.sessions) == 2
        assert max(len(message.recipients) for message in mx.messages) == 3


async def test_one_domain_goes_in_one_transaction_whatever_the_server_takes(nameserver: str, tmp_path: Path) -> None:
    mx = Mx(extensions=("PIPELINING", "LIMITS RCPTDOMAINMAX=1"))
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example", "y@dest.example", "x@other.example")
        for recipient in ("x@dest.example", "y@dest.example", "x@other.example"):
            await relay.until(recipient, Kind.DELIVERED)
        domains = [{line.rpartition(b"@")[2] for line in message.recipients} for message in mx.messages]
        assert sorted(map(len, domains)) == [1, 1]


async def test_what_was_said_before_tls_holds_no_more(nameserver: str, tmp_path: Path) -> None:
    context = Authority(tmp_path).self_signed("mx.dest.example").server_context()

    async def script(peer: Peer) -> None:
        await peer.say(b"220 mx.test\r\n")
        await peer.line()
        await peer.say(b"250-mx.test\r\n250-LIMITS RCPTMAX=1 MAILMAX=1\r\n250 STARTTLS\r\n")
        await peer.line()
        await peer.say(b"220 Go ahead\r\n")
        await peer.starttls(context)
        await inside(peer)

    inside = Inside()
    async with (
        ScriptedMx(script) as server,
        outfit(config(tmp_path / "spool", port=server.port, nameserver=nameserver)) as relay,
    ):
        for number in range(2):
            await relay.submit(f"x{number}@dest.example", f"y{number}@dest.example", f"z{number}@dest.example")
            await relay.until(f"z{number}@dest.example", Kind.DELIVERED)
    sizes = sorted(len(message.recipients) for message in inside.messages)
    assert (sizes, server.connections) == ([1, 1, 2, 2], 1)


class Inside(Mx):
    """What follows the handshake: no greeting, and other limits."""

    def __init__(self) -> None:
        super().__init__({"GREETING": b""}, extensions=("PIPELINING", "LIMITS RCPTMAX=2"))


async def test_what_is_discarded_is_not_used_though_it_is_offered(nameserver: str, tmp_path: Path) -> None:
    table = {"mx_suffix": "mx.dest.example", "discard_ehlo_keywords": ["CHUNKING", "LIMITS", "PIPELINING"]}
    mx = Mx(extensions=("PIPELINING", "CHUNKING", "LIMITS RCPTMAX=1"))
    async with ScriptedMx(mx) as server:
        before = config(tmp_path, port=server.port, nameserver=nameserver)
        after = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(before) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DELIVERED)
            relay.shard.couriers.release_idle("mx.dest.example")
            relay.reload(after)
            await relay.submit("y@dest.example", "z@dest.example")
            await relay.until("y@dest.example", Kind.DELIVERED)
    before_and_after = [session.verbs for session in mx.sessions]
    assert before_and_after[0][:4] == ["EHLO", "MAIL", "RCPT", "BDAT"]
    assert before_and_after[1][:5] == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]
