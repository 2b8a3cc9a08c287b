"""mail.verdict: what a reply means for us: whom it blames, whether it is final, what it proves about the recipient.

`classify` weighs, strongest first: the command answered, a provider's text rule (`mail.rules`), the enhanced code,
the reply code (`mail.meaning`). It never fails: a reply nobody knows is judged by its class.

- Up to MAIL no recipient has been named, so none is blamed, whatever the text says. At RCPT anyone may be. From DATA
  on a recipient is blamed only when the transaction has just one and a text rule says so.
- `permanent` follows the reply's class (RFC 5321 4.2.1), but for rules and registry codes that know a 5xx to be one
  of another try ("too many recipients"). A 4xx is never made final: it stays transient whoever it blames. What a
  smarthost says against us is never final either: that is for whoever runs the relay to put right, or it goes away,
  and no recipient bounces for it before the message expires.
- `suppress` is evidence, never the deed. It is given only with blame RECIPIENT: at once for a mailbox that is gone,
  counted for one that is full or whose domain is said to be unknown. Unknown text under 5.7.x proves nothing, and
  neither does a text that any server might write: a security code beside it makes it doubtful. Being full is the one
  thing a 4xx proves too; count it once for a message, when that message ends.
- `action` is the rule's: "block" trips the breaker at once, "retry" keeps the refused recipient for another try, and so
  does "account", by which a smarthost takes nothing of ours, whoever the recipient is. So are `slow` and `suspend`:
  what becomes of the site.

A live person suppressed is the costly mistake here; a dead one tried again is the cheap one. Doubt is decided so.
"""

import re
from dataclasses import dataclass, replace

from relay.mail.meaning import (
    Blame,
    Category,
    Meaning,
    Proof,
    Slow,
    Stage,
    Suppress,
    SuppressionTimes,
    Via,
    by_code,
    by_status,
)
from relay.mail.reply import Reply
from relay.mail.rules import Rule, Rules
from relay.mail.suppression import Cause

__all__ = [
    "Blame",
    "Category",
    "Rule",
    "Rules",
    "Stage",
    "Suppress",
    "SuppressionTimes",
    "Verdict",
    "Via",
    "bad_domain",
    "classify",
]

_WITH_CONTENT = frozenset({Stage.DATA, Stage.FINAL})
_STATUS_IN_TEXT = re.compile(r"(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.])")


@dataclass(frozen=True, slots=True)
class Verdict:
    """category: for people and metrics. permanent: no further try. rule: the text rule's name, "" when the codes
    decided. slow, suspend: as `Meaning`'s.
    """

    blame: Blame
    category: Category
    permanent: bool
    suppress: Suppress | None = None
    action: str = ""
    rule: str = ""
    slow: Slow = Slow.NOTHING
    suspend: float = 0.0


def classify(reply: Reply, *, stage: Stage, recipients: int, mx: str, rules: Rules, via: Via = Via.MX) -> Verdict:
    """reply: the answer to the command `stage`. recipients: those of the transaction. mx: the host's name, or ""."""
    status = status_of(reply)
    rule = rules.find(reply, status=status, stage=stage, mx=mx.lower().rstrip("."), via=via)
    meaning = rule.meaning if rule else _by_codes(reply, status=status, stage=stage)
    permanent = reply.is_permanent and meaning.permanent is not False
    allowed = _may_blame_recipient(stage, recipients=recipients, by_text=rule is not None)
    if meaning.blame is Blame.RECIPIENT and not allowed:
        meaning = replace(meaning, blame=_instead(stage, permanent=permanent), proof=Proof.NONE)
    proof = _trusted(meaning.proof, permanent=permanent, doubtful=_is_doubtful(rule, status=status))
    if via is Via.SMARTHOST and meaning.blame is Blame.SENDER:
        permanent = False
    return Verdict(
        blame=meaning.blame,
        category=meaning.category,
        permanent=permanent,
        suppress=rules.times.of(proof),
        action=meaning.action,
        rule=meaning.rule,
        slow=meaning.slow,
        suspend=meaning.suspend,
    )


def bad_domain(times: SuppressionTimes) -> Verdict:
    """DNS's own word that a domain takes no mail: null MX (RFC 7505) or NXDOMAIN. Final, and suppressed at the first
    time.
    """
    suppress = Suppress(Cause.BAD_DOMAIN, times.bad_domain, messages=1, over=0.0)
    return Verdict(Blame.RECIPIENT, Category.BAD_DOMAIN, permanent=True, suppress=suppress)


def status_of(reply: Reply) -> str:
    """The reply's enhanced code; else one of its class in the text, as qmail and its heirs write it: "(#5.1.1)"; else
    "".
    """
    if reply.status:
        return reply.status
    for match in _STATUS_IN_TEXT.finditer(reply.text):
        if match[0][0] == str(reply.code)[0]:
            return match[0]
    return ""


def _by_codes(reply: Reply, *, status: str, stage: Stage) -> Meaning:
    meaning = by_status(status)
    if meaning is None and reply.code == 552 and stage is not Stage.RCPT:
        meaning = by_status("5.3.4")  # RFC 1870 6: 552 to MAIL or after the dot is about the size
    if meaning is None or _contradicts(meaning, reply.code):
        meaning = by_code(reply.code)
    return _at(stage, meaning, reply)


def _contradicts(meaning: Meaning, code: int) -> bool:
    """An enhanced code that cannot be meant beside its reply code."""
    # A 421 ends the session (RFC 5321 3.8); it is not about one mailbox, though 4.2.1 beside it is common.
    if code == 421:
        return meaning.blame is Blame.RECIPIENT
    # 550 to 559 are about mail (RFC 5321 4.2.1: x5x); 5.5.0 beside them stands for "whatever".
    return meaning.category is Category.PROTOCOL and 550 <= code <= 559


def _at(stage: Stage, meaning: Meaning, reply: Reply) -> Meaning:
    """The codes' meaning where it depends on what the server has seen by then: no content before DATA."""
    unspecific = meaning.category in (Category.POLICY, Category.BAD_MAILBOX)
    if meaning.blame is Blame.SENDER and unspecific and not reply.is_permanent:
        return replace(meaning, blame=Blame.TRANSIENT)  # a bare 4.7.x is greylisting more often than anything else
    if stage in _WITH_CONTENT and unspecific and reply.is_permanent:
        return replace(meaning, blame=Blame.CONTENT, category=Category.POLICY, proof=Proof.NONE)
    return meaning


def _may_blame_recipient(stage: Stage, *, recipients: int, by_text: bool) -> bool:
    return stage is Stage.RCPT or (stage in _WITH_CONTENT and recipients == 1 and by_text)


def _instead(stage: Stage, *, permanent: bool) -> Blame:
    if not permanent:
        return Blame.TRANSIENT
    return Blame.CONTENT if stage in _WITH_CONTENT else Blame.SENDER


def _is_doubtful(rule: Rule | None, *, status: str) -> bool:
    return rule is not None and rule.provider == "any" and status[1:].startswith(".7.")


def _trusted(proof: Proof, *, permanent: bool, doubtful: bool) -> Proof:
    if proof is Proof.FULL:
        return proof
    return proof if permanent and not doubtful else Proof.NONE
