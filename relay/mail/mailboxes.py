"""mail.mailboxes: the addresses in a From or Sender field (RFC 5322 3.4, groups as RFC 6854 allows them there).

`parse_mailboxes` gives the addr-specs, canonical as `mail.address` writes them. Who may send as whom is decided on
them, so there is one rule: what two receivers could read differently is refused with `AddressError`, never repaired.

- A display name and a comment are no address, whatever they look like: `"ceo@bank.example" <shop@example.org>` is the
  shop. But an "@" in a display name must be quoted, and a comment with "@", "<" or ">" is refused: receivers are known
  to take such text for the author.
- Refused: source routes; an empty list element; anything after ">"; white space or comments round the "@" of an address
  (RFC 5322 3.4.1 says SHOULD NOT); a local part that looks like an encoded word (RFC 2047 5 (3) forbids it there, some
  receivers decode it all the same); every obsolete form but dots in display names, which half the world's mail has.
- Comments are counted, not recursed into; every step consumes what it read, so the time is linear in the length.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from relay.mail.address import AddressError, parse

MAILBOX_LIMIT = 100  # in one field

# Lone surrogates stand for octets that are not UTF-8: tolerable in a display name, never in an address.
_ATOM = "A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\U0010ffff-"
_USUAL = re.compile(
    rf"[ \t]*+(?:(?:\"[^\"\\\x00-\x08\x0a-\x1f\x7f]*+\"|(?!\.)[{_ATOM} \t]*+)[ \t]*+<([{_ATOM}]++@[{_ATOM}]++)>"
    rf"|([{_ATOM}]++@[{_ATOM}]++))[ \t]*+"
)
_TOKEN = re.compile(
    rf"(?P<space>[ \t]++)|(?P<atom>[{_ATOM}]++)|(?P<special>[<>,:;@(])"
    r'|(?P<quoted>"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\U0010ffff])*+")'
    r"|(?P<literal>\[[!-Z^-~]*+\])"
)
_IN_COMMENT = re.compile(r"[()]|\\.|[@<>]", re.DOTALL)


class _Token(NamedTuple):
    kind: str  # atom, quoted, literal, or the special character itself
    text: str
    glued: bool  # directly after the one before


def parse_mailboxes(value: str) -> tuple[str, ...]:
    """The addresses in an unfolded field value, groups flattened, possibly none. Raises AddressError."""
    usual = _USUAL.fullmatch(value)
    if usual is not None:
        return (_address(usual[1] or usual[2]),)
    addresses = tuple(islice(_mailboxes(list(_tokens(value))), MAILBOX_LIMIT + 1))
    if len(addresses) > MAILBOX_LIMIT:
        raise AddressError(f"there are more than {MAILBOX_LIMIT} addresses")
    return addresses


def _tokens(value: str) -> Iterator[_Token]:
    position, glued = 0, False
    while position < len(value):
        match = _TOKEN.match(value, position)
        if match is None:
            raise AddressError(_unreadable(value[position]))
        position = match.end()
        if match[0] == "(":
            position = _end_of_comment(value, position)
        if match[0] == "(" or match.lastgroup == "space":
            glued = False
            continue
        kind = match[0] if match.lastgroup == "special" else match.lastgroup
        yield _Token(kind or "", match[0], glued)
        glued = True


def _unreadable(character: str) -> str:
    if character == '"':
        return "a quoted string does not end or contains a control character"
    if character == "[":
        return "an address literal does not end"
    if character == ")":
        return 'there is a ")" without a "("'
    if character.isprintable():
        return f"the character {character} must be quoted"
    return "there is a control character"


def _end_of_comment(value: str, position: int) -> int:
    """The position after the comment whose "(" was just read."""
    depth = 1
    for match in _IN_COMMENT.finditer(value, position):
        if match[0] in "@<>":
            raise AddressError('a comment contains "@", "<" or ">", which some receivers take for the address')
        if match[0] == "(":
            depth += 1
        elif match[0] == ")":
            depth -= 1
        if not depth:
            return match.end()
    raise AddressError("a comment does not end")


def _mailboxes(tokens: list[_Token]) -> Iterator[str]:
    """address-list (RFC 5322 3.4): elements between commas; a group is a name, a colon, elements, a semicolon."""
    position, in_group = 0, False
    while position < len(tokens):
        start = position
        while position < len(tokens) and tokens[position].kind not in _ENDS:
            position += 1
        words, end = tokens[start:position], _kind(tokens, position)
        position += 1
        if end == ":":
            _check_group_name(words, in_group=in_group)
            in_group = True
            if _kind(tokens, position) == ";":  # an empty group
                position, in_group = _after_group(tokens, position), False
            continue
        yield _mailbox(words)
        if end == ";":
            if not in_group:
                raise AddressError('there is a ";" without a group')
            position, in_group = _after_group(tokens, position - 1), False
        elif end == "," and position == len(tokens):
            raise AddressError("there is a comma with nothing after it")
    if in_group:
        raise AddressError('a group does not end with ";"')


_ENDS = frozenset(",:;")


def _kind(tokens: list[_Token], position: int) -> str:
    return tokens[position].kind if position < len(tokens) else ""


def _after_group(tokens: list[_Token], semicolon: int) -> int:
    """The position of the next element after a group's ";", past the comma that must stand between."""
    following = _kind(tokens, semicolon + 1)
    if not following:
        return semicolon + 1
    if following != "," or semicolon + 2 == len(tokens):
        raise AddressError('there is something after the ";" of a group')
    return semicolon + 2


def _check_group_name(words: list[_Token], *, in_group: bool) -> None:
    if in_group:
        raise AddressError("a group stands within a group")
    if not words:
        raise AddressError('there is a ":" with no group name before it')
    if any(word.kind == "<" for word in words):
        raise AddressError("an address has a source route; write the mailbox alone")  # RFC 5322 4.4, obs-route
    _check_phrase(words)


def _mailbox(words: list[_Token]) -> str:
    """name-addr or addr-spec."""
    if not words:
        raise AddressError("there is an empty element in the list of addresses")
    opening = next((index for index, word in enumerate(words) if word.kind == "<"), None)
    if opening is None:
        return _addr_spec(words)
    _check_phrase(words[:opening])
    if words[-1].kind != ">":
        raise AddressError('an address does not end with ">" or has something after it')
    return _addr_spec(words[opening + 1 : -1])


def _check_phrase(words: list[_Token]) -> None:
    for word in words:
        if word.kind not in ("atom", "quoted"):
            raise AddressError(f"{word.text[:80]} in a display name must be quoted")
    if words and words[0].text[0] == ".":  # RFC 5322 4.1, obs-phrase: a dot only after a word
        raise AddressError("a display name begins with a dot")


def _addr_spec(words: list[_Token]) -> str:
    if [word.kind for word in words[1:2]] != ["@"] or len(words) != 3:
        text = " ".join(word.text for word in words[:8])[:80]
        raise AddressError(f"{text or 'an empty <>'} is not one address (name@domain)")
    local, at, domain = words
    if local.kind not in ("atom", "quoted") or domain.kind not in ("atom", "literal"):
        raise AddressError("an address is not name@domain")
    if not (at.glued and domain.glued):
        raise AddressError('there is white space or a comment beside the "@" of an address')
    return _address(f"{local.text}@{domain.text}")


def _address(text: str) -> str:
    if "=?" in text:
        raise AddressError("an encoded word stands in an address")
    return parse(text)
