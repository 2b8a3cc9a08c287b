"""Who may send as whom: the envelope, the header, the key that signs, and what the refusal says."""

from dataclasses import replace

import pytest

from relay.mail.address import Pattern
from relay.mail.message import Header, parse_header
from relay.registry.credentials import Credential
from relay.submission.policy import check_header, check_sender, signing_domain

SHOP = Credential(
    name="shop",
    login="shop-1",
    secrets=(),
    senders=(Pattern.parse("alice@example.com"), Pattern.parse("*@shop.example")),
    created_at=0.0,
)
KEYS = frozenset({"example.com", "shop.example", "xn--bcher-kva.example"})


def header(text: str) -> Header:
    return parse_header(text.replace("\n", "\r\n").encode())


@pytest.mark.parametrize(
    "sender",
    [
        pytest.param("alice@example.com", id="an exact address"),
        pytest.param("anybody@shop.example", id="anybody of a domain"),
    ],
)
def test_an_allowed_envelope_sender(sender: str) -> None:
    assert check_sender(SHOP, sender) is None


@pytest.mark.parametrize(
    ("sender", "text"),
    [
        pytest.param(
            "bob@example.com",
            "550 5.7.1 Sender <bob@example.com> is not allowed for credential shop, which may use: "
            "alice@example.com, *@shop.example",
            id="an address that is not allowed is named, and what is allowed",
        ),
        pytest.param("", "550 5.7.1 Credential shop may not send from <>", id="the null sender is not for everybody"),
    ],
)
def test_a_refused_envelope_sender(sender: str, text: str) -> None:
    assert str(check_sender(SHOP, sender)) == text


def test_the_null_sender_where_it_is_allowed() -> None:
    assert check_sender(replace(SHOP, null_sender=True), "") is None


def test_a_long_list_of_allowed_senders_is_cut() -> None:
    many = replace(SHOP, senders=tuple(Pattern.parse(f"*@{number}.example") for number in range(25)))
    reply = check_sender(many, "a@b.example")
    assert reply is not None
    assert reply.text.endswith("*@8.example, *@9.example and 15 more")


def test_a_credential_without_senders_may_use_none() -> None:
    assert str(check_sender(replace(SHOP, senders=()), "a@b.example")).endswith("may use: no address")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("From: alice@example.com\n", id="From alone"),
        pytest.param("From: a@shop.example\nSender: alice@example.com\n", id="From and Sender, both allowed"),
        pytest.param(
            "From: a@shop.example, b@shop.example\nSender: c@shop.example\n", id="several authors, all allowed"
        ),
        pytest.param("From: a@shop.example\nReply-To: ceo@bank.example\n", id="Reply-To claims no author"),
        pytest.param("From: a@shop.example\nResent-From: alice@example.com\n", id="an allowed Resent-From"),
    ],
)
def test_an_allowed_header(text: str) -> None:
    assert check_header(SHOP, header(text), KEYS.__contains__) is None


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        pytest.param("From: bob@example.com\n", "From <bob@example.com> is not", id="From"),
        pytest.param(
            "From: a@shop.example, b@c.example\nSender: a@shop.example\n", "From <b@c.example>", id="one of two authors"
        ),
        pytest.param("From: a@shop.example\nSender: b@c.example\n", "Sender field <b@c.example>", id="Sender"),
        pytest.param(
            "From: a@shop.example\nResent-From: b@c.example\n", "Resent field <b@c.example>", id="Resent-From"
        ),
        pytest.param(
            "From: a@shop.example\nResent-From: a@shop.example\nResent-Sender: b@c.example\n",
            "Resent field <b@c.example>",
            id="Resent-Sender",
        ),
    ],
)
def test_a_refused_header_names_the_address_and_where_it_stands(text: str, begins: str) -> None:
    reply = check_header(SHOP, header(text), KEYS.__contains__)
    assert reply is not None
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.text.startswith(begins)
    assert reply.text.endswith("which may use: alice@example.com, *@shop.example")


def test_a_from_domain_without_a_key_is_refused_with_what_to_do() -> None:
    keyless = replace(SHOP, senders=(Pattern.parse("*@bücher.example"),))
    author = header("From: a@bücher.example\n")
    assert str(check_header(keyless, author, lambda domain: False)) == (
        "550 5.7.1 No DKIM key for the From domain xn--bcher-kva.example; "
        "its owner runs: relay domain add xn--bcher-kva.example"
    )
    assert check_header(replace(keyless, allow_unsigned=True), author, lambda domain: False) is None
    assert check_header(keyless, author, KEYS.__contains__) is None


def test_every_from_domain_needs_a_key() -> None:
    both = replace(SHOP, senders=(*SHOP.senders, Pattern.parse("*@other.example")))
    reply = check_header(
        both, header("From: a@shop.example, b@other.example\nSender: a@shop.example\n"), KEYS.__contains__
    )
    assert reply is not None
    assert "relay domain add other.example" in reply.text


@pytest.mark.parametrize(
    ("from_domain", "keys", "signs"),
    [
        pytest.param("example.com", {"example.com"}, "example.com", id="its own key"),
        pytest.param("a.b.example.com", {"example.com"}, "example.com", id="a parent's key"),
        pytest.param("a.b.example.com", {"example.com", "b.example.com"}, "b.example.com", id="the nearest parent's"),
        pytest.param("example.com", {"sub.example.com"}, None, id="a subdomain's key is not its parent's"),
        pytest.param("notexample.com", {"example.com"}, None, id="a domain that only ends alike"),
        pytest.param(
            "sub.bücher.example", {"xn--bcher-kva.example"}, "xn--bcher-kva.example", id="A-labels are compared"
        ),
        pytest.param("[192.0.2.1]", {"2.1]", "[192.0.2.1]"}, None, id="an address literal has no key"),
    ],
)
def test_the_domain_that_signs(from_domain: str, keys: set[str], signs: str | None) -> None:
    assert signing_domain(from_domain, keys.__contains__) == signs
