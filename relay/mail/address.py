"""mail.address: one mailbox, as RFC 5321 4.1.2 (and RFC 6531 3.3 for UTF-8) writes it: parsed, compared, matched.

`parse` is strict and never rewrites: what it returns is what was given, but for the domain's case. So the address that
the policy allowed is the address that is sent. No comments, no white space outside quotes, no source route, no repaired
quoting, no trailing dot, no domain left out: what needs repair is refused with `AddressError`, which says what is
wrong.

An address is a `str`: "local@domain", the domain in lower case, an internationalised domain as it was given (A-labels
or U-labels); "" is the null reverse-path. Domains are compared as A-labels by strict IDNA 2008: no mapping beyond
lower case, so a look-alike (full-width letters, another script) is another domain or none, never the one it looks
like.

The 64 octets of a local part (RFC 5321 4.5.3.1.1) are not a limit here, as 4.5.3.1 asks: reply tokens and VERP are
longer in the field. The 254 octets of an address (4.5.3.1.3: a path has 256) are, and DNS's 63 and 253 for labels and
names.
"""

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

ADDRESS_LIMIT = 254  # octets
DOMAIN_LIMIT = 253
LABEL_LIMIT = 63
_SHORT = 64  # an address of so many characters cannot break a limit

_ATEXT = "-A-Za-z0-9!#$%&'*+/=?^_`{|}~"
_LABEL = r"[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+"
_NAME = rf"(?:{_LABEL}\.)*+(?![0-9]++(?![A-Za-z0-9-])){_LABEL}"  # a last label that is a number would be an IP address
_PLAIN_TEXT = rf"([{_ATEXT}]++(?:\.[{_ATEXT}]++)*+)@({_NAME})"
_PLAIN = re.compile(_PLAIN_TEXT)
_PLAIN_PATH = re.compile(rf" *+<({_PLAIN_TEXT})>(?: ++(.*)|)".encode(), re.DOTALL)
# Where a path ends, so that a ">" in a quoted local part does not end it. Whether it is an address, parse() says.
_PATH = re.compile(rb' *+<((?:"(?:[^"\\]|\\.)*+"|[^<>"])*+)>(?: ++(.*)|)', re.DOTALL)

_DOT_STRING = re.compile(rf"[{_ATEXT}\x80-\U0010ffff]++(?:\.[{_ATEXT}\x80-\U0010ffff]++)*+")
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*+"')  # qtextSMTP, quoted-pairSMTP
_LABEL_ALONE = re.compile(_LABEL)


class AddressError(ValueError):
    """The text is no address, and the message says why. Which enhanced code that is (5.1.3, 5.1.7) the caller knows."""


def parse(text: str) -> str:
    """The canonical text of one mailbox: the domain lower-cased, nothing else touched. Raises AddressError."""
    match = _PLAIN.fullmatch(text)
    if match is None or len(text) > _SHORT:
        return _parse_carefully(text)
    return f"{match[1]}@{match[2].lower()}"


def parse_path(argument: bytes) -> tuple[str, bytes]:
    """b"<a@b> SIZE=1" → ("a@b", b"SIZE=1"); "<>" gives "". Spaces before "<" are tolerated. Raises AddressError."""
    match = _PLAIN_PATH.fullmatch(argument)
    if match is not None:
        address, local, domain, rest = match.groups(b"")
        if len(address) <= _SHORT:
            return f"{local.decode()}@{domain.decode().lower()}", rest.rstrip(b" ")
    return _parse_path_carefully(argument)


def _parse_path_carefully(argument: bytes) -> tuple[str, bytes]:
    match = _PATH.fullmatch(argument)
    if match is None:
        raise AddressError("the address must stand in angle brackets, followed by nothing or a space and parameters")
    try:
        text = match[1].decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("the address is neither ASCII nor UTF-8") from None
    return parse(text) if text else "", (match[2] or b"").rstrip(b" ")


def _parse_carefully(text: str) -> str:
    """Everything that is not the usual form: quoted, UTF-8, a literal, long, or wrong."""
    if not text:
        raise AddressError("the address is empty")
    if len(text.encode("utf-8", "surrogatepass")) > ADDRESS_LIMIT:
        raise AddressError(f"the address is longer than {ADDRESS_LIMIT} octets")
    if not text.isprintable():
        raise AddressError("the address contains a control or invisible character")
    if text[0] == "@" and ":" in text:
        raise AddressError("the address has a source route; write the mailbox alone")  # RFC 5321 F.2
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("the address has no domain; write name@domain")
    _check_local(local)
    return f"{local}@{parse_domain(domain)}"


def _check_local(local: str) -> None:
    if _DOT_STRING.fullmatch(local) or _QUOTED_STRING.fullmatch(local):
        return
    if not local:
        raise AddressError('there is nothing before the "@"')
    if local[0] == '"':
        raise AddressError('the quoted part before the "@" is not well formed')
    if local[0] == "." or local[-1] == "." or ".." in local:
        raise AddressError('the part before the "@" has a dot at its start or end or two in a row')
    raise AddressError('the part before the "@" contains a character that must be quoted')


def parse_domain(text: str) -> str:
    """A domain or address literal, lower-cased and checked; U-labels stay U-labels. Raises AddressError."""
    if text[:1] == "[":
        _check_literal(text.lower())
    else:
        ascii_domain(text)
    return text.lower()


def _check_literal(domain: str) -> None:
    inner = domain[1:-1] if domain[-1] == "]" else ""
    try:
        if not inner.startswith("ipv6:"):
            ipaddress.IPv4Address(inner)
        elif "%" in inner:  # RFC 5321 4.1.3 has no zone
            raise ValueError
        else:
            ipaddress.IPv6Address(inner[5:])
    except ValueError:
        raise AddressError("the address literal is not [IPv4] or [IPv6:address]") from None


@lru_cache(maxsize=2048)  # a memory of results only: one message asks several times, and so does the next
def ascii_domain(domain: str) -> str:
    """The domain in lower-case A-labels, for comparing and for DNS; a literal as it is. Raises AddressError."""
    if domain[:1] == "[":
        _check_literal(domain.lower())
        return domain.lower()
    if not domain:
        raise AddressError("the domain is empty")
    if len(domain) > DOMAIN_LIMIT:
        raise AddressError(f"the domain is longer than {DOMAIN_LIMIT} octets")
    if not unicodedata.is_normalized("NFC", domain):  # RFC 5891 4.1; before lower(), which makes a "k" of KELVIN SIGN
        raise AddressError("the domain is not in Unicode normalization form C")
    name = ".".join([_ascii_label(label) for label in domain.lower().split(".")])
    if len(name) > DOMAIN_LIMIT:
        raise AddressError(f"the domain is longer than {DOMAIN_LIMIT} octets")
    if name.rpartition(".")[2].isdigit():
        raise AddressError("the domain ends in a number; an IP address is written [192.0.2.1]")
    return name


def _ascii_label(label: str) -> str:
    if not label:
        raise AddressError("the domain has an empty label: a dot at its start or end or two in a row")
    if not label.isascii():
        return _a_label(label)
    if len(label) > LABEL_LIMIT:
        raise AddressError(f"a label of the domain is longer than {LABEL_LIMIT} octets")
    if _LABEL_ALONE.fullmatch(label) is None:
        raise AddressError("the domain has a label that is not letters, digits and inner hyphens")
    return label


def _a_label(label: str) -> str:
    # Labels go one by one: idna would take U+3002 and its kin for dots. UTS 46 mapping stays off (RFC 5891 5.3).
    try:
        return idna.alabel(label).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise AddressError("the domain has a label that IDNA 2008 does not allow") from None


def local_of(address: str) -> str:
    return address.rpartition("@")[0]


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def comparable(address: str) -> str:
    """What an address, as `parse` returned it, is compared by: its domain in A-labels, its local part as it is."""
    return address if address.isascii() else f"{local_of(address)}@{ascii_domain(domain_of(address))}"


def is_literal(domain: str) -> bool:
    return domain[:1] == "["


@dataclass(frozen=True, slots=True)
class Pattern:
    """Senders a credential may use: an address, `*@domain`, or `*@*.domain` (any subdomain, not the domain itself).

    local: "*" for any (a mailbox really called "*" is written with quotes). domain: A-labels. written: as its owner
    wrote it, the domain lower-cased.
    """

    local: str
    domain: str
    subdomains: bool
    written: str

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Raises AddressError, with the forms that are possible."""
        local, _, domain = text.strip().rpartition("@")
        subdomains = domain.startswith("*.")
        name = domain[2:] if subdomains else domain
        try:
            if local != "*":
                if subdomains:
                    raise AddressError("a pattern for subdomains begins with *@")
                parse(f"{local}@{name}")
            written = parse_domain(name)
        except AddressError as error:
            raise AddressError(f'"{text}": {error}; write user@domain, *@domain or *@*.domain') from None
        return cls(local, ascii_domain(written), subdomains, f"{local}@{'*.' if subdomains else ''}{written}")

    def matches(self, address: str) -> bool:
        """Whether this address, as `parse` returned it, is one of them. The null sender never is."""
        local, _, domain = address.rpartition("@")
        if self.local not in ("*", local) or not local:
            return False
        if not domain.isascii():
            domain = ascii_domain(domain)
        return domain.endswith("." + self.domain) if self.subdomains else domain == self.domain

    def __str__(self) -> str:
        return self.written
