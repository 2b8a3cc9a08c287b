"""From the spool to a receiving server and back: every way a recipient can end."""

import asyncio
import json
import time
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from relay.mail.envelope import Recipient
from relay.mail.event import Kind
from relay.mail.suppression import Cause, Suppression
from relay.spool import INLINE_OCTETS, Selection, Status
from relay.spool.spool import Spool
from tests.delivery.outfit import PATIENCE, config, kinds, message, outfit
from tests.peers.mx import Act, HesitantMx, Mx, ScriptedMx, until

SOON = {"retry": {"ladder": ["50ms"], "jitter": 0}}
NOT_NOW = {"retry": {"ladder": ["1h"]}}


@pytest.mark.parametrize(
    ("recipient", "connections"),
    [
        pytest.param("x@dest.example", 1, id="to the domain's MX host"),
        pytest.param("x@backup.example", 1, id="to the next MX host when the first does not answer"),
        pytest.param("x@moved.example", 1, id="to an MX host behind more than five that have no address"),
        pytest.param("x@implicit.example", 1, id="to the domain's own address when it has no MX"),
        pytest.param("x@www.alias.example", 1, id="through a CNAME"),
        pytest.param("x@better.example", 1, id="to MX hosts better than ourselves"),
        pytest.param("x@[127.0.0.1]", 1, id="to an address literal that is allowed"),
    ],
)
async def test_mail_arrives(recipient: str, connections: int, nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit(recipient, body=b".dot first\r\n..two\r\n")
        event = await relay.until(recipient, Kind.DELIVERED)
        assert mx.messages[0].content.endswith(b"\r\n\r\n.dot first\r\n..two\r\n")
        assert (server.connections, event.attempt) == (connections, 1)
        assert event.mx.endswith(f"[127.0.0.1]:{server.port}")
        assert event.source == "127.0.0.1"
        assert await relay.left() == 0
        counts, seconds = relay.metrics.snapshot()["histograms"]["relay_settle_commit_seconds"]
        assert sum(counts) == 1
        assert 0 < seconds < PATIENCE


@pytest.mark.parametrize(
    ("recipient", "status", "suppressed_days"),
    [
        pytest.param("x@null.example", "5.1.10", 7, id="a null MX takes no mail"),
        pytest.param("x@missing.dest.example", "5.1.2", 7, id="a domain that does not exist"),
        pytest.param("x@silent.example", "5.4.4", 0, id="a domain with neither MX nor address"),
        pytest.param("x@loop.example", "5.4.6", 0, id="we are its best MX host"),
    ],
)
async def test_what_dns_rules_out_bounces_at_once(
    recipient: str, status: str, suppressed_days: int, nameserver: str, tmp_path: Path
) -> None:
    async with outfit(config(tmp_path, nameserver=nameserver)) as relay:
        await relay.submit(recipient, sender="app@silent.example")
        event = await relay.until(recipient, Kind.BOUNCED)
        assert status in event.detail
        found = await relay.suppressions()
        if suppressed_days:
            (found_one,) = found
            assert isinstance(found_one, Suppression)
            assert found_one.cause is Cause.BAD_DOMAIN
            assert found_one.expires_at - found_one.created_at == pytest.approx(suppressed_days * 86400)
        else:
            assert found == []


@pytest.mark.parametrize(
    ("recipient", "why"),
    [
        pytest.param("x@inside.example", "allow_networks", id="an MX in a private network is not dialled"),
        pytest.param("x@dead.example", "127.0.0.3", id="a host that refuses connections"),
        pytest.param("x@nowhere.example", "no MX host", id="MX hosts without addresses"),
    ],
)
async def test_what_may_get_better_is_deferred(recipient: str, why: str, nameserver: str, tmp_path: Path) -> None:
    async with outfit(config(tmp_path, nameserver=nameserver, delivery=NOT_NOW)) as relay:
        await relay.submit(recipient)
        event = await relay.until(recipient, Kind.DEFERRED)
        assert why in event.detail
        assert event.next_attempt_at > time.time() + 60
        assert await relay.suppressions() == []


async def test_a_nameserver_that_does_not_answer_defers(tmp_path: Path) -> None:
    async with outfit(config(tmp_path, nameserver="127.0.0.1:9", delivery=NOT_NOW)) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DEFERRED)
        assert "127.0.0.1" in event.detail


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        pytest.param({"GREETING": b"554 5.7.1 go away\r\n"}, Kind.DEFERRED, id="5xx greetings of all hosts defer"),
        pytest.param({"GREETING": b"421 busy\r\n"}, Kind.DEFERRED, id="a 421 greeting defers"),
        pytest.param({"GREETING": b"hello there\r\n"}, Kind.DEFERRED, id="garbage defers"),
        pytest.param({"GREETING": Act.DROP}, Kind.DEFERRED, id="a reset defers"),
        pytest.param({"MAIL": b"450 4.7.1 later\r\n"}, Kind.DEFERRED, id="4xx to MAIL defers"),
        pytest.param({"MAIL": b"550 5.7.1 your address is blocked\r\n"}, Kind.BOUNCED, id="5xx to MAIL bounces"),
        pytest.param({"RCPT": b"451 4.7.1 greylisted\r\n"}, Kind.DEFERRED, id="4xx to RCPT defers"),
        pytest.param({"RCPT": b"550 5.1.1 no such user\r\n"}, Kind.BOUNCED, id="5xx to RCPT bounces"),
        pytest.param({"RCPT": b"what?\r\n"}, Kind.DEFERRED, id="garbage to RCPT never bounces"),
        pytest.param({"DATA": b"451 4.3.0 later\r\n"}, Kind.DEFERRED, id="4xx to DATA defers"),
        pytest.param({"END": b"452 4.3.1 full\r\n"}, Kind.DEFERRED, id="4xx after the dot defers"),
        pytest.param({"END": b"554 5.7.1 spam\r\n"}, Kind.BOUNCED, id="5xx after the dot bounces"),
        pytest.param({"END": b"xyz\r\n"}, Kind.UNKNOWN, id="garbage after the dot leaves the outcome unknown"),
        pytest.param({"END": Act.DROP}, Kind.UNKNOWN, id="a connection lost after the dot leaves it unknown"),
    ],
)
async def test_how_a_reply_ends_an_attempt(
    answers: dict[str, bytes | Act], kind: Kind, nameserver: str, tmp_path: Path
) -> None:
    async with ScriptedMx(Mx(answers)) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example", sender="")
            await relay.until("x@dest.example", kind)
            assert kinds(await relay.of("x@dest.example")) == [kind]
            assert await relay.left() == (0 if kind is Kind.BOUNCED else 1)


async def test_each_recipient_of_a_transaction_ends_by_itself(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": [b"250 ok\r\n", b"550 5.1.1 no such user\r\n", b"451 4.7.1 greylisted\r\n"]})
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await relay.submit("a@dest.example", "b@dest.example", "c@dest.example", sender="")
            await relay.until("a@dest.example", Kind.DELIVERED)
            await relay.until("b@dest.example", Kind.BOUNCED)
            await relay.until("c@dest.example", Kind.DEFERRED)
            (suppression,) = await relay.suppressions()
            assert suppression.address == "b@dest.example"
            assert len(mx.messages) == 1


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        pytest.param(
            {"MAIL": b"250 ok\r\n250 ok\r\n", "RCPT": [b"550 5.1.1 no such user\r\n", b"250 ok\r\n"]},
            Kind.DEFERRED,
            id="one reply too many, so that each refusal seems to be the next one's",
        ),
        pytest.param(
            {"RCPT": [b"550 5.1.1 no such user\r\n", b"what?\r\n"]}, Kind.DEFERRED, id="garbage after a refusal"
        ),
        pytest.param(
            {"RCPT": [b"550 5.1.1 no such user\r\n", b"250 ok\r\n"], "END": b"what?\r\n"},
            Kind.UNKNOWN,
            id="garbage after the dot",
        ),
    ],
)
async def test_a_server_that_has_lost_its_place_bounces_nobody(
    answers: dict[str, Any], kind: Kind, nameserver: str, tmp_path: Path
) -> None:
    async with ScriptedMx(Mx(answers)) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)
        async with outfit(settings) as relay:
            await relay.submit("a@dest.example", "b@dest.example")
            for recipient in ("a@dest.example", "b@dest.example"):
                await relay.until(recipient, kind)
                assert kinds(await relay.of(recipient)) == [kind]
            assert await relay.suppressions() == []


async def test_domains_of_a_site_share_a_connection_and_never_a_transaction(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        await relay.submit("b@dest.example", "c@other.example", "d@dest.example")
        await relay.until("b@dest.example", Kind.DELIVERED)
        await relay.until("c@other.example", Kind.DELIVERED)
        domains = [{line.rpartition(b"@")[2] for line in message.recipients} for message in mx.messages]
        assert all(len(of_one) == 1 for of_one in domains)
        assert len(relay.shard.couriers.sites) == 1
        assert server.connections <= 2


async def test_a_deferred_recipient_is_tried_again_and_delivered(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": [b"451 4.7.1 greylisted\r\n", b"451 4.7.1 greylisted\r\n"]})
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=SOON)) as relay,
    ):
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert kinds(await relay.of("x@dest.example")) == [Kind.DEFERRED, Kind.DEFERRED, Kind.DELIVERED]
        assert event.attempt == 3


async def test_an_unknown_outcome_is_tried_again_by_default(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"END": [Act.DROP]})
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=SOON)) as relay,
    ):
        await relay.submit("x@dest.example")
        await relay.until("x@dest.example", Kind.DELIVERED)
        assert kinds(await relay.of("x@dest.example")) == [Kind.UNKNOWN, Kind.DELIVERED]


async def test_an_unknown_outcome_ends_a_message_that_is_sent_at_most_once(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"END": [Act.DROP]})
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=SOON)) as relay,
    ):
        await relay.submit("x@dest.example", unknown_outcome="end", sender="back@other.example")
        await relay.until("back@other.example", Kind.DELIVERED)
        assert kinds(await relay.of("x@dest.example")) == [Kind.UNKNOWN]
        assert b"at most once" in mx.messages[0].content.replace(b"\r\n", b" ")


@pytest.mark.parametrize(
    ("lacking", "changes", "status"),
    [
        pytest.param("SMTPUTF8", {"smtputf8": True}, "5.6.7", id="a message that needs SMTPUTF8"),
        pytest.param("8BITMIME", {"body_type": "8BITMIME"}, "5.6.3", id="8-bit content"),
        pytest.param("SIZE 10", {}, "5.3.4", id="a message larger than the server takes"),
    ],
)
async def test_what_the_server_cannot_take_is_bounced_unsent(
    lacking: str, changes: dict[str, Any], status: str, nameserver: str, tmp_path: Path
) -> None:
    offered = {"SMTPUTF8", "8BITMIME", "SIZE 10"} ^ {lacking} if lacking != "SIZE 10" else {"SIZE 10"}
    mx = Mx(extensions=["PIPELINING", *sorted(offered - ({"SIZE 10"} if lacking != "SIZE 10" else set()))])
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example", sender="", **changes)
        event = await relay.until("x@dest.example", Kind.BOUNCED)
        assert status in event.detail
        assert "MAIL" not in mx.sessions[0].verbs
        assert await relay.suppressions() == []


async def test_what_ehlo_asked_for_is_carried_on_where_it_is_offered(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        recipient = Recipient("x@dest.example", notify="SUCCESS,FAILURE", orcpt="rfc822;y@dest.example")
        await relay.submit(recipient, body_type="8BITMIME", ret="HDRS", envid="abc")
        await relay.until("x@dest.example", Kind.DELIVERED)
        mail, rcpt = mx.messages[0].mail, mx.messages[0].recipients[0]
        assert b" SIZE=" in mail
        assert b" BODY=8BITMIME" in mail
        assert b" RET=HDRS ENVID=abc" in mail
        assert rcpt.endswith(b" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;y@dest.example")
        assert kinds(await relay.of("app@sender.example")) == []


async def test_who_asked_for_success_is_told_that_the_message_was_relayed(nameserver: str, tmp_path: Path) -> None:
    mx = Mx(extensions=["PIPELINING"])
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit(Recipient("x@dest.example", notify="SUCCESS"), sender="back@other.example")
        await relay.until("back@other.example", Kind.DELIVERED)
        report = message_from_bytes(mx.messages[1].content)
        assert "Action: relayed" in report.as_string()
        assert mx.messages[1].mail.startswith(b"MAIL FROM:<>")


async def test_a_bounce_is_reported_once_and_never_bounced(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": b"550 5.1.1 no such user\r\n"})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        message_id = await relay.submit("x@dest.example", sender="back@other.example")
        bounce = await relay.until("x@dest.example", Kind.BOUNCED)
        report = await relay.until("back@other.example", Kind.BOUNCED)
        assert (bounce.message, report.sender, report.header_from) == (message_id, "", "postmaster@sender.example")
        assert await relay.left() == 0
        accepted = [event for event in await relay.events() if event.kind is Kind.ACCEPTED]
        assert len(accepted) == 2


@pytest.mark.parametrize(
    ("notify", "reports", "told"),
    [
        pytest.param("", True, True, id="by default"),
        pytest.param("FAILURE", True, True, id="when asked"),
        pytest.param("NEVER", True, False, id="not when NOTIFY=NEVER"),
        pytest.param("SUCCESS", True, False, id="not when only success was asked for"),
        pytest.param("", False, False, id='not when the credential says reports = "none"'),
    ],
)
async def test_a_failure_is_reported(notify: str, reports: bool, told: bool, nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": [b"550 5.1.1 no such user\r\n"]})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit(Recipient("x@dest.example", notify=notify), sender="back@other.example", reports=reports)
        await relay.until("x@dest.example", Kind.BOUNCED)
        if told:
            await relay.until("back@other.example", Kind.DELIVERED)
        assert len(mx.messages) == told
        assert await relay.left() == 0


async def test_what_was_never_attempted_expires_with_a_report(nameserver: str, tmp_path: Path) -> None:
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        past: dict[str, Any] = {"accepted_at": time.time() - 100, "expires_at": time.time() - 1}
        await relay.submit("x@dest.example", sender="back@other.example", **past)
        event = await relay.until("x@dest.example", Kind.EXPIRED)
        assert "never attempted" in event.detail
        await relay.until("back@other.example", Kind.DELIVERED)
        assert b"4.4.7" in mx.messages[0].content


async def test_what_waits_for_a_site_in_trouble_expires_in_time_with_one_report(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Mx()
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)) as relay,
    ):
        await relay.submit("first@dead.example")
        await relay.until("first@dead.example", Kind.DEFERRED)
        owed = ["a@dead.example", "b@dead.example"]
        await relay.submit(*owed, sender="back@other.example", expires_at=time.time() + 0.2)
        for recipient in owed:
            assert "never attempted" in (await relay.until(recipient, Kind.EXPIRED)).detail
        await relay.until("back@other.example", Kind.DELIVERED)
        assert len(mx.messages) == 1


async def test_what_waits_for_its_turn_expires_in_time(nameserver: str, tmp_path: Path) -> None:
    mx = HesitantMx()
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay,
    ):
        for number in range(2):
            await relay.submit(f"ahead{number}@dest.example")
        await mx.asked.wait()
        await relay.submit("x@dest.example", sender="", expires_at=time.time() + 0.2)
        await relay.until("x@dest.example", Kind.EXPIRED)
        mx.may_answer.set()
        for number in range(2):
            await relay.until(f"ahead{number}@dest.example", Kind.DELIVERED)
        assert len(mx.messages) == 2


async def test_a_last_attempt_is_made_at_expiry(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"RCPT": b"451 4.2.0 later\r\n"})
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)) as relay,
    ):
        await relay.submit("x@dest.example", sender="", expires_at=time.time() + 0.5)
        await relay.until("x@dest.example", Kind.EXPIRED)
        assert kinds(await relay.of("x@dest.example")) == [Kind.DEFERRED, Kind.EXPIRED]


async def test_an_unknown_outcome_of_the_last_attempt_is_told_as_unknown(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"END": [Act.DROP, Act.DROP]})
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW)) as relay,
    ):
        await relay.submit("x@dest.example", sender="back@other.example", expires_at=time.time() + 0.5)
        await relay.until("back@other.example", Kind.DELIVERED)
        events = await relay.of("x@dest.example")
        assert kinds(events) == [Kind.UNKNOWN, Kind.UNKNOWN]
        assert "not tried again (its time is over)" in events[-1].detail
        assert b"its time is over" in mx.messages[-1].content.replace(b"\r\n", b" ")


async def test_a_domains_mail_on_disk_is_read_as_fast_as_it_goes_out(nameserver: str, tmp_path: Path) -> None:
    """Twenty pages; one a second, as the scheduler looks by itself, would take longer than is waited for."""
    many = [f"x{number}@dest.example" for number in range(2000)]
    async with ScriptedMx(Mx()) as server:
        spool = await Spool.open(tmp_path, shard=0)
        await spool.accept(message(spool, *many), hand_over=False)
        await spool.close()
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery={"window": 100})
        async with outfit(settings) as relay, asyncio.timeout(10):
            await relay.until(many[-1], Kind.DELIVERED)


async def test_mail_of_a_site_that_does_not_answer_waits_on_disk_and_climbs_no_ladder(
    nameserver: str, tmp_path: Path
) -> None:
    async with outfit(config(tmp_path, nameserver=nameserver, delivery=NOT_NOW)) as relay:
        await relay.submit("first@dead.example")
        await relay.until("first@dead.example", Kind.DEFERRED)
        await relay.submit(*(f"x{number}@dead.example" for number in range(50)))
        assert len(relay.shard.scheduler.window) == 0
        (site,) = relay.shard.couriers.sites.values()
        assert site.governor.in_trouble
        assert "127.0.0.3" in site.last_error
        entries = await relay.spool.find(Selection(), limit=100)
        assert sorted(entry.attempts for entry in entries) == [0] * 50 + [1]


async def test_an_operators_retry_does_not_wait_for_the_probe(nameserver: str, tmp_path: Path) -> None:
    async with outfit(config(tmp_path, nameserver=nameserver, delivery=NOT_NOW)) as relay:
        await relay.submit("x@dead.example")
        await relay.until("x@dead.example", Kind.DEFERRED)
        async for _ in relay.spool.retry(Selection(), by="test"):
            pass
        attempts = relay.metrics.snapshot()["values"]["relay_connections_out_failed"]
        relay.shard.scheduler.retry_now({("dead.example", "app")})
        await until(
            lambda: relay.metrics.snapshot()["values"]["relay_connections_out_failed"] != attempts, what="a try"
        )


async def test_a_route_may_discard(nameserver: str, tmp_path: Path) -> None:
    settings = config(tmp_path, nameserver=nameserver, route=[{"recipient_domain": "dest.example", "via": "discard"}])
    async with outfit(settings) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert event.detail == "discarded by a route"


async def test_held_mail_is_taken_out_of_every_line(nameserver: str, tmp_path: Path) -> None:
    mx = Mx({"GREETING": Act.STALL})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        for number in range(10):
            await relay.submit(f"x{number}@dest.example")
        held = {
            (each.message_id, each.position)
            async for changes in relay.spool.hold(Selection(), by="test")
            for each in changes
        }
        relay.shard.scheduler.drop(held)
        (site,) = relay.shard.couriers.sites.values()
        assert len(held) == 10
        assert site.waiting == 0


async def test_a_reload_changes_where_may_be_delivered_to(nameserver: str, tmp_path: Path) -> None:
    async with ScriptedMx(Mx()) as server:
        shut, opened = (
            config(tmp_path, port=server.port, nameserver=nameserver, delivery={**NOT_NOW, "allow_networks": networks})
            for networks in ([], ["127.0.0.0/8"])
        )
        async with outfit(shut) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DEFERRED)
            relay.shard.scheduler.reconfigure(opened.delivery)
            await relay.submit("y@dest.example")
            await relay.until("y@dest.example", Kind.DELIVERED)


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        pytest.param(b"250 2.0.0 Queued\r\n", [Kind.CANCELLED, Kind.DELIVERED], id="the journal says if it was taken"),
        pytest.param(b"550 5.7.1 no\r\n", [Kind.CANCELLED], id="and a refusal is reported to nobody"),
    ],
)
async def test_what_is_cancelled_while_it_is_being_sent_ends_no_worker(
    answer: bytes, ends: list[Kind], nameserver: str, tmp_path: Path
) -> None:
    mx = HesitantMx({"END": answer})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("x@dest.example")
        await mx.asked.wait()
        async for changes in relay.spool.cancel(Selection(), by="test"):
            relay.shard.scheduler.drop({(each.message_id, each.position) for each in changes})
        mx.may_answer.set()
        await relay.until("x@dest.example", ends[-1])
        await relay.submit("y@dest.example", sender="")
        await relay.until("y@dest.example", Kind.BOUNCED if len(ends) == 1 else Kind.DELIVERED)
        assert kinds(await relay.of("x@dest.example")) == ends
        assert await relay.of("app@sender.example") == []


async def test_what_was_under_way_at_a_crash_is_delivered_by_the_next_owner(nameserver: str, tmp_path: Path) -> None:
    stalling = Mx({"GREETING": Act.STALL})
    async with (
        ScriptedMx(stalling) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay,
    ):
        await relay.submit("x@dest.example")
    mx = Mx()
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.until("x@dest.example", Kind.DELIVERED)
        assert len(mx.messages) == 1


@pytest.mark.parametrize(
    ("unknown_outcome", "ends"),
    [
        pytest.param("retry", [Kind.UNKNOWN, Kind.DELIVERED], id="and is tried again"),
        pytest.param("end", [Kind.UNKNOWN], id="and ends where it is sent at most once"),
    ],
)
async def test_what_a_drain_cuts_after_the_dot_is_journaled_as_unknown(
    unknown_outcome: str, ends: list[Kind], nameserver: str, tmp_path: Path
) -> None:
    mx = HesitantMx({"RCPT": [b"250 ok\r\n", b"550 5.1.1 no such user\r\n"]})
    async with ScriptedMx(mx) as server:
        settings = config(tmp_path, port=server.port, nameserver=nameserver, delivery=SOON)
        async with outfit(settings) as relay:
            await relay.submit("x@dest.example", "y@dest.example", sender="", unknown_outcome=unknown_outcome)
            await mx.asked.wait()
        mx.may_answer.set()
        async with outfit(settings) as relay:
            await relay.submit("last@dest.example", sender="")
            await relay.until("last@dest.example", Kind.DELIVERED)
            await relay.until("x@dest.example", ends[-1])
            events = await relay.of("x@dest.example")
            assert kinds(events) == ends
            assert events[0].detail.startswith("the relay ended before the server answered")
            assert kinds(await relay.of("y@dest.example")) == [Kind.BOUNCED]


async def test_a_connection_carries_no_more_messages_than_the_profile_says(nameserver: str, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text("[default]\nconnections = 1\nmessages_per_connection = 3\n")
    mx = Mx()
    async with ScriptedMx(mx) as server:
        settings = config(
            tmp_path / "spool", port=server.port, nameserver=nameserver, delivery={"profiles": str(profiles)}
        )
        async with outfit(settings) as relay:
            for number in range(7):
                await relay.submit(f"x{number}@dest.example")
            await relay.until("x6@dest.example", Kind.DELIVERED)
            assert [session.verbs.count("MAIL") for session in mx.sessions] == [3, 3, 1]


async def test_a_session_that_breaks_is_followed_by_one_with_the_next_host(nameserver: str, tmp_path: Path) -> None:
    breaking, healthy = Mx({"RCPT": Act.DROP}), Mx()
    async with (
        ScriptedMx(breaking, host="127.0.0.4") as first,
        ScriptedMx(healthy, host="127.0.0.5", port=first.port),
        outfit(config(tmp_path, port=first.port, nameserver=nameserver, delivery=NOT_NOW)) as relay,
    ):
        await relay.submit("x@pair.example")
        event = await relay.until("x@pair.example", Kind.DELIVERED)
        assert "[127.0.0.5]" in event.mx
        assert event.attempt == 1


async def test_domains_of_a_site_keep_their_own_preferences(nameserver: str, tmp_path: Path) -> None:
    async with (
        ScriptedMx(Mx(), host="127.0.0.4") as a,
        ScriptedMx(Mx(), host="127.0.0.5", port=a.port) as b,
        outfit(config(tmp_path, port=a.port, nameserver=nameserver)) as relay,
    ):
        for number, (domain, host) in enumerate([("pair", a.host), ("swapped", b.host)] * 2):
            recipient = f"x{number}@{domain}.example"
            await relay.submit(recipient)
            assert f"[{host}]" in (await relay.until(recipient, Kind.DELIVERED)).mx
        assert len(relay.shard.couriers.sites) == 1
        assert (a.connections, b.connections) == (1, 1)


async def test_a_connection_to_a_backup_is_used_again_while_the_best_host_is_down(
    nameserver: str, tmp_path: Path
) -> None:
    async with (
        ScriptedMx(Mx()) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay,
    ):
        for number in range(3):
            await relay.submit(f"x{number}@backup.example")
            await relay.until(f"x{number}@backup.example", Kind.DELIVERED)
        assert server.connections == 1


async def test_a_clock_that_is_set_back_leaves_no_mail_waiting_for_the_time_it_had_shown(
    nameserver: str, tmp_path: Path
) -> None:
    ahead = 86400.0
    mx = Mx({"RCPT": [b"451 4.7.1 greylisted\r\n"]})
    async with (
        ScriptedMx(mx) as server,
        outfit(
            config(tmp_path, port=server.port, nameserver=nameserver, delivery=NOT_NOW),
            now=lambda: time.time() + ahead,
            steady=time.time,
        ) as relay,
    ):
        await relay.submit("x@dest.example", expires_at=time.time() + 2 * ahead)
        await relay.until("x@dest.example", Kind.DEFERRED)
        ahead = 0.0
        await relay.until("x@dest.example", Kind.DELIVERED)


async def test_what_becomes_of_each_recipient_is_logged(nameserver: str, tmp_path: Path) -> None:
    log = tmp_path / "relay.log"
    mx = Mx({"RCPT": [b"250 ok\r\n", b"550 5.1.1 no such user\r\n"]})
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path / "spool", port=server.port, nameserver=nameserver, log={"file": str(log)})) as relay,
    ):
        message_id = await relay.submit("a@dest.example", "b@dest.example", sender="")
        await relay.until("a@dest.example", Kind.DELIVERED)
        await until(lambda: log.exists() and log.read_text().count("recipient ") == 2, what="two lines")
        lines = {line["recipient"]: line for line in map(json.loads, log.read_text().splitlines())}
        assert lines["a@dest.example"]["event"] == "recipient delivered"
        assert lines["b@dest.example"]["event"] == "recipient bounced"
        assert lines["b@dest.example"]["reply"] == "550 5.1.1 no such user"
        assert {line["id"] for line in lines.values()} == {message_id}


async def test_a_damaged_content_opens_no_transaction_and_keeps_no_other_mail_waiting(
    nameserver: str, tmp_path: Path
) -> None:
    mx = Mx()
    settings = config(tmp_path, nameserver=nameserver)
    async with outfit(settings) as relay:  # nobody listens where it delivers to
        damaged = await relay.submit("a@dest.example", "b@other.example", body=b"x" * (INLINE_OCTETS + 1))
        await relay.until("a@dest.example", Kind.DEFERRED)
        await relay.submit("c@dest.example")
    (file,) = (tmp_path / "shard-0" / "content").iterdir()
    file.write_bytes(b"y" + file.read_bytes()[1:])
    later = time.time() + 900
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver), now=lambda: later) as relay,
    ):
        await relay.until("c@dest.example", Kind.DELIVERED)
        held = [await relay.until(each, Kind.HELD) for each in ("a@dest.example", "b@other.example")]
        assert all("its checksum is another" in event.detail for event in held)
        await relay.submit("d@dest.example")
        await relay.until("d@dest.example", Kind.DELIVERED)
        assert [each.recipients for each in mx.messages] == [
            [b"RCPT TO:<c@dest.example>"],
            [b"RCPT TO:<d@dest.example>"],
        ]
        assert [one.message_id for one in await relay.spool.find(Selection(status=Status.DAMAGED))] == [damaged] * 2
