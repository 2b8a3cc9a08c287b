"""A real Postfix and a real Exim answer each recipient of one message differently; what we say of it agrees with them.

For each recipient the journal's last word, the receiver's log and the mailbox tell the same; who must know gets a
report, by way of the relay; and what a client asks for by SMTPUTF8, 8BITMIME and DSN is what Postfix is asked for.
"""

import email
import email.policy
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import pytest

from relay.mail.event import Event, Kind
from tests.peers import exim as exims
from tests.peers import postfix as postfixes
from tests.peers.certificates import Authority
from tests.peers.exim import Exim, exim
from tests.peers.ports import Reserved
from tests.peers.postfix import Postfix, postfix
from tests.peers.verifiers import by_mailauth
from tests.peers.waiting import eventually
from tests.system.relay_process import DOMAIN, SELECTORS, Login, RelayProcess, letter, submit
from tests.system.zones import EXIM_HOST, POSTFIX_HOST

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("receivers"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a Postfix of one's own needs root"),
]

SENDER = f"app@{DOMAIN}"


@dataclass(frozen=True)
class Chain:
    """A relay with two receivers. Reports to its sender domain go to Postfix."""

    relay: RelayProcess
    login: Login
    postfix: Postfix
    exim: Exim
    nameserver: str

    def report(self, about: str, *, subject: str = "") -> EmailMessage:
        """The report that speaks of `about`, from the sender's mailbox."""

        def look() -> list[bytes]:
            mailbox = self.postfix.mailbox(SENDER)
            return [each for each in mailbox if about.encode() in each and subject.encode() in each]

        found = eventually(look, what=f"a report about {about}")
        return parsed(found[0])


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, authority: Authority, nameserver: str) -> Iterator[Chain]:
    issued = authority.issue("mx.postfix.test")
    with (
        Reserved(POSTFIX_HOST, EXIM_HOST) as reserved,
        postfix(
            POSTFIX_HOST,
            reserved.port,
            domains=["postfix.test", "bücher.test", DOMAIN],
            mailboxes=["ann", "bob", "grün", "app"],
            certificate=issued.certificate,
            key=issued.key,
            talkative=True,
        ) as running_postfix,
        exim(EXIM_HOST, reserved.port, domain="exim.test", mailboxes=["ann", "bob"]) as running_exim,
    ):
        relay = RelayProcess(
            tmp_path_factory.mktemp("relay"),
            authority,
            nameserver=nameserver,
            server={"workers": 2},
            delivery={"port": reserved.port, "retry": {"ladder": ["1s"], "jitter": 0}},
        )
        relay.add_domain()
        login = relay.add_credential()
        relay.start()
        yield Chain(relay, login, running_postfix, running_exim, nameserver)
        try:
            relay.stop()
        finally:
            relay.close()


@pytest.fixture(scope="module")
def to_postfix(chain: Chain) -> str:
    """Its queue id."""
    people = [f"{name}@postfix.test" for name in ("ann", "unknown", "full", "blocked", "greylisted")]
    return chain.relay.send(chain.login, *people, subject="five at Postfix")


class TestPostfix:
    """One message to five recipients, each of whom is answered differently."""

    def test_an_accepted_recipient_is_delivered_under_the_id_that_postfix_gave(
        self, chain: Chain, to_postfix: str
    ) -> None:
        event = chain.relay.event(Kind.DELIVERED, message=to_postfix, recipient="ann@postfix.test")
        its_id = event.reply.rpartition("queued as ")[2]
        assert chain.postfix.received("ann@postfix.test", with_octets=to_postfix.encode())
        assert chain.postfix.logged(its_id, "to=<ann@postfix.test>", "status=sent")
        assert chain.postfix.logged(its_id, f"from=<{SENDER}>")
        assert event.mx == f"mx.postfix.test[127.0.0.1]:{chain.postfix.port}"
        assert event.tls.startswith("TLSv1.3 unverified")

    def test_an_unknown_recipient_bounces_with_the_words_of_postfix(self, chain: Chain, to_postfix: str) -> None:
        event = chain.relay.event(Kind.BOUNCED, message=to_postfix, recipient="unknown@postfix.test")
        assert event.verdict == "recipient"
        assert event.reply.startswith("550 5.1.1 ")
        assert chain.postfix.logged("reject: RCPT", event.reply)

    def test_its_sender_gets_a_report_by_way_of_the_relay(self, chain: Chain, to_postfix: str) -> None:
        report = chain.report("unknown@postfix.test")
        assert report.get_content_type() == "multipart/report"
        assert report["Auto-Submitted"] == "auto-replied"
        assert report["Return-Path"] == "<>"
        assert report["From"].addresses[0].addr_spec == f"postmaster@{DOMAIN}"
        fields = status_of(report, "unknown@postfix.test")
        assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
        assert "550 5.1.1" in fields["Diagnostic-Code"]
        assert "mx.postfix.test" in fields["Remote-MTA"]
        returned = [part for part in report.walk() if part.get_content_type() == "text/rfc822-headers"]
        assert "Subject: five at Postfix" in returned[0].get_content()

    def test_the_report_is_signed_like_any_mail(self, chain: Chain, to_postfix: str) -> None:
        chain.report("unknown@postfix.test")
        reports = [each for each in chain.postfix.mailbox(SENDER) if b"unknown@postfix.test" in each]
        assert by_mailauth(reports[:1], nameserver=chain.nameserver) == [dict.fromkeys(SELECTORS, "pass")]

    def test_the_unknown_recipient_is_suppressed_from_then_on(self, chain: Chain, to_postfix: str) -> None:
        event = chain.relay.event(Kind.BOUNCED, message=to_postfix, recipient="unknown@postfix.test")
        listed = eventually(lambda: in_force(chain.relay, "unknown@postfix.test"), what="a suppression")
        assert (listed["cause"], listed["reply"], listed["expires_at"]) == ("hard_bounce", event.reply, None)
        with chain.relay.session(chain.login) as client:
            client.mail(SENDER)
            code, text = client.rcpt("unknown@postfix.test")
        assert code == 550 and b"5.7.1" in text and b"suppress" in text

    def test_a_block_of_our_address_bounces_and_suppresses_nobody(self, chain: Chain, to_postfix: str) -> None:
        event = chain.relay.event(Kind.BOUNCED, message=to_postfix, recipient="blocked@postfix.test")
        assert event.verdict == "sender"
        assert event.reply.startswith("550 5.7.1") and "block list" in event.reply
        assert chain.postfix.logged("reject: RCPT", event.reply)
        assert not suppressed(chain.relay, "blocked@postfix.test")

    def test_a_full_mailbox_is_tried_again(self, chain: Chain, to_postfix: str) -> None:
        eventually(lambda: len(deferrals(chain, to_postfix, "full@postfix.test")) >= 2, what="two deferrals")
        first, second = deferrals(chain, to_postfix, "full@postfix.test")[:2]
        assert (first.attempt, second.attempt) == (1, 2)
        assert first.reply.startswith(postfixes.FULL_REPLY[:9])
        assert 0.9 <= second.at - first.at <= 5
        assert chain.postfix.logged("reject: RCPT", first.reply, times=2)
        assert not suppressed(chain.relay, "full@postfix.test")

    def test_a_greylisted_recipient_is_deferred_and_then_delivered(self, chain: Chain, to_postfix: str) -> None:
        event = chain.relay.event(Kind.DELIVERED, message=to_postfix, recipient="greylisted@postfix.test")
        assert event.attempt == postfixes.GREYLISTED_TIMES + 1
        before = deferrals(chain, to_postfix, "greylisted@postfix.test")
        assert [each.attempt for each in before] == [1, 2]
        assert all("Greylisted" in each.reply for each in before)
        assert len(chain.postfix.mailbox("greylisted@postfix.test")) == 1

    def test_nobody_gets_it_twice(self, chain: Chain, to_postfix: str) -> None:
        chain.relay.event(Kind.DELIVERED, message=to_postfix, recipient="greylisted@postfix.test")
        assert chain.postfix.have("ann@postfix.test", to_postfix.encode()) == 1

    def test_content_refused_after_data_bounces_all_and_suppresses_nobody(self, chain: Chain) -> None:
        people = ("ann@postfix.test", "bob@postfix.test")
        sent = chain.relay.send(chain.login, *people, subject="forbidden at Postfix")
        for person in people:
            event = chain.relay.event(Kind.BOUNCED, message=sent, recipient=person)
            assert postfixes.FORBIDDEN_REPLY in event.reply
            assert event.verdict == "content"
            assert not suppressed(chain.relay, person)
        assert chain.postfix.logged("reject: header Subject: forbidden at Postfix", SENDER)
        status_of(chain.report("forbidden at Postfix"), people[1])


@pytest.fixture(scope="module")
def to_exim(chain: Chain) -> str:
    """Its queue id."""
    people = [f"{name}@exim.test" for name in ("ann", "unknown", "full", "blocked", "later")]
    return chain.relay.send(chain.login, *people, subject="five at Exim")


class TestExim:
    """The same against Exim, which says it in its own words."""

    def test_an_accepted_recipient_is_delivered_under_the_id_that_exim_gave(self, chain: Chain, to_exim: str) -> None:
        event = chain.relay.event(Kind.DELIVERED, message=to_exim, recipient="ann@exim.test")
        its_id = event.reply.rpartition("id=")[2]
        assert chain.exim.received("ann@exim.test", with_octets=to_exim.encode())
        assert chain.exim.logged(its_id, f"<= {SENDER}")
        assert chain.exim.logged(its_id, "=> ann <ann@exim.test>")

    @pytest.mark.parametrize(
        ("name", "reply", "verdict"),
        [
            pytest.param("unknown", exims.UNKNOWN_REPLY, "recipient", id="unknown"),
            pytest.param("blocked", exims.BLOCKED_REPLY, "sender", id="our address is blocked"),
        ],
    )
    def test_a_refused_recipient_bounces(self, chain: Chain, to_exim: str, name: str, reply: str, verdict: str) -> None:
        event = chain.relay.event(Kind.BOUNCED, message=to_exim, recipient=f"{name}@exim.test")
        assert (event.reply, event.verdict) == (reply, verdict)
        assert chain.exim.logged(f"rejected RCPT <{name}@exim.test>: {reply}")
        fields = status_of(chain.report(f"{name}@exim.test"), f"{name}@exim.test")
        assert reply in fields["Diagnostic-Code"]
        chain.relay.event(Kind.DELIVERED, recipient=SENDER)
        assert bool(suppressed(chain.relay, f"{name}@exim.test")) == (verdict == "recipient")

    def test_both_get_one_report(self, chain: Chain, to_exim: str) -> None:
        report = chain.report("unknown@exim.test")
        assert status_of(report, "blocked@exim.test")["Action"] == "failed"

    def test_a_full_mailbox_is_tried_again(self, chain: Chain, to_exim: str) -> None:
        eventually(lambda: len(deferrals(chain, to_exim, "full@exim.test")) >= 2, what="two deferrals")
        assert {each.reply for each in deferrals(chain, to_exim, "full@exim.test")} == {exims.FULL_REPLY}
        assert chain.exim.logged("temporarily rejected RCPT <full@exim.test>", times=2)

    def test_what_is_deferred_is_delivered_once_exim_takes_it(self, chain: Chain, to_exim: str) -> None:
        first = chain.relay.event(Kind.DEFERRED, message=to_exim, recipient="later@exim.test")
        assert first.reply == exims.LATER_REPLY
        chain.exim.open_for_later()
        chain.relay.event(Kind.DELIVERED, message=to_exim, recipient="later@exim.test")
        assert len(chain.exim.received("later@exim.test", with_octets=to_exim.encode())) == 1

    def test_content_refused_after_data_bounces_with_554(self, chain: Chain) -> None:
        sent = chain.relay.send(chain.login, "ann@exim.test", "bob@exim.test", subject="forbidden at Exim")
        for person in ("ann@exim.test", "bob@exim.test"):
            event = chain.relay.event(Kind.BOUNCED, message=sent, recipient=person)
            assert (event.reply, event.verdict) == (exims.FORBIDDEN_REPLY, "content")
            assert not suppressed(chain.relay, person)
        assert chain.exim.logged("rejected after DATA", exims.FORBIDDEN_REPLY)


class TestExtensions:
    """What the client's EHLO parameters asked for is carried on, or ends as it must."""

    def test_an_internationalized_address_goes_on_as_it_is(self, chain: Chain) -> None:
        with chain.relay.session(chain.login) as client:
            content = letter("grün ist die Hoffnung")
            sent = submit(client, "grün@bücher.test", content=content, mail_options=["SMTPUTF8", "BODY=8BITMIME"])
        (octets,) = chain.postfix.received("grün@bücher.test", with_octets=sent.encode())
        assert "Subject: grün ist die Hoffnung\n".encode() in octets
        assert b"with UTF8SMTPS id" in octets
        assert "SMTPUTF8" in chain.postfix.heard("MAIL", "SMTPUTF8")
        assert by_mailauth([octets], nameserver=chain.nameserver) == [dict.fromkeys(SELECTORS, "pass")]

    def test_it_bounces_where_smtputf8_is_not_offered(self, chain: Chain) -> None:
        with chain.relay.session(chain.login) as client:
            sent = submit(client, "ann@exim.test", content=letter("grün"), mail_options=["SMTPUTF8"])
        event = chain.relay.event(Kind.BOUNCED, message=sent)
        assert event.detail.startswith("550 5.6.7 ")
        assert status_of(chain.report(sent), "ann@exim.test")["Status"] == "5.6.7"

    def test_smtputf8_that_no_octet_needs_is_not_asked_for(self, chain: Chain) -> None:
        with chain.relay.session(chain.login) as client:
            sent = submit(client, "ann@exim.test", mail_options=["SMTPUTF8"])
        chain.relay.event(Kind.DELIVERED, message=sent)

    def test_eight_bit_content_is_announced(self, chain: Chain) -> None:
        content = letter("eight bits").replace(b"\r\n\r\nHello", b"\r\nMIME-Version: 1.0\r\n\r\nGr\xc3\xbc\xc3\x9fe")
        sent = chain.relay.send(chain.login, "bob@postfix.test", content=content, mail_options=["BODY=8BITMIME"])
        (octets,) = chain.postfix.received("bob@postfix.test", with_octets=sent.encode())
        assert "Grüße".encode() in octets
        assert "BODY=8BITMIME" in chain.postfix.heard("MAIL", f"SIZE={size_of(chain, sent)}")

    def test_the_size_announced_is_the_size_sent(self, chain: Chain) -> None:
        sent = chain.relay.send(chain.login, "bob@postfix.test", subject="weighed")
        (octets,) = chain.postfix.received("bob@postfix.test", with_octets=sent.encode())
        from_us = octets[octets.index(b"DKIM-Signature") :].replace(b"\n", b"\r\n")
        assert size_of(chain, sent) == len(from_us)

    def test_dsn_parameters_are_carried_on_and_postfix_reports_success(self, chain: Chain) -> None:
        with chain.relay.session(chain.login) as client:
            sent = submit(
                client,
                "bob@postfix.test",
                mail_options=["RET=HDRS", "ENVID=QQ+2B314159"],
                rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Bob@Other.example"],
            )
        chain.postfix.received("bob@postfix.test", with_octets=sent.encode())
        mail = chain.postfix.heard("MAIL", "ENVID=")
        assert "RET=HDRS" in mail and "ENVID=QQ+2B314159" in mail
        rcpt = chain.postfix.heard("RCPT", "ORCPT=")
        assert "NOTIFY=SUCCESS,FAILURE" in rcpt and "ORCPT=rfc822;Bob@Other.example" in rcpt
        report = chain.report("QQ+314159")
        fields = status_of(report, "bob@postfix.test")
        assert fields["Action"] == "delivered"
        assert fields["Original-Recipient"] == "rfc822;Bob@Other.example"

    def test_success_asked_for_where_dsn_is_not_offered_gives_a_relayed_report(self, chain: Chain) -> None:
        with chain.relay.session(chain.login) as client:
            sent = submit(client, "bob@exim.test", mail_options=["ENVID=relayed-1"], rcpt_options=["NOTIFY=SUCCESS"])
        chain.relay.event(Kind.DELIVERED, message=sent)
        fields = status_of(chain.report("relayed-1"), "bob@exim.test")
        assert fields["Action"] == "relayed"
        assert "mx.exim.test" in fields["Remote-MTA"]

    def test_notify_never_is_obeyed(self, chain: Chain) -> None:
        with chain.relay.session(chain.login) as client:
            silent = submit(client, "blocked@postfix.test", subject="quiet", rcpt_options=["NOTIFY=NEVER"])
            loud = submit(client, "blocked@postfix.test", subject="loud")
        chain.relay.event(Kind.BOUNCED, message=silent)
        chain.report(loud)
        assert not [each for each in chain.postfix.mailbox(SENDER) if silent.encode() in each]


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def status_of(report: EmailMessage, recipient: str) -> EmailMessage:
    """The fields of one recipient in a report's machine-readable part (RFC 3464 2.3)."""
    kinds = ("message/delivery-status", "message/global-delivery-status")
    (status,) = [part for part in report.walk() if part.get_content_type() in kinds]
    groups = status.get_payload()
    assert isinstance(groups, list)
    for group in groups:
        assert isinstance(group, EmailMessage)
        if group.get("Final-Recipient", "").endswith(recipient):
            return group
    raise AssertionError(f"no word of {recipient}: {report}")


def suppressed(relay: RelayProcess, address: str) -> dict[str, Any]:
    """What `relay suppression list` has of an address, or is about to have; {} for nothing."""
    about_to = [row for row in relay.suppressions_to_come() if row.address == address]
    listed: list[dict[str, Any]] = json.loads(relay.command("suppression", "list", "--json").stdout)
    return next((each for each in listed if each["address"] == address), {"cause": "to come"} if about_to else {})


def in_force(relay: RelayProcess, address: str) -> dict[str, Any]:
    found = suppressed(relay, address)
    return found if found.get("created_at") else {}


def deferrals(chain: Chain, message: str, recipient: str) -> list[Event]:
    return chain.relay.events(message=message, recipient=recipient, kind=Kind.DEFERRED)


def size_of(chain: Chain, message: str) -> int:
    return chain.relay.event(Kind.ACCEPTED, message=message).size
