"""Seven clients submit over STARTTLS and over implicit TLS, a real Postfix receives, three verifiers look.

What arrives is what was sent: subject, text, attachment, recipients and nobody else; and both DKIM signatures hold for
everyone who can check them.
"""

import email
import email.policy
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.peers.certificates import Authority
from tests.peers.clients import CLIENTS, Account, Letter
from tests.peers.ports import Reserved
from tests.peers.postfix import Postfix, postfix
from tests.peers.verifiers import by_mail_dkim, by_mailauth, by_opendkim
from tests.system.relay_process import DOMAIN, HOST, SELECTORS, Login, RelayProcess
from tests.system.zones import POSTFIX_HOST

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("clients"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a Postfix of one's own needs root"),
]

RSA, ED25519 = SELECTORS
SUBJECT = "Grüße aus Köln – Ihre Bestellung № 4711 ist unterwegs 🚚, und diese Zeile ist länger als achtundsiebzig"
TEXT = "Liebe Ännchen,\n.\n..zwei Punkte\nVon hier an stimmt alles: äöüß €\n  eingerückt \n\nŽluťoučký kůň\n"
ATTACHMENT = bytes(range(256)) * 64 + b"\r\n.\r\nFrom \n\n"


@dataclass(frozen=True)
class Chain:
    """What a message goes through, and where the keys to its signatures are."""

    relay: RelayProcess
    login: Login
    receiver: Postfix
    nameserver: str


@pytest.fixture(scope="module")
def receiver(authority: Authority) -> Iterator[Postfix]:
    issued = authority.issue("mx.postfix.test")
    people = ["ann", "bob", "cecil", "dora", "eve"]
    with (
        Reserved(POSTFIX_HOST) as reserved,
        postfix(
            POSTFIX_HOST,
            reserved.port,
            domains=["postfix.test"],
            mailboxes=people,
            certificate=issued.certificate,
            key=issued.key,
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def chain(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, nameserver: str, receiver: Postfix
) -> Iterator[Chain]:
    directory = tmp_path_factory.mktemp("relay")
    relay = RelayProcess(
        directory, authority, nameserver=nameserver, server={"workers": 2}, delivery={"port": receiver.port}
    )
    relay.add_domain()
    login = relay.add_credential()
    relay.start()
    yield Chain(relay, login, receiver, nameserver)
    try:
        relay.stop()
    finally:
        relay.close()


@pytest.mark.parametrize("implicit", [pytest.param(False, id="STARTTLS"), pytest.param(True, id="implicit TLS")])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_client_sends_arrives_as_it_was_and_signed(
    client: str, implicit: bool, chain: Chain, tmp_path: Path
) -> None:
    letter = _letter(f"{client}-{implicit}", tmp_path)
    CLIENTS[client](letter, _account(chain, implicit=implicit), tmp_path)

    marker = letter.attachment_name.encode()
    received = chain.receiver.received(*letter.recipients, with_octets=marker)
    for octets in received:
        _compare(letter, octets)
    everybody = (*letter.recipients, "eve@postfix.test")
    assert [chain.receiver.have(each, marker) for each in everybody] == [1, 1, 1, 1, 0]

    nameserver = chain.nameserver
    assert by_opendkim(received[:1], nameserver=nameserver, domain=DOMAIN) == [{RSA: "pass", ED25519: "pass"}]
    assert by_mailauth(received[:1], nameserver=nameserver) == [{RSA: "pass", ED25519: "pass"}]
    assert by_mail_dkim(received[:1], nameserver=nameserver) == [{RSA: "pass"}]


def test_the_verifiers_can_tell_a_message_that_was_changed(chain: Chain) -> None:
    nameserver = chain.nameserver
    queued = chain.relay.send(chain.login, "ann@postfix.test", subject="to be changed")
    (octets,) = chain.receiver.received("ann@postfix.test", with_octets=queued.encode())
    changed = [octets.replace(b"Hello.", b"Hallo."), octets.replace(b"to be changed", b"was changed")]
    for found in by_opendkim(changed, nameserver=nameserver, domain=DOMAIN):
        assert "pass" not in found.values() and found.keys() == {RSA, ED25519}
    for found in by_mailauth(changed, nameserver=nameserver):
        assert "pass" not in found.values() and found.keys() == {RSA, ED25519}
    assert by_mail_dkim(changed, nameserver=nameserver) == [{RSA: "fail"}, {RSA: "fail"}]


def test_a_client_that_does_not_trust_the_certificate_sends_nothing(chain: Chain, tmp_path: Path) -> None:
    """So the clients above did verify."""
    relay = chain.relay
    account = replace(_account(chain, implicit=True), ca=str(Authority(tmp_path).root))
    before = len(relay.log("message accepted"))
    for name, client in CLIENTS.items():
        with pytest.raises(AssertionError, match=r"(?i)certificate|TLS|SSL|could not connect"):
            client(_letter(f"distrust-{name}", tmp_path), account, tmp_path)
    assert len(relay.log("message accepted")) == before


def _letter(marker: str, directory: Path) -> Letter:
    attachment = directory / "attachment"
    attachment.write_bytes(ATTACHMENT)
    return Letter(
        sender=f"shop@{DOMAIN}",
        name="Ännes Lädchen",
        to=("ann@postfix.test", "bob@postfix.test"),
        cc=("cecil@postfix.test",),
        bcc=("dora@postfix.test",),
        subject=SUBJECT,
        text=TEXT,
        attachment_name=f"{marker}.pdf",
        attachment_path=str(attachment),
    )


def _account(chain: Chain, *, implicit: bool) -> Account:
    relay, login = chain.relay, chain.login
    port = relay.tls_port if implicit else relay.starttls_port
    return Account(HOST, port, implicit, str(relay.authority.root), login.login, login.secret)


def _compare(letter: Letter, octets: bytes) -> None:
    message = email.message_from_bytes(octets, _class=EmailMessage, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message["Subject"].lstrip() == letter.subject  # Django folds before the first word
    assert message["From"].addresses[0].addr_spec == letter.sender
    assert message["From"].addresses[0].display_name == letter.name
    assert [each.addr_spec for each in message["To"].addresses] == list(letter.to)
    assert [each.addr_spec for each in message["Cc"].addresses] == list(letter.cc)
    assert message["Bcc"] is None
    assert message["Date"] is not None and message["Message-ID"] is not None
    body = message.get_body()
    assert body is not None
    assert body.get_content().rstrip("\n") == letter.text.rstrip("\n")
    (attachment,) = message.iter_attachments()
    assert attachment.get_filename() == letter.attachment_name
    assert attachment.get_content() == Path(letter.attachment_path).read_bytes()
