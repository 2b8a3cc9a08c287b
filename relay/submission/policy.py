"""submission.policy: who may send as whom. Pure: a credential and a message in, a refusal or None out.

The rule is one sentence: the envelope sender and every address in From, Sender, Resent-From and Resent-Sender must be
among the credential's allowed senders. `check_sender` holds it at MAIL (RFC 6409 6.1), `check_header` after DATA.

- An address is the addr-spec that `mail.mailboxes` found; display names and comments say nothing. Groups are no cover:
  the addresses in them count. Whatever is ambiguous was refused before it came here, 550 5.6.0.
- Sender does not excuse From: a receiver shows From, and DMARC aligns with it. Nor do Resent- fields: a message by
  another author is a forgery as long as its From is not allowed, and a Resent- block that is not by us is one as well.
- Local parts are compared as written (RFC 5321 2.4), domains as A-labels. Reply-To is free: it claims no author.
- Every From domain must have a DKIM key of its own or of a parent, unless the credential may send unsigned.

Hold, expiry and revocation are the session's business, not decided here.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from relay.mail.address import Pattern, ascii_domain, domain_of, is_literal
from relay.mail.message import Header
from relay.mail.reply import Reply

_PATTERNS_SHOWN = 10


class SenderRules(Protocol):
    """What a credential says about senders; the registry's Credential is one."""

    @property
    def name(self) -> str: ...

    @property
    def senders(self) -> tuple[Pattern, ...]: ...

    @property
    def null_sender(self) -> bool: ...

    @property
    def allow_unsigned(self) -> bool: ...


def check_sender(credential: SenderRules, sender: str) -> Reply | None:
    """At MAIL. sender: as `mail.esmtp.parse_mail` gave it, "" for the null sender. None when it may be used."""
    if not sender:
        return None if credential.null_sender else _refused(f"Credential {credential.name} may not send from <>")
    return None if _is_allowed(credential, sender) else _not_allowed(credential, "Sender", sender)


def check_header(credential: SenderRules, header: Header, has_key: Callable[[str], bool]) -> Reply | None:
    """After DATA. has_key: whether a domain (A-labels) has a key that signs. None when the message may go."""
    return (
        _check_addresses(credential, "From", header.from_addresses)
        or _check_addresses(credential, "Sender field", header.sender_addresses)
        or _check_addresses(credential, "Resent field", header.resent_addresses)
        or (None if credential.allow_unsigned else _check_keys(header, has_key))
    )


def signing_domain(from_domain: str, has_key: Callable[[str], bool]) -> str | None:
    """d= for a From domain: itself if it has a key, else its nearest parent that has one. In A-labels."""
    domain = "" if is_literal(from_domain) else ascii_domain(from_domain)
    while domain:
        if has_key(domain):
            return domain
        domain = domain.partition(".")[2]
    return None


def _check_addresses(credential: SenderRules, where: str, addresses: Iterable[str]) -> Reply | None:
    for address in addresses:
        if not _is_allowed(credential, address):
            return _not_allowed(credential, where, address)
    return None


def _is_allowed(credential: SenderRules, address: str) -> bool:
    for pattern in credential.senders:  # noqa: SIM110 - any() of a generator costs as much as the match
        if pattern.matches(address):
            return True
    return False


def _check_keys(header: Header, has_key: Callable[[str], bool]) -> Reply | None:
    for address in header.from_addresses:
        domain = domain_of(address)
        if signing_domain(domain, has_key) is None:
            name = ascii_domain(domain)
            return _refused(f"No DKIM key for the From domain {name}; its owner runs: relay domain add {name}")
    return None


def _not_allowed(credential: SenderRules, where: str, address: str) -> Reply:
    shown = ", ".join(str(pattern) for pattern in credential.senders[:_PATTERNS_SHOWN])
    more = len(credential.senders) - _PATTERNS_SHOWN
    allowed = (shown or "no address") + (f" and {more} more" if more > 0 else "")
    return _refused(f"{where} <{address}> is not allowed for credential {credential.name}, which may use: {allowed}")


def _refused(text: str) -> Reply:
    return Reply(550, "5.7.1", text)
