"""A client that others wrote: Python's smtplib, in a thread of its own."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage

import pytest

from tests.peers.certificates import Authority, Issued
from tests.submission.house import SECRET, House
from tests.submission.wire import Running, running


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("localhost")


def message() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@example.com", "b@example.net, c@example.net", "Grüße"
    made.set_content("Käse\n.\n..\nfrom the dot\n")
    made.add_attachment(bytes(range(256)) * 1000, maintype="application", subtype="octet-stream", filename="x.bin")
    return made


def send_by_587(port: int, trust: ssl.SSLContext) -> None:
    with smtplib.SMTP("localhost", port, timeout=5) as client:
        client.starttls(context=trust)
        client.login("shop", SECRET)
        client.send_message(message())
        client.send_message(message())


def send_by_465(port: int, trust: ssl.SSLContext) -> None:
    with smtplib.SMTP_SSL("localhost", port, context=trust, timeout=5) as client:
        client.login("shop", SECRET)
        client.send_message(message())


def send_refused(port: int, trust: ssl.SSLContext) -> None:
    with smtplib.SMTP_SSL("localhost", port, context=trust, timeout=5) as client:
        client.login("shop", "wrong")


async def test_smtplib(house: House, issued: Issued, authority: Authority) -> None:
    trust = ssl.create_default_context(cafile=authority.root)
    async with running(house, issued) as up:
        await asyncio.to_thread(send_by_587, up.starttls, trust)
        await asyncio.to_thread(send_by_465, up.tls, trust)
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            await asyncio.to_thread(send_refused, up.tls, trust)
        check(up)


def check(up: Running) -> None:
    assert len(up.house.inbox.messages) == 3
    for submitted in up.house.inbox.messages:
        content = submitted.file.path.read_bytes() if submitted.file else submitted.body
        sent = message().as_bytes().replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[2]
        assert len(content) == len(sent)
        assert content.count(b"\r\n") == sent.count(b"\r\n")
        assert [each.address for each in submitted.envelope.recipients] == ["b@example.net", "c@example.net"]
