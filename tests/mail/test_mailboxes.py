"""The addresses of a From or Sender field: what has one reading, and what is refused because it might have two."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import AddressError, parse
from relay.mail.mailboxes import MAILBOX_LIMIT, parse_mailboxes


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        pytest.param("a@b.example", ["a@b.example"], id="an address alone"),
        pytest.param("  a@b.example\t", ["a@b.example"], id="white space round it"),
        pytest.param("<a@b.example>", ["a@b.example"], id="only angle brackets"),
        pytest.param("Alice <a@B.example>", ["a@b.example"], id="a display name"),
        pytest.param("Alice<a@b.example>", ["a@b.example"], id="a display name without a space"),
        pytest.param("John Q. Public <a@b.example>", ["a@b.example"], id="a dot in a display name"),
        pytest.param('"Shop, Inc." <a@b.example>', ["a@b.example"], id="a quoted display name"),
        pytest.param(r'"The \"Shop\"" <a@b.example>', ["a@b.example"], id="quotes in a quoted display name"),
        pytest.param('The "Shop" Team <a@b.example>', ["a@b.example"], id="words and quotes mixed"),
        pytest.param("Jörg Müller <a@b.example>", ["a@b.example"], id="a display name in UTF-8"),
        pytest.param("J\udcf6rg <a@b.example>", ["a@b.example"], id="a display name in octets that are not UTF-8"),
        pytest.param("=?utf-8?q?J=C3=B6rg?= <a@b.example>", ["a@b.example"], id="an encoded display name"),
        pytest.param('"c@d.example" <a@b.example>', ["a@b.example"], id="a quoted display name that is an address"),
        pytest.param('"<c@d.example>" <a@b.example>', ["a@b.example"], id="a quoted display name with brackets"),
        pytest.param("=?utf-8?q?c=40d=2Eexample?= <a@b.example>", ["a@b.example"], id="an encoded address as a name"),
        pytest.param("a@b.example (Alice)", ["a@b.example"], id="a comment after an address"),
        pytest.param("(Alice) a@b.example", ["a@b.example"], id="a comment before an address"),
        pytest.param("Alice (Sales) <a@b.example> (x)", ["a@b.example"], id="comments between words"),
        pytest.param("a@b.example (a (nested (deep)) one)", ["a@b.example"], id="a nested comment"),
        pytest.param(r"a@b.example (an \) escaped one)", ["a@b.example"], id="an escaped parenthesis in a comment"),
        pytest.param("< a@b.example (x) >", ["a@b.example"], id="white space within the brackets"),
        pytest.param('"a b"@c.example', ['"a b"@c.example'], id="a quoted local part"),
        pytest.param('X <"a@b"@c.example>', ['"a@b"@c.example'], id="an at sign in a quoted local part"),
        pytest.param("a@[192.0.2.1]", ["a@[192.0.2.1]"], id="an address literal"),
        pytest.param("a@bücher.example", ["a@bücher.example"], id="a U-label"),
        pytest.param("a@b.example, C <c@d.example>", ["a@b.example", "c@d.example"], id="two mailboxes"),
        pytest.param("Team: a@b.example, C <c@d.example>;", ["a@b.example", "c@d.example"], id="a group"),
        pytest.param("Team:a@b.example;, c@d.example", ["a@b.example", "c@d.example"], id="a group and a mailbox"),
        pytest.param("undisclosed-recipients:;", [], id="an empty group"),
        pytest.param("A:; , B:;", [], id="two empty groups"),
        pytest.param('"A B" (c):;', [], id="a group name in quotes"),
        pytest.param("", [], id="nothing"),
        pytest.param(" (only a comment) ", [], id="only a comment"),
    ],
)
def test_the_addresses_of_a_field(value: str, addresses: list[str]) -> None:
    assert parse_mailboxes(value) == tuple(addresses)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("Alice", "not one address", id="only a name"),
        pytest.param("Alice <>", "not one address", id="empty brackets"),
        pytest.param("Alice <alice>", "not one address", id="no domain"),
        pytest.param("c@d.example <a@b.example>", "must be quoted", id="an address as a display name without quotes"),
        pytest.param("<c@d.example> <a@b.example>", "not one address", id="two addresses in brackets"),
        pytest.param("<a@b.example> Alice", "something after", id="a name after the address"),
        pytest.param("a@b.example c@d.example", "not one address", id="two addresses without a comma"),
        pytest.param("Alice <a@b.example", 'does not end with ">"', id="a bracket that does not end"),
        pytest.param("Alice a@b.example>", "not one address", id="a bracket that does not begin"),
        pytest.param("a@b.example; c@d.example", 'a ";" without a group', id="a semicolon for a comma"),
        pytest.param("<@r.example:a@b.example>", "source route", id="a source route"),
        pytest.param("X <@r.example,@s.example:a@b.example>", 'does not end with ">"', id="a source route of two"),
        pytest.param("a@b.example,", "nothing after it", id="a comma at the end"),
        pytest.param(",a@b.example", "empty element", id="a comma at the start"),
        pytest.param("a@b.example,,c@d.example", "empty element", id="two commas"),
        pytest.param("a @b.example", "white space or a comment", id="white space before the at sign"),
        pytest.param("a@ b.example", "white space or a comment", id="white space after the at sign"),
        pytest.param("a(c)@b.example", "white space or a comment", id="a comment before the at sign"),
        pytest.param("a@b .example", "not one address", id="white space in the domain"),
        pytest.param("a@b.example (c@d.example)", "a comment contains", id="an address in a comment"),
        pytest.param("(<c) a@b.example", "a comment contains", id="a bracket in a comment"),
        pytest.param("a@b.example (open", "does not end", id="a comment that does not end"),
        pytest.param("a@b.example )", '")" without', id="a comment that does not begin"),
        pytest.param('"Alice <a@b.example>', "quoted string does not end", id="a quoted string that does not end"),
        pytest.param('"a".b@c.example', "not one address", id="a word and a quoted word as local part"),
        pytest.param('a@"b.example"', "not name@domain", id="a domain in quotes"),
        pytest.param("[192.0.2.1]@b.example", "not name@domain", id="a literal as local part"),
        pytest.param("a@b.example.", "empty label", id="a trailing dot"),
        pytest.param("a..b@c.example", "two in a row", id="two dots"),
        pytest.param("a@[192.0.2.1", "does not end", id="a literal that does not end"),
        pytest.param("Shop [x] <a@b.example>", "must be quoted", id="brackets in a display name"),
        pytest.param(".x <a@b.example>", "begins with a dot", id="a display name that begins with a dot"),
        pytest.param('. "x" <a@b.example>', "begins with a dot", id="a display name whose first word is a dot"),
        pytest.param("Shop: a@b.example", 'does not end with ";"', id="a group that does not end"),
        pytest.param("A: B: a@b.example;;", "within a group", id="a group within a group"),
        pytest.param(": a@b.example;", "no group name", id="a group without a name"),
        pytest.param("A:; a@b.example", "after the", id="no comma after a group"),
        pytest.param("A:;,", "after the", id="a comma and nothing after a group"),
        pytest.param("A: a@b.example,;", "empty element", id="a comma at a group's end"),
        pytest.param("c@d.example: a@b.example;", "must be quoted", id="an address as a group's name"),
        pytest.param("=?utf-8?q?a=40b?=@c.example", "encoded word", id="an encoded word as local part"),
        pytest.param(
            "<=?utf-8?q?c=40d.example=3E?=@b.example>", "encoded word", id="an encoded word that closes the bracket"
        ),
        pytest.param("a\0@b.example", "control character", id="a NUL"),
        pytest.param("a@b.example\r\n", "control character", id="a line end"),
        pytest.param('"a\x01" <a@b.example>', "quoted string", id="a control character in quotes"),
        pytest.param("a\x9b@b.example", "invisible", id="a C1 control in an address"),
        pytest.param("A\\B <a@b.example>", "must be quoted", id="a backslash outside quotes"),
        pytest.param("a@b.example, " * MAILBOX_LIMIT + "a@b.example", "more than", id="too many addresses"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(value: str, reason: str) -> None:
    with pytest.raises(AddressError, match=re.escape(reason)):
        parse_mailboxes(value)


PIECES = [
    "a",
    "b.example",
    "@",
    "<",
    ">",
    ",",
    ":",
    ";",
    "(",
    ")",
    '"',
    "\\",
    " ",
    "\t",
    "[",
    "]",
    "[192.0.2.1]",
    "é",
    "=?",
    "\0",
]
VALUES = st.lists(st.sampled_from([*PIECES, "a@b.example", "X <a@b.example>", '"q"', "(c)"]), max_size=14).map("".join)


@given(VALUES | st.text(max_size=40))
@example("Team:a@b.example;,c@d.example")
def test_any_text_gives_whole_addresses_or_a_refusal(value: str) -> None:
    try:
        addresses = parse_mailboxes(value)
    except AddressError as refused:
        addresses, reason = (), str(refused)
    else:
        reason = ""
    assert len(reason) < 200
    for address in addresses:
        assert parse(address) == address
        assert "=?" not in address
        assert address.rpartition("@")[0] in value


ADDRESSES = st.sampled_from(["a@b.example", '"x y"@c.example', "o@[192.0.2.1]", "j@bücher.example"])
NAMES = st.sampled_from(["", "Alice ", '"A, B" ', "=?utf-8?q?x?= ", "A.B. ", "(c) "])


@given(st.lists(st.tuples(NAMES, ADDRESSES), min_size=1, max_size=5), st.booleans())
def test_what_is_well_formed_is_found_whole_and_in_order(mailboxes: list[tuple[str, str]], grouped: bool) -> None:
    value = ", ".join(f"{name}<{address}>" for name, address in mailboxes)
    assert parse_mailboxes(f"G: {value};" if grouped else value) == tuple(address for _, address in mailboxes)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: " " * n, id="spaces"),
        pytest.param(lambda n: "a " * n, id="words"),
        pytest.param(lambda n: "(" * n, id="opening parentheses"),
        pytest.param(lambda n: "(" * n + ")" * n + "a@b.example", id="comments nested deep"),
        pytest.param(lambda n: "()" * n, id="comments in a row"),
        pytest.param(lambda n: "(" + "\\" * n, id="backslashes in a comment"),
        pytest.param(lambda n: '"' * n, id="quotes"),
        pytest.param(lambda n: '"' + "\\" * n, id="backslashes in quotes"),
        pytest.param(lambda n: '"' + "a" * n, id="a long quoted string that does not end"),
        pytest.param(lambda n: "," * n, id="commas"),
        pytest.param(lambda n: "a@b.example," * n, id="addresses"),
        pytest.param(lambda n: "a:;," * n, id="groups"),
        pytest.param(lambda n: "<" * n, id="brackets"),
        pytest.param(lambda n: "[" * n, id="square brackets"),
        pytest.param(lambda n: "@" * n, id="at signs"),
        pytest.param(lambda n: "a" * n + "@" + "b." * n, id="a long address"),
    ],
)
def test_hostile_length_costs_no_more_than_its_share(make: Callable[[int], str], linear: Callable[..., None]) -> None:
    def attempt(value: str) -> None:
        try:
            parse_mailboxes(value)
        except AddressError:
            return

    linear(make, attempt)
