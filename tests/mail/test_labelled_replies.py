"""How often the shipped rules are right on labelled replies of the field, which are no part of this repository.

    LABELLED_REPLIES=FILE python -m pytest -s tests/mail/test_labelled_replies.py

FILE has one JSON object a line: `text`, `code`, `enhanced` (or null), `category`, `acceptable` (the categories that are
right) and `recipient_is_dead` (true, false, or null where nobody can say).
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Suppressions
from relay.config.rules import load_rules
from relay.mail.phrase import normalize
from relay.mail.reply import Reply, ReplyError, ReplyParser
from relay.mail.verdict import Stage, Verdict, classify

BESIDE = Path(__file__).parents[2] / ".." / "shared" / "data" / "replies.jsonl"
LABELLED = Path(os.environ.get("LABELLED_REPLIES", BESIDE))
RULES = load_rules(None, Suppressions())

pytestmark = pytest.mark.skipif(not LABELLED.exists(), reason="LABELLED_REPLIES names no file")


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LABELLED.read_text().splitlines()]


def reply_of(row: dict[str, Any]) -> Reply:
    try:
        (reply,) = ReplyParser().feed(row["text"].encode() + b"\r\n")
    except (ReplyError, ValueError):
        return Reply(int(row["code"]), row["enhanced"] or "", row["text"])
    return reply


def judge(row: dict[str, Any]) -> Verdict:
    return classify(reply_of(row), stage=Stage.RCPT, recipients=1, mx="", rules=RULES)


def is_suppressed_at_once(verdict: Verdict) -> bool:
    return verdict.suppress is not None and verdict.suppress.messages == 1


def test_the_category_is_acceptable() -> None:
    right = [judge(row).category in row["acceptable"] for row in rows()]
    print(f"category acceptable: {sum(right)} of {len(right)}")
    assert sum(right) / len(right) >= 0.93


def test_the_living_are_not_called_dead() -> None:
    living = [row for row in rows() if row["recipient_is_dead"] is False]
    wrong = [row["text"] for row in living if is_suppressed_at_once(judge(row))]
    print(f"living called dead: {len(wrong)} of {len(living)}")
    # Google's 5.2.1 for an inactive account is labelled alive; RFC 3463 3.3 and Google call it disabled.
    assert len(wrong) / len(living) < 0.01


def test_most_of_the_dead_are_found() -> None:
    dead = [row for row in rows() if row["recipient_is_dead"] is True]
    found = [row for row in dead if is_suppressed_at_once(judge(row))]
    print(f"dead found: {len(found)} of {len(dead)}")
    assert len(found) / len(dead) >= 0.7


def test_no_sample_is_a_labelled_reply() -> None:
    known = {normalize(row["text"]) for row in rows()}
    samples = [sample for rule in RULES.rules for sample in rule.samples]
    assert [sample for sample in samples if normalize(sample) in known] == []
