"""mail.rules: what providers' texts mean: the rules of bounce-rules.toml, compiled.

The first rule that fits a reply gives its meaning. A rule fits when one of its phrases is in the text
(`mail.phrase`), none of its `unless` phrases is, and the narrower conditions it has hold: `status` (enhanced codes,
`5.7.60*` for all that begin so, `none` for none), `codes`, `stages`, `via` (what a smarthost says of our account there
means something else from an MX host), `mx` (suffixes of the host's name; where the host is not known, as in a bounce
that came back, such a rule does not fit: what one server's words mean says nothing of another's). A rule without text
must have a status.

`Rules.parse` takes the parsed TOML document and raises ValueError, naming the rule, for anything it does not know: a
rule that silently never fits would be worse than none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.mail.meaning import Blame, Category, Meaning, Proof, Slow, Stage, SuppressionTimes, Via
from relay.mail.phrase import Phrase, PhraseIndex, normalize
from relay.mail.reply import Reply

KEEPING = ("retry", "account")
ACTIONS = ("", "block", *KEEPING)
_REQUIRED = ("name", "provider", "blame", "category", "why", "samples")
_CONDITIONS = ("via", "mx", "text", "unless", "status", "codes", "stages")
_OPTIONAL = (*_CONDITIONS, "suppress", "action", "permanent", "slow", "suspend")

_DURATION = re.compile(r"(?P<number>[1-9]\d{0,4})(?P<unit>[smhd])")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. samples: whole replies ("550 5.1.1 text") of which each must get this rule's meaning."""

    name: str
    provider: str
    meaning: Meaning
    text: tuple[Phrase, ...]
    unless: tuple[Phrase, ...]
    via: Via | None
    mx: tuple[str, ...]
    status: tuple[str, ...]
    codes: frozenset[int]
    stages: frozenset[Stage]
    why: str
    samples: tuple[str, ...]

    def holds(self, reply: Reply, *, status: str, stage: Stage, mx: str, via: Via, text: str) -> bool:
        """All conditions but `text`, which the index has found to hold."""
        return (
            self.via in (None, via)
            and (not self.stages or stage in self.stages)
            and (not self.codes or reply.code in self.codes)
            and (not self.status or any(_is_like(status, pattern) for pattern in self.status))
            and (not self.mx or mx.endswith(self.mx))
            and not any(phrase.is_in(text) for phrase in self.unless)
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules in order, and the numbers that turn a proof into a suppression."""

    rules: tuple[Rule, ...]
    times: SuppressionTimes
    _index: PhraseIndex
    _textless: tuple[int, ...]

    @classmethod
    def parse(cls, document: Mapping[str, object], *, times: SuppressionTimes | None = None) -> "Rules":
        """document: the TOML file, parsed: an array of tables `rule`. Raises ValueError naming the rule that is
        wrong.
        """
        tables = document.get("rule")
        if not isinstance(tables, list) or set(document) != {"rule"}:
            raise ValueError("the file must consist of [[rule]] tables and nothing else")
        rules = tuple(_rule(number, table) for number, table in enumerate(tables, start=1))
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'rule "{name}": the name is used twice')
        phrases = [(number, phrase) for number, rule in enumerate(rules) for phrase in rule.text]
        textless = tuple(number for number, rule in enumerate(rules) if not rule.text)
        return cls(rules, times or SuppressionTimes(), PhraseIndex(phrases), textless)

    def find(self, reply: Reply, *, status: str, stage: Stage, mx: str, via: Via = Via.MX) -> Rule | None:
        """The first rule that fits. status: the enhanced code, wherever it stood. mx: the MX host's name, lower-case,
        or "".
        """
        text = normalize(reply.text)
        for number in sorted({*self._textless, *self._index.owners_in(text)}):
            rule = self.rules[number]
            if rule.holds(reply, status=status, stage=stage, mx=mx, via=via, text=text):
                return rule
        return None


def _is_like(status: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return status.startswith(pattern[:-1])
    return status == pattern or (pattern == "none" and not status)


def _rule(number: int, table: object) -> Rule:
    if not isinstance(table, dict):
        raise ValueError(f"rule {number} is no table")  # noqa: TRY004 -- the file is wrong, not our types
    name = table.get("name") or f"number {number}"
    try:
        return _checked(table)
    except ValueError as error:
        raise ValueError(f'rule "{name}": {error}') from None


def _checked(table: Mapping[str, object]) -> Rule:
    for key in table:
        if key not in _REQUIRED + _OPTIONAL:
            raise ValueError(f'"{key}" is no key of a rule; known are {", ".join(_REQUIRED + _OPTIONAL)}')
    for key in _REQUIRED:
        if not table.get(key):
            raise ValueError(f'"{key}" is missing')
    rule = Rule(
        name=_text(table, "name"),
        provider=_text(table, "provider"),
        meaning=_meaning(table),
        text=tuple(Phrase.parse(text) for text in _texts(table, "text")),
        unless=tuple(Phrase.parse(text) for text in _texts(table, "unless")),
        via=Via(_text(table, "via")) if "via" in table else None,
        mx=_texts(table, "mx"),
        status=_texts(table, "status"),
        codes=frozenset(_codes(table)),
        stages=frozenset(Stage(stage) for stage in _texts(table, "stages")),
        why=_text(table, "why"),
        samples=_texts(table, "samples"),
    )
    if not rule.text and not rule.status:
        raise ValueError('a rule needs "text" or "status"; it would fit every reply')
    return rule


def _meaning(table: Mapping[str, object]) -> Meaning:
    blame, proof, action = Blame(_text(table, "blame")), Proof(_text(table, "suppress")), _text(table, "action")
    if proof and blame is not Blame.RECIPIENT:
        raise ValueError(f'blame = "{blame}" never suppresses; only blame = "recipient" may have "suppress"')
    if action not in ACTIONS:
        raise ValueError(f'action = "{action}" is none of "block", "retry", "account"')
    if action == "account" and table.get("via") != Via.SMARTHOST:
        raise ValueError('action = "account" is for what a smarthost says of ours; it needs via = "smarthost"')
    permanent = table.get("permanent", False if action in KEEPING else None)
    if permanent is True or not isinstance(permanent, bool | None):
        # A 4xx is the server's own promise that another try may do; no rule of ours knows better.
        raise ValueError('"permanent" can only be false: a 4xx is never made final')
    slow, suspend = _slow(table), _seconds(table, "suspend")
    if (slow or suspend) and blame in (Blame.RECIPIENT, Blame.CONTENT):
        raise ValueError(f'blame = "{blame}" says nothing about the site; "slow" and "suspend" are for those that do')
    category, name = Category(_text(table, "category")), _text(table, "name")
    return Meaning(blame, category, proof, action, permanent, name, slow, suspend)


def _slow(table: Mapping[str, object]) -> Slow:
    value = table.get("slow", Slow.NOTHING)
    if not isinstance(value, str) or value not in tuple(Slow):
        raise ValueError(f'"slow" is {value!r}; write "{Slow.CONNECTIONS}", or "{Slow.BOTH}" where more is meant')
    return Slow(value)


def _seconds(table: Mapping[str, object], key: str) -> float:
    text = _text(table, key)
    match = _DURATION.fullmatch(text)
    if text and match is None:
        raise ValueError(f'"{key}" is {text!r}; write a time such as "30m" or "2h"')
    return int(match["number"]) * _UNITS[match["unit"]] if match else 0.0


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f'"{key}" must be a text')  # noqa: TRY004 -- the file is wrong, not our types
    return value


def _texts(table: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f'"{key}" must be a list of texts')
    return tuple(value)


def _codes(table: Mapping[str, object]) -> Iterator[int]:
    value = table.get("codes", [])
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError('"codes" must be a list of reply codes')  # noqa: TRY004 -- the file is wrong, not our types
    for code in value:
        if not isinstance(code, int) or not 400 <= code <= 599:
            raise ValueError(f'"codes" has {code!r}; a reply code is a number from 400 to 599')
        yield code
