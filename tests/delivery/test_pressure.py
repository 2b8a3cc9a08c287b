"""Over real sockets: sessions too many, sessions ended, and replies that ask for less."""

from pathlib import Path

import pytest

from relay.mail.event import Kind
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, kinds, outfit
from tests.peers.limited import LimitedMx, Refuses
from tests.peers.mx import Mx, ScriptedMx, until

SITE = "[127.0.0.1]"
NOT_NOW = {"retry": {"ladder": ["1h"]}}
MANY = 60


async def submit_many(relay: Outfit) -> None:
    for number in range(MANY):
        await relay.submit(f"{number}@{SITE}")


def changes(relay: Outfit) -> list[str]:
    (site,) = relay.shard.couriers.sites.values()
    return [str(change) for change in site.governor.allowance.changes]


@pytest.mark.parametrize("refuses", [Refuses.GREETING, Refuses.MAIL], ids=["in the greeting", "to MAIL"])
@pytest.mark.parametrize("per_connection", [1, 50], ids=["a message a connection", "many a connection"])
async def test_what_is_refused_for_the_number_of_sessions_is_delivered_and_counts_no_attempt(
    refuses: Refuses, per_connection: int, tmp_path: Path
) -> None:
    mx = LimitedMx(refuses, seconds=0.05, sessions=3)
    async with ScriptedMx(mx) as server:
        table = {"mx_suffix": "127.0.0.1", "messages_per_connection": per_connection}
        settings = config(tmp_path, port=server.port, delivery=NOT_NOW, site=[table])
        async with outfit(settings) as relay:
            await submit_many(relay)
            await until(lambda: mx.taken == MANY, what="all is delivered")
            for number in range(MANY):
                event = await relay.until(f"{number}@{SITE}", Kind.DELIVERED)
                assert event.attempt == 1
            assert mx.refused >= 1
            assert any("421 4.7.0 mx.test" in change and "from 127.0.0.1" in change for change in changes(relay))
            assert kinds(await relay.of(f"0@{SITE}")) == [Kind.DELIVERED]


async def test_a_message_that_every_session_ends_for_is_put_off_in_the_end(nameserver: str, tmp_path: Path) -> None:
    """Its MAIL is what the server does not like, whatever it says."""

    class Dislikes(Mx):
        async def _answer(self, peer: object, verb: str, default: bytes) -> int:
            last = self.sessions[-1].commands[-1] if self.sessions and self.sessions[-1].commands else b""
            if verb == "MAIL" and b"odd@" in last:
                await peer.say(b"421 4.7.0 Not from you\r\n")  # type: ignore[attr-defined]
                peer.drop()  # type: ignore[attr-defined]
            return await super()._answer(peer, verb, default)  # type: ignore[arg-type]

    async with ScriptedMx(Dislikes()) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example", sender="odd@sender.example")
            event = await relay.until("x@dest.example", Kind.DEFERRED)
            assert event.reply == "421 4.7.0 Not from you"


async def test_a_site_that_says_how_long_is_left_alone_for_so_long(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx({"GREETING": b"421 4.7.0 try again in 20 minutes\r\n"})) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example")
            event = await relay.until("x@dest.example", Kind.DEFERRED)
            (site,) = relay.shard.couriers.sites.values()
            assert site.governor.retry_at - event.at == pytest.approx(1200.0, abs=5.0)


async def test_a_reply_that_speaks_of_a_rate_makes_one(tmp_path: Path) -> None:
    mx = LimitedMx(Refuses.RCPT, seconds=0.01, rate=20.0)
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await submit_many(relay)
            await until(lambda: mx.refused > 0, what="it is too fast")
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: site.governor.allowance.per_second > 0, what="a rate is learnt")
            assert any("messages per second: 451 4.7.1 Rate limit" in change for change in changes(relay))
            assert mx.refused < MANY / 4


async def test_greylisting_lowers_nothing(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx({"RCPT": b"451 4.7.1 Greylisted, see you later\r\n"})) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DEFERRED)
            (site,) = relay.shard.couriers.sites.values()
            await until(lambda: not site.couriers, what="all is learnt")
            assert (site.governor.connections, site.governor.allowance.per_second) == (2, 0.0)


TSS04 = b"421 4.7.0 [TSS04] Messages from 192.0.2.10 temporarily deferred due to unexpected volume\r\n"


@pytest.mark.parametrize("verb", ["GREETING", "MAIL"])
async def test_a_rule_suspends_the_site_and_its_mail_waits_without_an_attempt(
    verb: str, nameserver: str, tmp_path: Path
) -> None:
    mx = Mx({verb: TSS04})
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            for number in range(5):
                await relay.submit(f"{number}@dest.example")
            await until(lambda: bool(relay.shard.suspensions), what="the site is suspended")
            await until(lambda: not len(relay.shard.scheduler.window), what="nothing waits in memory")
            (suspension,) = relay.shard.suspensions.values()
            assert suspension.by == 'the rule "yahoo: deferred for some hours"'
            assert suspension.until - suspension.since == 7200.0
            assert suspension.reason == f"{TSS04.decode().strip()} from mx.dest.example"
            assert {entry.attempts for entry in await relay.spool.find(Selection())} == {0}
            assert server.connections <= 2
            mx.be_orderly(verb)
            relay.suspend()
            for number in range(5):
                assert (await relay.until(f"{number}@dest.example", Kind.DELIVERED)).attempt == 1


async def test_a_rule_slows_the_site(nameserver: str, tmp_path: Path) -> None:
    said = b"421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address\r\n"
    mx = Mx({"END": [b"250 ok\r\n"] * 20 + [said]})
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            for number in range(21):
                await relay.submit(f"{number}@dest.example")
            await until(lambda: len(mx.messages) == 20 and bool(changes(relay)[1:]), what="it is slowed")
            lowered = [change for change in changes(relay) if "4.7.28" in change]
            assert ["connections" in change for change in lowered] == [True, False]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"421 RP-003 The mail server IP has exceeded the connection limit allowed.\r\n", id="RP-003"),
        pytest.param(b"451 4.7.0 Too many connections from you\r\n", id="in words that many use"),
    ],
)
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "END"])
async def test_a_reply_of_connections_alone_teaches_no_rate(
    verb: str, said: bytes, nameserver: str, tmp_path: Path
) -> None:
    orderly = {"MAIL": b"250 2.1.0 Ok\r\n", "RCPT": b"250 2.1.5 Ok\r\n", "END": b"250 2.0.0 Queued\r\n"}
    mx = Mx({verb: [orderly[verb]] * 20 + [said]})
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            for number in range(21):
                await relay.submit(f"{number}@dest.example")
            name = said.decode().split()[1]
            await until(lambda: any(name in change for change in changes(relay)), what="it is told off")
            (site,) = relay.shard.couriers.sites.values()
            lowered = [change for change in site.governor.allowance.changes if name in change.cause]
            assert [(change.what, change.is_lowering) for change in lowered] == [("connections", True)]
            assert site.governor.allowance.per_second == 0.0
