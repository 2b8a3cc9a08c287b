"""mail.meaning: what a reply can mean, and what the standards alone say it means.

A `Meaning` is what a reply says before we know how far the transaction had come: whom it blames, of which kind it is,
what it proves about the address. `mail.rules` draws it from a provider's text; the tables here draw it from the
enhanced code (RFC 3463, registry of RFC 5248) or, weakest, from the reply code (RFC 5321 4.2.3). `mail.verdict`
weighs the three and cuts the answer down to what the command answered allows.

Blame.TRANSIENT is "nobody here": the other system's or the network's own state, whether it says so with 4xx or 5xx.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from relay.mail.suppression import Cause

DAY = 86400.0


class Blame(StrEnum):
    """Whom a reply blames, and so who is acted upon."""

    RECIPIENT = "recipient"  # does not exist, disabled, full, wants no mail of this kind
    SENDER = "sender"  # our address or domain: blocked, unauthenticated, too fast
    CONTENT = "content"  # spam, virus, size, form: this message only
    TRANSIENT = "transient"  # none of the three: the other system itself


class Stage(StrEnum):
    """The command (or moment) the reply answered."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    FINAL = "final"


class Via(StrEnum):
    """Whose server it is that replied: the recipient's, or one that relays for us and may speak of our account."""

    MX = "mx"
    SMARTHOST = "smarthost"


class Category(StrEnum):
    """What kind of trouble it is: for people, reports and metrics. `Blame` is what is acted upon."""

    BAD_MAILBOX = "bad_mailbox"
    INACTIVE = "inactive"
    BAD_DOMAIN = "bad_domain"
    MAILBOX_FULL = "mailbox_full"
    TOO_BIG = "too_big"
    SPAM_CONTENT = "spam_content"
    REPUTATION = "reputation"
    AUTH = "auth"
    POLICY = "policy"
    THROTTLE = "throttle"
    NETWORK = "network"
    SYSTEM = "system"
    PROTOCOL = "protocol"


class Proof(StrEnum):
    """What a reply proves about the recipient: the words a rule's `suppress` may have."""

    NONE = ""
    DEAD = "at once"
    FULL = "mailbox full"
    NO_DOMAIN = "bad domain"


class Slow(StrEnum):
    """Of what a site wants less: the words a rule's `slow` may have. Neither is said by the codes."""

    NOTHING = ""
    CONNECTIONS = "connections"
    BOTH = "connections and rate"


@dataclass(frozen=True, slots=True)
class Suppress:
    """Evidence against an address: after `messages` messages spread over at least `over` seconds it is suppressed for
    `seconds` (0: for good). messages 1 is at once.
    """

    cause: Cause
    seconds: float
    messages: int
    over: float


@dataclass(frozen=True, slots=True)
class SuppressionTimes:
    """The numbers of `[suppression]` in relay.toml, as plain values. Seconds."""

    bad_domain: float = 7 * DAY
    mailbox_full_messages: int = 3
    mailbox_full_over: float = 3 * DAY
    mailbox_full: float = 14 * DAY

    def of(self, proof: Proof) -> Suppress | None:
        match proof:
            case Proof.DEAD:
                return Suppress(Cause.HARD_BOUNCE, seconds=0.0, messages=1, over=0.0)
            case Proof.FULL:
                return Suppress(
                    Cause.MAILBOX_FULL, self.mailbox_full, self.mailbox_full_messages, self.mailbox_full_over
                )
            case Proof.NO_DOMAIN:
                return Suppress(Cause.BAD_DOMAIN, self.bad_domain, messages=2, over=0.0)
        return None


@dataclass(frozen=True, slots=True)
class Meaning:
    """permanent: None follows the reply's class. action: "", "block" (the breaker trips at once), "retry" (kept
    although 5xx), "account" (kept, and the smarthost takes nothing of ours). rule: the name of the text rule, "" when
    only the codes spoke. slow: what the site is given less of. suspend: seconds for which nothing is sent to it, 0
    for none.
    """

    blame: Blame
    category: Category
    proof: Proof = Proof.NONE
    action: str = ""
    permanent: bool | None = None
    rule: str = ""
    slow: Slow = Slow.NOTHING
    suspend: float = 0.0


def _recipient(category: Category, proof: Proof = Proof.NONE) -> Meaning:
    return Meaning(Blame.RECIPIENT, category, proof)


_DEAD = _recipient(Category.BAD_MAILBOX, Proof.DEAD)
_UNSURE = _recipient(Category.BAD_MAILBOX)
_BAD_DOMAIN = _recipient(Category.BAD_DOMAIN, Proof.NO_DOMAIN)
_INACTIVE = _recipient(Category.INACTIVE)
_FULL = _recipient(Category.MAILBOX_FULL, Proof.FULL)
_SENDER_ADDRESS = Meaning(Blame.SENDER, Category.POLICY)
_UNAUTHENTICATED = Meaning(Blame.SENDER, Category.AUTH)
_TOO_FAST = Meaning(Blame.SENDER, Category.THROTTLE)
_REFUSED = Meaning(Blame.SENDER, Category.POLICY)
_TOO_BIG = Meaning(Blame.CONTENT, Category.TOO_BIG)
_FORM = Meaning(Blame.CONTENT, Category.POLICY)
_SYSTEM = Meaning(Blame.TRANSIENT, Category.SYSTEM)
_NETWORK = Meaning(Blame.TRANSIENT, Category.NETWORK)
_PROTOCOL = Meaning(Blame.TRANSIENT, Category.PROTOCOL)

# Subject and detail of an enhanced code, the class left off. The comment is the registry's sense where ours needs a
# reason.
_BY_DETAIL: Mapping[str, Meaning] = {
    "1.0": _recipient(Category.POLICY),  # the recipient's address or the sender's; unsaid which
    "1.1": _DEAD,
    "1.2": _BAD_DOMAIN,
    "1.3": _DEAD,
    "1.4": _UNSURE,  # ambiguous: several mailboxes of that name, none of them dead
    "1.6": _DEAD,  # moved, no forwarding address
    "1.7": _SENDER_ADDRESS,
    "1.8": _SENDER_ADDRESS,
    "1.9": _PROTOCOL,
    "1.10": _BAD_DOMAIN,  # null MX (RFC 7505 5); told by a server in between, so not believed at the first time
    "2.0": _recipient(Category.POLICY),
    "2.1": _recipient(Category.INACTIVE, Proof.DEAD),
    "2.2": _FULL,
    "2.3": _TOO_BIG,
    "2.4": _recipient(Category.POLICY),  # a mailing list that cannot be expanded
    "3.3": _PROTOCOL,
    "3.4": _TOO_BIG,
    "4.3": _SYSTEM,  # a directory or DNS server failed
    "4.5": _SYSTEM,  # congestion
    # Too many recipients: the rest goes in another transaction.
    "5.3": Meaning(Blame.TRANSIENT, Category.THROTTLE, permanent=False),
    "6.0": _FORM,
    "6.7": Meaning(Blame.CONTENT, Category.PROTOCOL),  # RFC 6531: not an address this server can take
    "7.2": _recipient(Category.POLICY),  # may not write to this list
    "7.8": _UNAUTHENTICATED,
    "7.9": _UNAUTHENTICATED,
    "7.11": _UNAUTHENTICATED,
    "7.12": _UNAUTHENTICATED,
    "7.13": _UNAUTHENTICATED,  # our account at a smarthost, not the recipient's (RFC 5248)
    "7.17": _INACTIVE,  # RFC 7293: the mailbox has another owner now
    "7.18": _INACTIVE,
    "7.20": _UNAUTHENTICATED,  # RFC 7372: DKIM, SPF, reverse DNS, several
    "7.21": _UNAUTHENTICATED,
    "7.22": _UNAUTHENTICATED,
    "7.23": _UNAUTHENTICATED,
    "7.24": _UNAUTHENTICATED,
    "7.25": _UNAUTHENTICATED,
    "7.26": _UNAUTHENTICATED,
    "7.27": _UNAUTHENTICATED,  # RFC 7505: the sender's domain takes no mail
    "7.28": _TOO_FAST,
    "7.29": _UNAUTHENTICATED,
    "7.30": _PROTOCOL,  # RFC 8689: REQUIRETLS
}
_BY_SUBJECT: Mapping[str, Meaning] = {
    "1": _UNSURE,
    "2": _INACTIVE,
    "3": _SYSTEM,
    "4": _NETWORK,
    "5": _PROTOCOL,
    "6": _FORM,
    "7": _REFUSED,
}
_BY_CODE: Mapping[int, Meaning] = {
    421: _SYSTEM,
    450: Meaning(Blame.TRANSIENT, Category.POLICY),  # greylisting more often than a busy mailbox
    451: _SYSTEM,
    452: _SYSTEM,
    454: _UNAUTHENTICATED,
    521: _recipient(Category.BAD_DOMAIN),  # RFC 7504: the host takes no mail
    523: _TOO_BIG,
    525: _UNAUTHENTICATED,
    529: _UNAUTHENTICATED,
    530: _UNAUTHENTICATED,
    534: _UNAUTHENTICATED,
    535: _UNAUTHENTICATED,
    538: _UNAUTHENTICATED,
    541: Meaning(Blame.CONTENT, Category.SPAM_CONTENT),
    550: _recipient(Category.POLICY),  # RFC 5321 4.2.3: not found, no access, or policy reasons; unsaid which
    551: _UNSURE,
    552: _recipient(Category.MAILBOX_FULL),
    553: _recipient(Category.POLICY),
    554: _REFUSED,
    556: _recipient(Category.BAD_DOMAIN),  # RFC 7504 4: the domain takes no mail
    571: _REFUSED,
}


def by_status(status: str) -> Meaning | None:
    """What an enhanced code such as "5.1.1" means; None for "" and for x.0.x, which says nothing."""
    _, _, detail = status.partition(".")
    return _BY_DETAIL.get(detail) or _BY_SUBJECT.get(detail.partition(".")[0])


def by_code(code: int) -> Meaning:
    """What a reply code alone means."""
    meaning = _BY_CODE.get(code)
    if meaning is not None:
        return meaning
    return _PROTOCOL if 500 <= code < 550 else _SYSTEM
