"""From-spoofing: each way to make a receiver see another author than the one that was allowed, and what becomes of it.

The credential may use alice@example.com, *@shop.example and *@*.bücher.example; ceo@bank.example is who it must never
be. An outcome is "allowed", "ambiguous" (550 5.6.0, refused for its form) or "forged" (550 5.7.1, for whom it names).
"""

import email
import email.policy
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import Pattern
from relay.mail.esmtp import SyntaxRefused, parse_mail
from relay.mail.message import HeaderRefused, parse_header
from relay.mail.reply import Reply
from relay.registry.credentials import Credential
from relay.submission.policy import check_header, check_sender

SHOP = Credential(
    name="shop",
    login="shop-1",
    secrets=(),
    senders=tuple(map(Pattern.parse, ("alice@example.com", "*@shop.example", "*@*.bücher.example"))),
    created_at=0.0,
)
KEYS = frozenset({"example.com", "shop.example", "xn--bcher-kva.example"})
OUTCOMES = {"": "allowed", "5.6.0": "ambiguous", "5.7.1": "forged", "5.1.7": "ambiguous", "5.6.7": "ambiguous"}


def judge(header: bytes) -> Reply | None:
    try:
        return check_header(SHOP, parse_header(header), KEYS.__contains__)
    except HeaderRefused as refused:
        return refused.reply


def judge_envelope(argument: bytes) -> Reply | None:
    try:
        return check_sender(SHOP, parse_mail(argument).sender)
    except SyntaxRefused as refused:
        return refused.reply


def outcome(reply: Reply | None) -> str:
    assert reply is None or reply.is_permanent
    return OUTCOMES["" if reply is None else reply.status]


@pytest.mark.parametrize(
    ("header", "expected", "reason"),
    [
        # More than one author
        pytest.param(
            b"From: alice@example.com\r\nFrom: ceo@bank.example\r\n", "ambiguous",
            "some readers take the first field, some the last", id="two From fields",
        ),
        pytest.param(
            b"From: alice@example.com\r\nFrom: alice@example.com\r\n", "ambiguous",
            "RFC 5322 3.6: at most once, also when they agree", id="the same From field twice",
        ),
        pytest.param(
            b"From: alice@example.com\r\nSubject: x\r\nfROM: ceo@bank.example\r\n", "ambiguous",
            "field names are compared without case", id="a second From in odd case",
        ),
        pytest.param(
            b"From: alice@example.com, ceo@bank.example\r\n", "ambiguous",
            "RFC 5322 3.6.2: several authors need a Sender", id="two mailboxes without Sender",
        ),
        pytest.param(
            b"From: alice@example.com, ceo@bank.example\r\nSender: alice@example.com\r\n", "forged",
            "every author must be allowed, not only the Sender", id="two mailboxes with an allowed Sender",
        ),
        pytest.param(
            b"From: alice@example.com, bob@shop.example\r\nSender: alice@example.com\r\n", "allowed",
            "all of them are allowed", id="two allowed mailboxes with an allowed Sender",
        ),
        pytest.param(
            b"From: Board: alice@example.com, ceo@bank.example;\r\nSender: alice@example.com\r\n", "forged",
            "a group is no cover for its members", id="a group with a foreign member",
        ),
        pytest.param(
            b"From: Board: alice@example.com;\r\n", "allowed", "the group's one member is allowed",
            id="a group of one",
        ),
        pytest.param(
            b"From: ceo@bank.example:;, alice@example.com\r\n", "ambiguous",
            "an address must not be a group's name", id="an empty group that is named as an address",
        ),
        pytest.param(
            b"From: undisclosed:;\r\n", "ambiguous", "a message has an author", id="an empty group alone",
        ),
        pytest.param(
            b"From: alice@example.com; ceo@bank.example\r\n", "ambiguous",
            "a semicolon separates nothing (RFC 5322), for some readers all the same",
            id="two mailboxes with a semicolon",
        ),
        pytest.param(
            b"From: <ceo@bank.example> <alice@example.com>\r\n", "ambiguous",
            "some readers take the first brackets, some the last", id="two pairs of brackets",
        ),
        pytest.param(
            b"From: alice@example.com ceo@bank.example\r\n", "ambiguous", "no comma between",
            id="two addresses in a row",
        ),
        pytest.param(
            b"From: ,ceo@bank.example\r\n", "ambiguous", "an empty element", id="an empty mailbox before another",
        ),
        # No author, or none that can be read
        pytest.param(b"To: x@y.example\r\n", "ambiguous", "RFC 5322 3.6: there must be one", id="no From"),
        pytest.param(b"From:\r\n", "ambiguous", "a message has an author", id="an empty From"),
        pytest.param(
            b"From: <>\r\nSender: alice@example.com\r\n", "ambiguous", "nobody is no author",
            id="empty brackets",
        ),
        pytest.param(
            b"From: alice\r\n", "ambiguous", "a server would complete it, we do not know how",
            id="no domain",
        ),
        pytest.param(
            b"From: \r\n alice@example.com\r\n", "allowed", "folding is not part of a value", id="a folded From",
        ),
        pytest.param(
            b"From: alice@exam\r\n ple.com\r\n", "ambiguous", "unfolded, a space stands in it",
            id="a fold within the domain",
        ),
        pytest.param(
            b"From: alice@example.com\r\n \r\n ,ceo@bank.example\r\n", "ambiguous",
            "the second author stands behind a fold of spaces", id="a second mailbox behind an empty-looking fold",
        ),
        # Display names
        pytest.param(
            b'From: "ceo@bank.example" <alice@example.com>\r\n', "allowed",
            "a quoted name is no address, and names are nobody's property", id="a display name that is an address",
        ),
        pytest.param(
            b"From: ceo@bank.example <alice@example.com>\r\n", "ambiguous",
            "without quotes some readers take it for the address", id="a display name that is an address, unquoted",
        ),
        pytest.param(
            b"From: =?utf-8?q?ceo=40bank=2Eexample?= <alice@example.com>\r\n", "allowed",
            "encoded, it is a display name only (RFC 2047 5)", id="an encoded display name that is an address",
        ),
        pytest.param(
            b"From: =?utf-8?q?=3Cceo=40bank=2Eexample=3E?= <alice@example.com>\r\n", "allowed",
            "what is decoded is never parsed again", id="an encoded display name with brackets",
        ),
        pytest.param(
            b'From: "Alice \\" <ceo@bank.example> \\"" <alice@example.com>\r\n', "allowed",
            "the quotes within are escaped and the name ends where it ends", id="escaped quotes round an address",
        ),
        pytest.param(
            b'From: "Alice" <ceo@bank.example> "" <alice@example.com>\r\n', "ambiguous",
            "two addresses for who does not count quotes", id="a name that ends too early",
        ),
        # Comments
        pytest.param(
            b"From: alice@example.com (Alice (Sales (North)))\r\n", "allowed", "comments nest (RFC 5322 3.2.2)",
            id="nested comments",
        ),
        pytest.param(
            b"From: (ceo@bank.example) alice@example.com\r\n", "ambiguous",
            "readers that know no comments see an address", id="an address in a comment",
        ),
        pytest.param(
            b"From: alice@example.com (<ceo@bank.example>)\r\n", "ambiguous",
            "the last brackets, for readers that know no comments", id="brackets in a comment",
        ),
        pytest.param(
            b"From: ceo@bank.example(, alice@example.com)\r\n", "ambiguous",
            "one author or two, by whether comments are known", id="a comment that hides an allowed mailbox",
        ),
        pytest.param(
            b"From: alice@example.com(\r\n", "ambiguous", "where it ends is a guess",
            id="a comment that does not end",
        ),
        pytest.param(
            b"From: alice(x)@example.com\r\n", "ambiguous", "RFC 5322 3.4.1: SHOULD NOT",
            id="a comment beside the at sign",
        ),
        # Quoted local parts, routes, encoded words in addresses
        pytest.param(
            b'From: "alice"@example.com\r\n', "forged",
            "an address is compared as written; the quotes make it another", id="an allowed local part in quotes",
        ),
        pytest.param(
            b'From: "ceo@bank.example"@shop.example\r\n', "allowed",
            "a mailbox at shop.example, whatever it is called", id="a quoted local part that is an address",
        ),
        pytest.param(
            b'From: "ceo@bank.example> "@shop.example\r\n', "allowed",
            "brackets in quotes end nothing", id="a quoted local part with a bracket",
        ),
        pytest.param(
            b"From: <@shop.example:ceo@bank.example>\r\n", "ambiguous",
            "RFC 5322 4.4: obsolete, and readers differ on which part counts",
            id="a source route through an allowed domain",
        ),
        pytest.param(
            b"From: <@bank.example,@shop.example:alice@example.com>\r\n", "ambiguous",
            "the same with an allowed address at its end", id="a source route to an allowed address",
        ),
        pytest.param(
            b"From: ceo%bank.example@shop.example\r\n", "allowed",
            "RFC 5321 2.3.11: only the host named reads a local part", id="the percent hack",
        ),
        pytest.param(
            b"From: bank.example!ceo@shop.example\r\n", "allowed", "a bang path is a local part", id="a bang path",
        ),
        pytest.param(
            b"From: ceo@bank.example@shop.example\r\n", "ambiguous", "two at signs",
            id="an address before an address",
        ),
        pytest.param(
            b"From: =?utf-8?q?ceo=40bank.example=3E?=@shop.example\r\n", "ambiguous",
            "RFC 2047 5: not in an address; some receivers decode it", id="an encoded word as local part",
        ),
        pytest.param(
            b"From: =?utf-8?b?Y2VvQGJhbmsuZXhhbXBsZQ==?=\r\n", "ambiguous",
            "there is no address, but some receivers decode one", id="a From that is one encoded word",
        ),
        # Domains
        pytest.param(
            b"From: alice@EXAMPLE.com\r\n", "allowed", "domains have no case",
            id="the domain in upper case",
        ),
        pytest.param(
            b"From: ALICE@example.com\r\n", "forged", "local parts have one",
            id="the local part in upper case",
        ),
        pytest.param(
            b"From: alice@example.com.\r\n", "ambiguous", "RFC 5321 4.1.2 knows no trailing dot", id="a trailing dot",
        ),
        pytest.param(b"From: alice@sub.example.com\r\n", "forged", "an exact address was allowed", id="a subdomain"),
        pytest.param(
            b"From: a@sub.shop.example\r\n", "forged", "*@shop.example is one domain",
            id="a subdomain of one domain",
        ),
        pytest.param(
            b"From: a@evilshop.example\r\n", "forged", "another domain",
            id="a domain that ends like an allowed one",
        ),
        pytest.param(
            b"From: a@shop.example.evil.example\r\n", "forged", "another domain", id="a domain that begins like one",
        ),
        pytest.param(
            "From: a@mail.bücher.example\r\n".encode(), "allowed", "the pattern has the same A-labels",
            id="a U-label",
        ),
        pytest.param(
            b"From: a@mail.xn--bcher-kva.example\r\n", "allowed", "the same domain in A-labels", id="an A-label",
        ),
        pytest.param(b"From: a@mail.bucher.example\r\n", "forged", "u is not \u00fc", id="a letter without its dots"),
        pytest.param(
            "From: a@shор.example\r\n".encode(), "forged", "Cyrillic letters: another A-label",
            id="a mixed-script domain",
        ),
        pytest.param(
            "From: a@ｓhop.example\r\n".encode(), "ambiguous", "IDNA 2008 has no full-width letters",
            id="a full-width letter",
        ),
        pytest.param(
            "From: a@shop。example\r\n".encode(), "ambiguous", "no other dot than the dot",
            id="an ideographic full stop",
        ),
        pytest.param(
            "From: a@shop\u200b.example\r\n".encode(), "ambiguous", "invisible characters", id="a zero-width space",
        ),
        pytest.param(
            "From: alice\u202e@example.com\r\n".encode(), "ambiguous", "what turns the text round",
            id="a mark of direction",
        ),
        pytest.param(
            "From: аlice@example.com\r\n".encode(), "forged", "a Cyrillic a is another letter",
            id="a look-alike local part",
        ),
        pytest.param(b"From: alice@[192.0.2.1]\r\n", "forged", "a literal is no domain", id="an address literal"),
        pytest.param(
            b"From: alice@192.0.2.1\r\n", "ambiguous", "an address without brackets",
            id="a bare IP address",
        ),
        pytest.param(
            b"From: a@" + b"x." * 200 + b"shop.example\r\n", "ambiguous",
            "readers cut long domains at different places", id="a domain longer than DNS has",
        ),
        pytest.param(
            b'From: "' + b"x" * 5000 + b'" <ceo@bank.example>\r\n', "forged",
            "the address is found behind any name", id="a very long display name before it",
        ),
        # Octets
        pytest.param(b"From: alice@example.com\0ceo@bank.example\r\n", "ambiguous", "C stops at NUL", id="a NUL"),
        pytest.param(
            b"From: alice@example.com\rFrom: ceo@bank.example\r\n", "ambiguous", "a line end for some",
            id="a bare CR",
        ),
        pytest.param(
            b"From: alice@example.com\nFrom: ceo@bank.example\r\n", "ambiguous", "a line end for some",
            id="a bare LF",
        ),
        pytest.param(
            b"From:\talice@example.com\t\r\n", "allowed", "a tab is white space",
            id="tabs round the address",
        ),
        pytest.param(
            b"From: alice\t@example.com\r\n", "ambiguous", "white space beside the at sign",
            id="a tab within it",
        ),
        pytest.param(
            b"From: \xff <alice@example.com>\r\n", "allowed", "only the name is odd",
            id="a name that is not UTF-8",
        ),
        pytest.param(
            b"From: \xff@shop.example\r\n", "ambiguous", "no text at all",
            id="a local part that is not UTF-8",
        ),
        pytest.param(b"From: alice@example.com\x08\x08\r\n", "ambiguous", "a control character", id="backspaces"),
        # Other fields that look like From
        pytest.param(
            b"From : ceo@bank.example\r\nFrom: alice@example.com\r\n", "ambiguous",
            "a From for readers that allow the space", id="a space before the colon",
        ),
        pytest.param(
            b" From: ceo@bank.example\r\nFrom: alice@example.com\r\n", "ambiguous",
            "a fold of nothing, a field for some", id="a fold before the first field",
        ),
        pytest.param(
            b"From ceo@bank.example Fri Nov 20 16:32:33 2026\r\nFrom: alice@example.com\r\n", "ambiguous",
            "an mbox line is no field", id="an mbox line before the header",
        ),
        pytest.param(
            "Ｆrom: ceo@bank.example\r\nFrom: alice@example.com\r\n".encode(), "ambiguous",
            "names of fields are ASCII", id="a field that looks like From",
        ),
        pytest.param(
            b"From: alice@example.com\r\nSender: ceo@bank.example\r\n", "forged",
            "some receivers show Sender (on behalf of)", id="a Sender that disagrees",
        ),
        pytest.param(
            b"From: ceo@bank.example\r\nSender: alice@example.com\r\n", "forged",
            "Sender does not excuse From", id="a foreign author sent by an allowed Sender",
        ),
        pytest.param(
            b"From: alice@example.com\r\nSender: alice@example.com\r\nSENDER: ceo@bank.example\r\n", "ambiguous",
            "RFC 5322 3.6: at most once", id="two Sender fields",
        ),
        pytest.param(
            b"From: alice@example.com\r\nSender: alice@example.com, ceo@bank.example\r\n", "ambiguous",
            "RFC 5322 3.6.2: one mailbox", id="two mailboxes in Sender",
        ),
        pytest.param(
            b"From: alice@example.com\r\nResent-From: ceo@bank.example\r\n", "forged",
            "some receivers show who resent", id="a foreign Resent-From",
        ),
        pytest.param(
            b"Resent-From: alice@example.com\r\nFrom: ceo@bank.example\r\n", "forged",
            "resending does not make the author ours", id="a foreign author resent by an allowed one",
        ),
        pytest.param(
            b"From: alice@example.com\r\nResent-Sender: alice@example.com\r\nresent-sender: ceo@bank.example\r\n",
            "forged",
            "resent fields may repeat, each counts", id="a second Resent-Sender",
        ),
        pytest.param(
            b"From: alice@example.com\r\nReply-To: ceo@bank.example\r\n", "allowed",
            "where replies go is the author's choice", id="a foreign Reply-To",
        ),
        pytest.param(
            b"From: alice@example.com\r\nX-From: ceo@bank.example\r\nApparently-From: ceo@bank.example\r\n",
            "allowed",
            "no receiver shows them", id="fields of other names",
        ),
    ],
)  # fmt: skip
def test_a_header(header: bytes, expected: str, reason: str) -> None:
    assert outcome(judge(header)) == expected, reason


@pytest.mark.parametrize(
    ("argument", "expected", "reason"),
    [
        pytest.param(b"<alice@example.com>", "allowed", "exact", id="an allowed sender"),
        pytest.param(
            b"<alice@Example.COM>", "allowed", "domains have no case", id="an allowed sender, domain in upper case"
        ),
        pytest.param(b"<Alice@example.com>", "forged", "local parts have one", id="its local part in another case"),
        pytest.param(b"<ceo@bank.example>", "forged", "not allowed", id="a foreign sender"),
        pytest.param(b"<>", "forged", "only where the credential may", id="the null sender"),
        pytest.param(b"<@shop.example:ceo@bank.example>", "ambiguous", "a source route", id="a source route"),
        pytest.param(b"<ceo%bank.example@shop.example>", "allowed", "a local part like any", id="the percent hack"),
        pytest.param(b"<alice@example.com> <ceo@bank.example>", "ambiguous", "no parameter", id="two paths"),
        pytest.param(b"<alice@example.com\0>", "ambiguous", "a control character", id="a NUL"),
        pytest.param(b'<"alice"@example.com>', "forged", "compared as written", id="an allowed local part in quotes"),
        pytest.param(b"Alice <alice@example.com>", "ambiguous", "a path has no name", id="a display name"),
        pytest.param(b"<alice@example.com.>", "ambiguous", "no trailing dot", id="a trailing dot"),
        pytest.param(b"<alice@[192.0.2.1]>", "forged", "a literal is no domain", id="an address literal"),
        pytest.param("<a@x.bücher.example>".encode(), "ambiguous", "no SMTPUTF8", id="a U-label without SMTPUTF8"),
        pytest.param(
            "<a@x.bücher.example> SMTPUTF8".encode(),
            "allowed",
            "the same A-labels",
            id="a U-label with it",
        ),
        pytest.param(b"<a@x.xn--bcher-kva.example>", "allowed", "the same A-labels", id="an A-label"),
        pytest.param("<a@shор.example> SMTPUTF8".encode(), "forged", "another A-label", id="a mixed-script domain"),
        pytest.param(
            b"<ceo@bank.example> AUTH=alice@example.com", "forged", "AUTH= says nothing", id="AUTH= of an allowed one"
        ),
    ],
)
def test_an_envelope_sender(argument: bytes, expected: str, reason: str) -> None:
    reply = judge_envelope(argument)
    if reply is not None and reply.status == "5.5.4":
        assert expected == "ambiguous", reason
        return
    assert outcome(reply) == expected, reason


# No lone dot: Python 3.11's newer parser raises AttributeError for one after an encoded word.
PIECES = st.sampled_from([
    *("alice@example.com", "ceo@bank.example", "<alice@example.com>", "<ceo@bank.example>", "x@shop.example", "Alice"),
    *('"', "(", ")", "<", ">", ",", ":", ";", "@", "\\", "\r\n ", "\t", " ", '"ceo@bank.example"'),
    *("=?utf-8?q?a?=", "G:", "[", "]"),
])  # fmt: skip


@given(st.lists(PIECES, min_size=1, max_size=9).map("".join))
@example('"ceo@bank.example" <alice@example.com>')
@example("G: alice@example.com;")
def test_no_other_parser_finds_another_author_in_what_is_allowed(value: str) -> None:
    header = b"From: " + value.encode() + b"\r\nSender: alice@example.com\r\n"
    if judge(header) is not None:
        return
    unfolded = value.replace("\r\n", "")
    old = {address for _, address in getaddresses([unfolded]) if address}
    parsed = email.message_from_bytes(header + b"\r\n", policy=email.policy.default)["From"]
    new = {address.addr_spec for address in parsed.addresses}
    assert old | new <= {"alice@example.com", "x@shop.example"} | {
        address for address in old | new if address.endswith("@shop.example")
    }
