"""One mailbox: what is one, what it is equal to, which pattern allows it."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import (
    AddressError,
    Pattern,
    ascii_domain,
    domain_of,
    is_literal,
    local_of,
    parse,
    parse_domain,
    parse_path,
)

LABEL_63 = "a" * 63


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        pytest.param("alice@example.com", "alice@example.com", id="the usual form"),
        pytest.param(
            "Alice.B@EXAMPLE.Com", "Alice.B@example.com", id="the domain is lower-cased and the local part kept"
        ),
        pytest.param("a+tag=x/y!{z}@example.com", "a+tag=x/y!{z}@example.com", id="every atext character may stand"),
        pytest.param(
            "user%other.example@example.com", "user%other.example@example.com", id="a percent sign routes nothing"
        ),
        pytest.param("host!user@example.com", "host!user@example.com", id="an exclamation mark routes nothing"),
        pytest.param("root@localhost", "root@localhost", id="a domain of one label"),
        pytest.param("a@1.2.3.4x", "a@1.2.3.4x", id="a last label that is not only digits"),
        pytest.param("a@xn--bcher-kva.example", "a@xn--bcher-kva.example", id="A-labels are plain labels"),
        pytest.param("a@Bücher.Example", "a@bücher.example", id="U-labels stay U-labels in lower case"),
        pytest.param("jürgen@example.com", "jürgen@example.com", id="a UTF-8 local part"),
        pytest.param('"a b"@example.com', '"a b"@example.com', id="a space in quotes"),
        pytest.param('"a@b"@example.com', '"a@b"@example.com', id="an at sign in quotes"),
        pytest.param('"a<>b"@example.com', '"a<>b"@example.com', id="angle brackets in quotes"),
        pytest.param(r'"a\"\\b"@example.com', r'"a\"\\b"@example.com', id="escapes in quotes stay as they are"),
        pytest.param('""@example.com', '""@example.com', id="an empty quoted local part"),
        pytest.param('"alice"@example.com', '"alice"@example.com', id="needless quotes are kept"),
        pytest.param("a@[192.0.2.1]", "a@[192.0.2.1]", id="an IPv4 literal"),
        pytest.param("a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]", id="an IPv6 literal"),
        pytest.param("x" * 100 + "@example.com", "x" * 100 + "@example.com", id="a local part over 64 octets"),
        pytest.param(f"a@{LABEL_63}.example", f"a@{LABEL_63}.example", id="a label of 63 octets"),
    ],
)
def test_an_address_is_taken_as_it_is(text: str, canonical: str) -> None:
    assert parse(text) == canonical
    assert parse_path(f"<{text}>".encode()) == (canonical, b"")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("alice", "no domain", id="no domain"),
        pytest.param("postmaster", "no domain", id="postmaster without a domain"),
        pytest.param("@example.com", "nothing before", id="no local part"),
        pytest.param("alice@", "the domain is empty", id="an empty domain"),
        pytest.param("alice@example.com.", "empty label", id="a trailing dot"),
        pytest.param("alice@.example.com", "empty label", id="a leading dot in the domain"),
        pytest.param("alice@example..com", "empty label", id="two dots in the domain"),
        pytest.param(".alice@example.com", "dot at its start", id="a leading dot in the local part"),
        pytest.param("alice.@example.com", "dot at its start or end", id="a trailing dot in the local part"),
        pytest.param("a..b@example.com", "two in a row", id="two dots in the local part"),
        pytest.param("a b@example.com", "must be quoted", id="a space without quotes"),
        pytest.param("a@b@example.com", "must be quoted", id="two at signs"),
        pytest.param("a(comment)@example.com", "must be quoted", id="a comment in the local part"),
        pytest.param("a@example.com(comment)", "letters, digits", id="a comment in the domain"),
        pytest.param("a,b@example.com", "must be quoted", id="a comma"),
        pytest.param('"a"b@example.com', "not well formed", id="something after the quoted string"),
        pytest.param('a"b"@example.com', "must be quoted", id="quotes in the middle"),
        pytest.param('"a@example.com', "not well formed", id="quotes that do not end"),
        pytest.param('"a"b"@example.com', "not well formed", id="a quote within quotes"),
        pytest.param('"a\\"@example.com', "not well formed", id="an escaped closing quote"),
        pytest.param("@a.example,@b.example:c@d.example", "source route", id="a source route"),
        pytest.param("a@-example.com", "inner hyphens", id="a label that begins with a hyphen"),
        pytest.param("a@example-.com", "inner hyphens", id="a label that ends with a hyphen"),
        pytest.param("a@my_host.example", "letters, digits", id="an underscore in the domain"),
        pytest.param("a@exa mple.com", "letters, digits", id="a space in the domain"),
        pytest.param("a@192.0.2.1", "ends in a number", id="an IP address without brackets"),
        pytest.param("a@example.123", "ends in a number", id="a top-level domain that is a number"),
        pytest.param("a@[192.0.2.256]", "literal", id="an IPv4 literal out of range"),
        pytest.param("a@[192.0.2.01]", "literal", id="an IPv4 literal with a leading zero"),
        pytest.param("a@[192.0.2.1", "literal", id="a literal that does not end"),
        pytest.param("a@[2001:db8::1]", "literal", id="an IPv6 literal without its tag"),
        pytest.param("a@[IPv6:fe80::1%eth0]", "literal", id="an IPv6 literal with a zone"),
        pytest.param("a@[x400:c=de]", "literal", id="a literal of another kind"),
        pytest.param("a@[]", "literal", id="an empty literal"),
        pytest.param(f"a@{LABEL_63}a.example", "longer than 63", id="a label of 64 octets"),
        pytest.param("a@" + "a." * 126 + "a", "longer than 254", id="an address of 255 octets"),
        pytest.param("a@" + "ü." * 45 + "de", "the domain is longer", id="a domain too long only as A-labels"),
        pytest.param("ü" * 122 + "@example.com", "longer than 254", id="octets count, not characters"),
        pytest.param("a\0@example.com", "control", id="a NUL"),
        pytest.param("a\r\nRCPT TO:<b@c>@example.com", "control", id="a line end"),
        pytest.param('"a\tb"@example.com', "control", id="a tab in quotes"),
        pytest.param("a\x7f@example.com", "control", id="DEL"),
        pytest.param("a\u202eb@example.com", "invisible", id="a mark that turns the direction"),
        pytest.param("a\u200b@example.com", "invisible", id="a zero-width space"),
        pytest.param("a\xa0b@example.com", "invisible", id="a no-break space"),
        pytest.param("a\udc80@example.com", "invisible", id="an octet that is not UTF-8"),
        pytest.param("a@example\u3002com", "IDNA 2008", id="an ideographic full stop"),
        pytest.param("a@ｅxample.com", "IDNA 2008", id="a full-width letter"),
        pytest.param("a@☃.example", "IDNA 2008", id="a symbol in a U-label"),
        pytest.param("a@e\u0301xample.com", "normalization", id="a letter with a combining accent"),
        pytest.param("a@\u212aexample.com", "normalization", id="a KELVIN SIGN is no k"),
        pytest.param("", "empty", id="nothing"),
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=re.escape(reason)):
        parse(text)


@pytest.mark.parametrize(
    ("argument", "address", "rest"),
    [
        pytest.param(b"<a@b.example>", "a@b.example", b"", id="a path alone"),
        pytest.param(b" <a@b.example>", "a@b.example", b"", id="a space before it"),
        pytest.param(b"<a@b.example> ", "a@b.example", b"", id="a space after it"),
        pytest.param(b"<a@b.example>  SIZE=1 BODY=7BIT ", "a@b.example", b"SIZE=1 BODY=7BIT", id="parameters"),
        pytest.param(b"<>", "", b"", id="the null reverse-path"),
        pytest.param(b" <> SIZE=1", "", b"SIZE=1", id="the null reverse-path with a parameter"),
        pytest.param(
            b'<">"@b.example> X=1', '">"@b.example', b"X=1", id="a quoted angle bracket does not end the path"
        ),
        pytest.param(rb'<"\">"@b.example>', r'"\">"@b.example', b"", id="nor does one after an escaped quote"),
        pytest.param("<jürgen@b.example> SMTPUTF8".encode(), "jürgen@b.example", b"SMTPUTF8", id="UTF-8"),
        pytest.param(b"<" + b"x" * 70 + b"@B.example> A", "x" * 70 + "@b.example", b"A", id="a long local part"),
    ],
)
def test_a_path_and_what_follows(argument: bytes, address: str, rest: bytes) -> None:
    assert parse_path(argument) == (address, rest)


@pytest.mark.parametrize(
    "argument",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"a@b.example", id="no angle brackets"),
        pytest.param(b"<a@b.example", id="no closing bracket"),
        pytest.param(b"a@b.example>", id="no opening bracket"),
        pytest.param(b"<<a@b.example>>", id="two pairs of brackets"),
        pytest.param(b"< a@b.example>", id="a space within the brackets"),
        pytest.param(b"< >", id="only a space within the brackets"),
        pytest.param(b"<a@b.example>SIZE=1", id="no space before the parameters"),
        pytest.param(b"<a@b.example>\tSIZE=1", id="a tab before the parameters"),
        pytest.param(b"\t<a@b.example>", id="a tab before the path"),
        pytest.param(b"Alice <a@b.example>", id="a display name"),
        pytest.param(b"<@r.example:a@b.example>", id="a source route"),
        pytest.param(b"<\xff@b.example>", id="octets that are not UTF-8"),
        pytest.param(b'<"a@b.example>', id="quotes that do not end"),
        pytest.param(
            b"<a@b.example> \r\nX", id="a line end in the address or before it is refused by whoever parses on"
        ),
    ],
)
def test_what_is_no_path_is_refused(argument: bytes) -> None:
    if b"\r" in argument:
        assert parse_path(argument)[1] == b"\r\nX"  # handed on, and refused as a parameter
        return
    with pytest.raises(AddressError):
        parse_path(argument)


@given(st.binary(max_size=60) | st.from_regex(rb" ?<[ -~]{0,20}@[ -~]{0,20}>[ -~]{0,10}", fullmatch=True))
@example(b'<"a b"@c>')
def test_an_accepted_path_is_in_the_argument_to_the_letter(argument: bytes) -> None:
    try:
        address, _ = parse_path(argument)
    except AddressError:
        return
    assert f"<{address}>".encode().lower() in argument.decode().lower().encode()
    if address:
        assert parse(address) == address
        assert local_of(address).encode() in argument


ADDRESS_TEXT = st.text(max_size=40) | st.from_regex(r'["a-z.\\ <>@é]{1,12}@[a-zA-Z0-9.éÉ\[\]:-]{1,16}', fullmatch=True)


@given(ADDRESS_TEXT)
@example('"a b"@example.com')
def test_an_accepted_address_round_trips_and_holds_nothing_that_breaks_a_command(text: str) -> None:
    try:
        address = parse(text)
    except AddressError:
        return
    assert parse(address) == address
    assert address.isprintable()
    local = local_of(address)
    assert "@" in address and " " not in domain_of(address) and not set("<>") & set(domain_of(address))
    assert local == local_of(text)
    assert local.startswith('"') or not set(' <>()",:;\\') & set(local)
    assert (local_of(address), domain_of(address)) == (local_of(text), domain_of(text).lower())
    assert parse_path(f"<{address}>".encode()) == (address, b"")


@given(ADDRESS_TEXT.filter(lambda text: "@" in text))
def test_a_domain_that_is_taken_has_a_name_for_dns(text: str) -> None:
    try:
        domain = domain_of(parse(text))
    except AddressError:
        return
    name = ascii_domain(domain)
    assert name.isascii() and name == name.lower() and len(name) <= 253
    assert ascii_domain(name) == name == ascii_domain(name.upper())


def test_parts_of_an_address() -> None:
    address = '"a@b"@example.com'
    assert local_of(address) == '"a@b"'
    assert domain_of(address) == "example.com"
    assert is_literal("[192.0.2.1]") and not is_literal("example.com")
    assert parse_domain("Bücher.EXAMPLE") == "bücher.example"


@pytest.mark.parametrize(
    ("pattern", "address", "allowed"),
    [
        pytest.param("alice@example.com", "alice@example.com", True, id="an exact address"),
        pytest.param("alice@Example.com", "alice@example.com", True, id="its domain in any case"),
        pytest.param("alice@example.com", "Alice@example.com", False, id="its local part only as written"),
        pytest.param("alice@example.com", '"alice"@example.com', False, id="not the same in quotes"),
        pytest.param("alice@example.com", "alice@sub.example.com", False, id="not in a subdomain"),
        pytest.param("*@example.com", "anybody@example.com", True, id="anybody of a domain"),
        pytest.param("*@example.com", '"x y"@example.com', True, id="anybody, also in quotes"),
        pytest.param("*@example.com", "a@sub.example.com", False, id="a domain is not its subdomains"),
        pytest.param("*@example.com", "a@notexample.com", False, id="a domain that only ends alike"),
        pytest.param("*@*.example.com", "a@sub.example.com", True, id="a subdomain"),
        pytest.param("*@*.example.com", "a@deep.sub.example.com", True, id="a subdomain of a subdomain"),
        pytest.param("*@*.example.com", "a@example.com", False, id="subdomains are not the domain itself"),
        pytest.param("*@*.example.com", "a@notexample.com", False, id="no dot, no subdomain"),
        pytest.param("*@bücher.example", "a@xn--bcher-kva.example", True, id="an A-label under a U-label's pattern"),
        pytest.param("*@xn--bcher-kva.example", "a@bücher.example", True, id="a U-label under an A-label's pattern"),
        pytest.param("*@*.bücher.example", "a@x.xn--bcher-kva.example", True, id="a subdomain of a U-label"),
        pytest.param("*@[192.0.2.1]", "a@[192.0.2.1]", True, id="an address literal"),
        pytest.param("*@example.com", "", False, id="the null sender is nobody's"),
        pytest.param('"*"@example.com', "bob@example.com", False, id="a quoted star is a mailbox"),
        pytest.param(" *@example.com ", "bob@example.com", True, id="white space round a pattern"),
    ],
)
def test_patterns(pattern: str, address: str, allowed: bool) -> None:
    assert Pattern.parse(pattern).matches(address) is allowed


@pytest.mark.parametrize("text", ["*@Example.com", "*@*.Bücher.example", "Bob@example.com", '"*"@example.com'])
def test_a_pattern_is_shown_as_its_owner_wrote_it(text: str) -> None:
    local, _, domain = text.rpartition("@")
    pattern = Pattern.parse(text)
    assert str(pattern) == f"{local}@{domain.lower()}"
    assert Pattern.parse(str(pattern)) == pattern


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "example.com", "@example.com", "*@", "*@*", "*@*.", "a@*.example.com", "*@*.*.example.com"),
        *("a*b c@example.com", "*@[192.0.2]", "*@exa_mple.com", "*@*example.com"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_possible_forms(text: str) -> None:
    with pytest.raises(AddressError, match=r"user@domain, \*@domain or \*@\*.domain"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: "a" * n, id="one atom"),
        pytest.param(lambda n: "a." * n + "@b.example", id="dots"),
        pytest.param(lambda n: "a@" + "b." * n, id="labels"),
        pytest.param(lambda n: "a@" + "b-" * n + ".example", id="hyphens"),
        pytest.param(lambda n: '"' + "\\" * n, id="backslashes"),
        pytest.param(lambda n: '"' * n + "@b.example", id="quotes"),
        pytest.param(lambda n: " " * n, id="spaces"),
        pytest.param(lambda n: "<" * n, id="brackets"),
        pytest.param(lambda n: "@" * n, id="at signs"),
    ],
)
def test_hostile_length_costs_no_more_than_its_share(make: Callable[[int], str], linear: Callable[..., None]) -> None:
    def attempt(text: str) -> None:
        for argument in (text, f"<{text}>"):
            with pytest.raises(AddressError):
                parse_path(argument.encode())
        with pytest.raises(AddressError):
            parse(text)

    linear(make, attempt)
