"""Our Received field: what it tells, what it hides, and that no client can write another field with it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.envelope import Recipient
from relay.mail.message import parse_header
from relay.mail.received import EHLO_LIMIT, count, format_received

BOB = Recipient("bob@example.org")
NOW = 1795192353.0


def received(
    *, ehlo: str = "client.example.com", client: str = "", tls: str = "", recipients: tuple[Recipient, ...] = ()
) -> str:
    return format_received(
        ehlo=ehlo,
        client=client,
        hostname="relay.example.com",
        protocol="ESMTPSA" if tls else "ESMTPA",
        tls=tls,
        queue_id="06dgbxqx3000abc",
        recipients=recipients,
        now=NOW,
    ).decode("ascii")


def test_the_whole_field() -> None:
    assert received(tls="TLSv1.3 TLS_AES_256_GCM_SHA384", recipients=(BOB,)) == (
        "Received: from client.example.com\r\n"
        "\tby relay.example.com (Relay) with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        "\tid 06dgbxqx3000abc\r\n"
        "\tfor <bob@example.org>;\r\n"
        "\tFri, 20 Nov 2026 16:32:33 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("client", "shown"),
    [
        pytest.param("", "from client.example.com\r\n", id="the client's address is hidden"),
        pytest.param("203.0.113.5", "from client.example.com ([203.0.113.5])\r\n", id="an IPv4 address is shown"),
        pytest.param("2001:db8::5", "from client.example.com ([IPv6:2001:db8::5])\r\n", id="an IPv6 address is shown"),
    ],
)
def test_the_clients_address(client: str, shown: str) -> None:
    assert shown in received(client=client)


@pytest.mark.parametrize(
    ("recipients", "told"),
    [
        pytest.param((BOB,), True, id="the only recipient is told"),
        pytest.param((BOB, Recipient("carol@example.org")), False, id="of two, neither hears of the other"),
        pytest.param((Recipient("jörg@example.org"),), False, id="an address that is not ASCII is left out"),
        pytest.param((), False, id="no recipient"),
    ],
)
def test_for_is_said_only_to_one(recipients: tuple[Recipient, ...], told: bool) -> None:
    field = received(recipients=recipients)
    assert ("for <" in field) is told
    assert told or not any(recipient.address in field for recipient in recipients)


@pytest.mark.parametrize(
    ("ehlo", "shown"),
    [
        pytest.param("vm", "from vm\r\n", id="PHPMailer's name"),
        pytest.param("Client.Example.COM", "from Client.Example.COM\r\n", id="a name in upper case stays"),
        pytest.param("mail.txt", "from mail.txt\r\n", id="curl's file name looks like a domain"),
        pytest.param("my_host", "from unknown (EHLO my_host)\r\n", id="an underscore"),
        pytest.param("a b", "from unknown (EHLO a b)\r\n", id="a space"),
        pytest.param("", "from unknown (EHLO )\r\n", id="nothing"),
        pytest.param("x) by evil (y", "from unknown (EHLO x? by evil ?y)\r\n", id="parentheses that close ours"),
        pytest.param("x\\", "from unknown (EHLO x?)\r\n", id="a backslash that escapes our parenthesis"),
        pytest.param("x\r\nFrom: a@b.example", "(EHLO x??From: a@b.example)\r\n", id="a line end that begins a field"),
        pytest.param("x; Thu, 1 Jan 1970", "(EHLO x? Thu, 1 Jan 1970)\r\n", id="a semicolon that begins the date"),
        pytest.param("=?utf-8?q?x?=", "(EHLO ??utf-8?q?x??)\r\n", id="an encoded word"),
        pytest.param("bücher.example", "(EHLO b?cher.example)\r\n", id="letters outside ASCII"),
        pytest.param("a@" * 400, f"(EHLO {'a@' * (EHLO_LIMIT // 2)})\r\n", id="a very long one is cut"),
    ],
)
def test_what_the_client_called_itself_is_shown_without_its_teeth(ehlo: str, shown: str) -> None:
    assert shown in received(ehlo=ehlo)


@pytest.mark.parametrize(
    ("ehlo", "shown"),
    [
        pytest.param("[10.9.8.7]", "[10.9.8.7]", id="an address literal"),
        pytest.param("[IPv6:2001:db8::7]", "[IPv6:2001:db8::7]", id="one of IPv6"),
        pytest.param("10.9.8.7", "unknown (EHLO 10.9.8.7)", id="an address without brackets"),
        pytest.param("[::1]", "unknown (EHLO [::1])", id="an address that is no literal"),
        pytest.param("[::ffff:10.9.8.7", "unknown (EHLO [::ffff:10.9.8.7)", id="something like a literal"),
        pytest.param("10.9.8.7.example.com", "10.9.8.7.example.com", id="a name made of the address"),
    ],
)
def test_an_address_in_its_name_is_hidden_with_its_address(ehlo: str, shown: str) -> None:
    assert received(ehlo=ehlo, client="10.9.8.7").startswith(f"Received: from {shown} ([10.9.8.7])\r\n")
    assert received(ehlo=ehlo).startswith("Received: from unknown\r\n")


@given(st.text(max_size=300), st.sampled_from(["", "192.0.2.1"]), st.text(max_size=40))
def test_any_name_gives_one_field_of_five_lines_at_most(ehlo: str, client: str, tls: str) -> None:
    field = received(ehlo=ehlo, client=client, tls=tls, recipients=(BOB,)).encode()
    header = parse_header(field + b"From: a@b.example\r\n")
    assert [each.name for each in header.fields] == [b"received", b"from"]
    lines = field.removesuffix(b"\r\n").split(b"\r\n\t")
    assert len(lines) == 5 and max(map(len, lines)) < 300
    assert re.fullmatch(rb"[\t\r\n -~]+", field)
    comments = re.findall(rb"\(([^()]*)\)", field)
    assert field.count(b"(") == field.count(b")") == len(comments)


def test_received_fields_are_counted() -> None:
    header = parse_header(b"Received: a\r\nX-Received: b\r\nRECEIVED: c\r\nFrom: a@b.example\r\n")
    assert count(header.fields) == 2
