"""Sessions that a server ends between messages, and those left idle: no message pays for it."""

import asyncio
from pathlib import Path

import pytest

from relay.mail.event import Kind
from tests.delivery.outfit import config, kinds, outfit
from tests.peers.mx import Act, Answer, Mx, Peer, ScriptedMx, until

BYE = b"421 4.4.2 mx.test closing, enough for now\r\n"


class Ending(Mx):
    """Takes `most` messages in a session; the next command is answered so. It does not say so before."""

    def __init__(self, most: int, answer: Answer, *, at: str = "MAIL") -> None:
        super().__init__()
        self._most = most
        self._ends = answer
        self._at = at

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        over = any(session.verbs.count("MAIL") > self._most for session in self.sessions[-1:])
        if verb == self._at and over:
            await peer.act(self._ends)
            return int(BYE[:3])
        return await super()._answer(peer, verb, default)


class Idling(Mx):
    """Says something in the first session when told, though nothing was asked."""

    def __init__(self, said: Answer) -> None:
        super().__init__()
        self.peers: list[Peer] = []
        self.said = said

    async def __call__(self, peer: Peer) -> None:
        self.peers.append(peer)
        await super().__call__(peer)

    async def speak(self) -> None:
        peer = self.peers[0]
        if isinstance(self.said, bytes):
            await peer.say(self.said)
        peer.writer.close()


ENDS = [
    pytest.param(BYE, id="with 421"),
    pytest.param(Act.CLOSE, id="by closing"),
    pytest.param(Act.DROP, id="with a reset"),
]


@pytest.mark.parametrize("answer", ENDS)
async def test_a_session_ended_between_messages_is_followed_by_another_at_once(
    answer: Answer, nameserver: str, tmp_path: Path
) -> None:
    mx = Ending(2, answer)
    table = {"mx_suffix": "mx.dest.example", "connections": 1}
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(settings) as relay:
            for number in range(7):
                await relay.submit(f"x{number}@dest.example")
            for number in range(7):
                assert (await relay.until(f"x{number}@dest.example", Kind.DELIVERED)).attempt == 1
                assert kinds(await relay.of(f"x{number}@dest.example")) == [Kind.DELIVERED]
            assert [session.verbs.count("MAIL") for session in mx.sessions] == [3, 3, 3, 1]
            (site,) = relay.shard.couriers.sites.values()
            assert not site.in_trouble
            assert site.governor.allowance.changes == ()


@pytest.mark.parametrize("answer", ENDS)
async def test_a_session_ended_at_the_reset_costs_no_message_an_attempt(
    answer: Answer, nameserver: str, tmp_path: Path
) -> None:
    mx = Mx({"RCPT": [b"550 5.1.1 Nobody\r\n"], "RSET": answer})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example", sender="")
        await relay.until("x@dest.example", Kind.BOUNCED)
        await relay.submit("y@dest.example")
        assert (await relay.until("y@dest.example", Kind.DELIVERED)).attempt == 1
        assert [session.verbs.count("RSET") for session in mx.sessions] == [1, 0]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(BYE, id="421"),
        pytest.param(b"250 what?\r\n", id="what nothing was asked for"),
        pytest.param(Act.CLOSE, id="nothing, and closes"),
    ],
)
async def test_an_idle_connection_that_the_server_ended_is_not_used(
    said: Answer, nameserver: str, tmp_path: Path
) -> None:
    mx = Idling(said)
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example")
        await relay.until("x@dest.example", Kind.DELIVERED)
        (site,) = relay.shard.couriers.sites.values()
        (line,) = site.idle
        await mx.speak()
        await until(lambda: not line.connection.usable, what="its end is noticed")
        await relay.submit("y@dest.example")
        assert (await relay.until("y@dest.example", Kind.DELIVERED)).attempt == 1
        assert kinds(await relay.of("y@dest.example")) == [Kind.DELIVERED]
        assert [session.verbs.count("MAIL") for session in mx.sessions] == [1, 1]


async def test_a_connection_is_kept_idle_as_long_as_the_site_says(nameserver: str, tmp_path: Path) -> None:
    passed = 0.0
    table = {"mx_suffix": "mx.dest.example", "idle": "7s"}
    mx = Mx()
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, site=[table])
        async with outfit(settings, steady=lambda: 1000.0 + passed) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DELIVERED)
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: bool(site.idle), what="it is idle")
            passed = 6.9
            relay.shard.couriers.sweep()
            await asyncio.sleep(0)
            assert (len(site.idle), mx.sessions[0].verbs[-1]) == (1, "DATA")
            passed = 7.0
            relay.shard.couriers.sweep()
            await until(lambda: mx.sessions[0].verbs[-1] == "QUIT", what="it is closed")
            assert site.idle == []
