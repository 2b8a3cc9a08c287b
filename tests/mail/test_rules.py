"""Bounce rules: what a file may say, and what is said of a file that is wrong."""

from typing import Any

import pytest

from relay.mail.meaning import Blame, Proof, Stage
from relay.mail.reply import Reply
from relay.mail.rules import Rules


def rule(**changes: object) -> dict[str, Any]:
    table = {
        "name": "a rule",
        "provider": "any",
        "text": ["go away"],
        "blame": "sender",
        "category": "policy",
        "why": "It says so.",
        "samples": ["550 Go away"],
    }
    return {key: value for key, value in {**table, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        pytest.param(rule(txt=["x"]), 'rule "a rule": "txt" is no key of a rule', id="an unknown key"),
        pytest.param(rule(blame=None), 'rule "a rule": "blame" is missing', id="a key missing"),
        pytest.param(rule(samples=[]), 'rule "a rule": "samples" is missing', id="no sample"),
        pytest.param(rule(blame="nobody"), "'nobody' is not a valid Blame", id="an unknown blame"),
        pytest.param(rule(category="odd"), "'odd' is not a valid Category", id="an unknown category"),
        pytest.param(rule(suppress="at once"), 'blame = "sender" never suppresses', id="a sender that suppresses"),
        pytest.param(
            rule(blame="content", suppress="mailbox full"), "never suppresses", id="a content that suppresses"
        ),
        pytest.param(rule(suppress="soon", blame="recipient"), "'soon' is not a valid Proof", id="an unknown proof"),
        pytest.param(rule(action="stop"), 'action = "stop" is none of', id="an unknown action"),
        pytest.param(rule(action="account"), 'it needs via = "smarthost"', id="an account at a receiving server"),
        pytest.param(rule(permanent=True), "a 4xx is never made final", id="a 4xx made final"),
        pytest.param(rule(text=None), 'a rule needs "text" or "status"', id="a rule for everything"),
        pytest.param(rule(text="go away"), '"text" must be a list of texts', id="a text that is no list"),
        pytest.param(rule(text=["..."]), "has a part without a word", id="a phrase without words"),
        pytest.param(rule(via="someone"), "'someone' is not a valid Via", id="an unknown kind of server"),
        pytest.param(rule(stages=["later"]), "'later' is not a valid Stage", id="an unknown stage"),
        pytest.param(rule(codes=[250]), '"codes" has 250', id="a code that refuses nothing"),
        pytest.param(rule(codes="550"), '"codes" must be a list of reply codes', id="codes that are no list"),
        pytest.param(rule(why=3), '"why" must be a text', id="a number for a text"),
        pytest.param(rule(suspend="soon"), "\"suspend\" is 'soon'; write a time such as", id="no time"),
        pytest.param(rule(slow=True), '"slow" is True; write "connections"', id="no word of what is to be less"),
        pytest.param(rule(slow="rate"), '"slow" is \'rate\'; write "connections"', id="another word for it"),
        pytest.param(
            rule(slow="connections", blame="content"), "says nothing about the site", id="a content that slows a site"
        ),
        pytest.param(
            rule(suspend="2h", blame="recipient"), "says nothing about the site", id="a recipient that suspends a site"
        ),
        pytest.param("text", "rule 1 is no table", id="no table at all"),
    ],
)
def test_a_wrong_rule_is_named(table: object, sentence: str) -> None:
    with pytest.raises(ValueError, match="rule") as refusal:
        Rules.parse({"rule": [table]})
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("document", [{}, {"rules": []}, {"rule": [], "default": {}}, {"rule": {}}])
def test_a_file_of_something_else_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\[\[rule\]\] tables and nothing else"):
        Rules.parse(document)


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match='"a rule": the name is used twice'):
        Rules.parse({"rule": [rule(), rule()]})


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        pytest.param({}, True, id="the text alone"),
        pytest.param({"unless": ["tomorrow"]}, True, id="unless something it does not say"),
        pytest.param({"unless": ["please"]}, False, id="unless something it says"),
        pytest.param({"codes": [550, 554]}, True, id="its code"),
        pytest.param({"codes": [554]}, False, id="another code"),
        pytest.param({"status": ["5.7.1"]}, True, id="its enhanced code"),
        pytest.param({"status": ["5.7.*"]}, True, id="a beginning of it"),
        pytest.param({"status": ["5.7.10", "none"]}, False, id="other enhanced codes"),
        pytest.param({"stages": ["rcpt"]}, True, id="its stage"),
        pytest.param({"stages": ["mail", "final"]}, False, id="other stages"),
        pytest.param({"mx": [".example.net"]}, True, id="its host"),
        pytest.param({"mx": [".example.org"]}, False, id="another host"),
        pytest.param({"text": None, "status": ["5.7.1"]}, True, id="an enhanced code without text"),
        pytest.param({"text": ["stay"]}, False, id="another text"),
    ],
)
def test_a_rule_fits_when_all_its_conditions_hold(changes: dict[str, object], fits: bool) -> None:
    rules = Rules.parse({"rule": [rule(**changes)]})
    reply = Reply(550, "5.7.1", "Please go away!")
    found = rules.find(reply, status="5.7.1", stage=Stage.RCPT, mx="mx1.example.net")
    assert (found is not None) is fits


def test_a_rule_for_a_host_does_not_fit_where_the_host_is_unknown() -> None:
    rules = Rules.parse({"rule": [rule(mx=[".example.net"])]})
    assert rules.find(Reply(550, "", "Go away"), status="", stage=Stage.RCPT, mx="") is None


def test_none_stands_for_no_enhanced_code() -> None:
    rules = Rules.parse({"rule": [rule(status=["none"])]})
    assert rules.find(Reply(550, "", "Go away"), status="", stage=Stage.RCPT, mx="") is not None


def test_the_first_rule_that_fits_wins() -> None:
    first, second = rule(name="first", text=["away"]), rule(name="second")
    rules = Rules.parse({"rule": [first, second]})
    found = rules.find(Reply(550, "", "Go away"), status="", stage=Stage.RCPT, mx="")
    assert found is not None
    assert found.name == "first"


def test_a_rule_becomes_a_meaning() -> None:
    table = rule(blame="recipient", category="bad_mailbox", suppress="at once", action="retry")
    (parsed,) = Rules.parse({"rule": [table]}).rules
    meaning = parsed.meaning
    assert (meaning.blame, meaning.proof, meaning.action, meaning.permanent) == (
        Blame.RECIPIENT,
        Proof.DEAD,
        "retry",
        False,
    )
