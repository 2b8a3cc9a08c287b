"""Verdicts: whom a reply blames, by the command answered, the text, the enhanced code and the code, in that order."""

import time
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.models import Suppressions
from relay.config.rules import load_rules
from relay.mail.reply import Reply, ReplyParser
from relay.mail.suppression import Cause
from relay.mail.verdict import (
    Blame,
    Category,
    Rule,
    Rules,
    Stage,
    Suppress,
    SuppressionTimes,
    Verdict,
    Via,
    bad_domain,
    classify,
)

DAY = 86400.0
RULES = load_rules(None, Suppressions())
AT_ONCE = Suppress(Cause.HARD_BOUNCE, seconds=0.0, messages=1, over=0.0)
WHEN_FULL = Suppress(Cause.MAILBOX_FULL, seconds=14 * DAY, messages=3, over=3 * DAY)
AT_THE_SECOND = Suppress(Cause.BAD_DOMAIN, seconds=7 * DAY, messages=2, over=0.0)

SAMPLES = [
    pytest.param(rule, sample, id=f"{rule.name}: {sample[:70]}") for rule in RULES.rules for sample in rule.samples
]


def reply_of(text: str) -> Reply:
    """A sample as the wire would have it: its lines under one code."""
    code, lines = text[:3], text[4:].split("\n")
    octets = "".join(f"{code}{'-' if line is not lines[-1] else ' '}{line}\r\n" for line in lines)
    (reply,) = ReplyParser().feed(octets.encode())
    return reply


def judge(
    text: str,
    *,
    stage: Stage = Stage.RCPT,
    recipients: int = 1,
    mx: str = "",
    via: Via = Via.MX,
    rules: Rules = RULES,
) -> Verdict:
    return classify(reply_of(text), stage=stage, recipients=recipients, mx=mx, via=via, rules=rules)


def place_of(rule: Rule) -> tuple[Stage, str]:
    """A stage and a host that a rule's samples come from."""
    usual = Stage.RCPT if rule.meaning.blame is Blame.RECIPIENT else Stage.FINAL
    return min(rule.stages, default=usual), f"mx1{rule.mx[0]}" if rule.mx else "mx.example.net"


@pytest.mark.parametrize(("rule", "sample"), SAMPLES)
def test_a_rules_samples_get_the_rules_verdict(rule: Rule, sample: str) -> None:
    stage, mx = place_of(rule)
    verdict = judge(sample, stage=stage, mx=mx, via=rule.via or Via.MX)
    assert verdict.rule == rule.name
    assert (verdict.blame, verdict.category, verdict.action) == (
        rule.meaning.blame,
        rule.meaning.category,
        rule.meaning.action,
    )
    assert verdict.permanent == (sample[0] == "5" and rule.meaning.permanent is not False)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        pytest.param("530 5.7.0 Authentication Required", Stage.MAIL, id="a login wanted"),
        pytest.param("554 5.7.1 <x@example.net>: Relay access denied", Stage.RCPT, id="no relaying"),
        pytest.param("550 5.7.1 Your account has been suspended", Stage.MAIL, id="an account suspended"),
        pytest.param("554 Message rejected: Email address is not verified.", Stage.FINAL, id="a sender not verified"),
    ],
)
def test_only_a_smarthost_speaks_of_our_account(text: str, stage: Stage) -> None:
    from_smarthost, from_mx = (judge(text, stage=stage, via=via) for via in (Via.SMARTHOST, Via.MX))
    assert (from_smarthost.blame, from_smarthost.permanent) == (Blame.SENDER, False)
    assert from_mx.permanent
    assert not from_mx.rule.startswith("smarthost: ")


@pytest.mark.parametrize(
    "text",
    [
        "550 5.2.1 This account has been disabled",
        "550 5.2.1 <bob@x.example>: The account has been suspended",
        (
            "550 5.1.1 <bob@yahoo.com>: Recipient address rejected: undeliverable address: host mx said: "
            "550 This account has been disabled or discontinued"
        ),
        "550 <bob@x.example>: Recipient address rejected: undeliverable address: 550 This account has been disabled",
        "550 <bob@x.example>: Recipient address rejected: this account has been disabled",
        "550 5.7.1 a@x.example is not allowed to send to list@y.example",
        "452 4.2.2 The mail account exceeded its daily quota",
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly; limit 100 messages per hour",
        "450 The user you are trying to contact is receiving mail too quickly; limit 100 messages per hour",
    ],
)
def test_what_a_smarthost_says_of_a_recipients_account_or_quota_is_not_about_ours(text: str) -> None:
    verdict = judge(text, via=Via.SMARTHOST)
    assert verdict == judge(text)
    assert verdict.action != "account"


@pytest.mark.parametrize(
    ("text", "stage", "action"),
    [
        pytest.param("550 This account has been disabled", Stage.RCPT, "retry", id="whose, nobody knows"),
        pytest.param("550 This account has been disabled", Stage.MAIL, "account", id="before there is a recipient"),
        pytest.param("550 This account has been disabled", Stage.FINAL, "account", id="after all were taken"),
        pytest.param("550 5.7.1 This account has been disabled", Stage.RCPT, "account", id="a code of a sender's"),
        pytest.param("550 Your account has been suspended", Stage.RCPT, "account", id="it says so"),
    ],
)
def test_one_recipients_closed_account_stops_no_smarthost(text: str, stage: Stage, action: str) -> None:
    verdict = judge(text, stage=stage, via=Via.SMARTHOST)
    assert (verdict.action, verdict.blame, verdict.permanent) == (action, Blame.SENDER, False)


AGAINST_US = [
    pytest.param("550 5.7.1 Too many login failures", Stage.MAIL, id="logins"),
    pytest.param(
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        Stage.RCPT,
        id="a block list",
    ),
    pytest.param("550 5.1.8 <a@b.example>: Sender address rejected: Domain not found", Stage.RCPT, id="its domain"),
    pytest.param("550 5.1.0 sender rejected", Stage.RCPT, id="a sender refused"),
    pytest.param("550 5.7.1 [TSS04] Messages from 192.0.2.1 temporarily deferred", Stage.RCPT, id="a rate"),
    pytest.param("550 5.7.1 go away", Stage.RCPT, id="unknown words"),
    pytest.param("550 5.1.1 User unknown", Stage.MAIL, id="of a recipient before there is one"),
]


@pytest.mark.parametrize(("text", "stage"), AGAINST_US)
def test_nothing_a_smarthost_says_against_us_is_final(text: str, stage: Stage) -> None:
    from_smarthost, from_mx = (judge(text, stage=stage, via=via) for via in (Via.SMARTHOST, Via.MX))
    assert (from_mx.blame, from_mx.permanent) == (Blame.SENDER, True)
    assert from_smarthost == replace(from_mx, permanent=False)
    assert from_smarthost.suppress is None


def test_of_recipients_and_content_a_smarthost_speaks_as_any_other() -> None:
    of_others = [rule for rule in RULES.rules if rule.meaning.blame in (Blame.RECIPIENT, Blame.CONTENT)]
    for rule in of_others:
        stage, mx = place_of(rule)
        for sample in rule.samples:
            verdict = judge(sample, stage=stage, mx=mx, via=Via.SMARTHOST)
            assert verdict == judge(sample, stage=stage, mx=mx), sample
    assert sum(len(rule.samples) for rule in of_others) > 100


def test_the_rules_have_samples_enough_of_receivers_enough() -> None:
    assert len(SAMPLES) >= 250
    assert len({rule.provider for rule in RULES.rules} - {"any"}) >= 12
    assert all(rule.samples and rule.why for rule in RULES.rules)


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH, Stage.MAIL])
@pytest.mark.parametrize("text", ["550 5.1.1 User unknown", "550 mailbox not found", "552 5.2.2 mailbox full"])
def test_before_rcpt_no_recipient_is_blamed(stage: Stage, text: str) -> None:
    verdict = judge(text, stage=stage)
    assert verdict.blame is Blame.SENDER
    assert verdict.suppress is None


@pytest.mark.parametrize(
    ("text", "recipients", "blame", "suppress"),
    [
        pytest.param("550 5.1.1 User unknown", 1, Blame.RECIPIENT, AT_ONCE, id="a text, one recipient"),
        pytest.param("550 5.1.1 User unknown", 2, Blame.CONTENT, None, id="a text, two recipients"),
        pytest.param("550 5.1.1 Nothing known", 1, Blame.CONTENT, None, id="the code alone, one recipient"),
        pytest.param("550 5.1.1 Nothing known", 2, Blame.CONTENT, None, id="the code alone, two recipients"),
        pytest.param("552 5.2.2 mailbox full", 1, Blame.RECIPIENT, WHEN_FULL, id="a full mailbox, one recipient"),
        pytest.param("450 4.1.1 User unknown", 2, Blame.TRANSIENT, None, id="a 4xx, two recipients"),
    ],
)
@pytest.mark.parametrize("stage", [Stage.DATA, Stage.FINAL])
def test_at_the_dot_a_recipient_is_blamed_alone_and_by_text(
    stage: Stage, text: str, recipients: int, blame: Blame, suppress: Suppress | None
) -> None:
    verdict = judge(text, stage=stage, recipients=recipients)
    assert (verdict.blame, verdict.suppress) == (blame, suppress)


@pytest.mark.parametrize(
    ("text", "suppress"),
    [
        pytest.param("550 5.1.1 Nothing known", AT_ONCE, id="5.1.1, unknown text"),
        pytest.param("501 5.1.3 Nothing known", AT_ONCE, id="5.1.3, unknown text"),
        pytest.param("550 5.1.6 Nothing known", AT_ONCE, id="5.1.6, unknown text"),
        pytest.param("550 5.2.1 Nothing known", AT_ONCE, id="5.2.1, unknown text"),
        pytest.param("550 5.2.1 Mailbox unavailable", AT_ONCE, id="5.2.1, a text that says nothing"),
        pytest.param("550 No such user here", AT_ONCE, id="an equivalent text without a code"),
        pytest.param("550 sorry, no mailbox here by that name. (#5.1.1)", AT_ONCE, id="a code in the text"),
        pytest.param("550 5.1.2 Nothing known", AT_THE_SECOND, id="5.1.2 counts"),
        pytest.param("552 5.2.2 Nothing known", WHEN_FULL, id="5.2.2 counts"),
        pytest.param("452 4.2.2 Nothing known", WHEN_FULL, id="4.2.2 counts too"),
        pytest.param("450 4.1.1 User unknown", None, id="a 4xx is not dead"),
        pytest.param("421 4.2.1 User unknown", None, id="nor a 421"),
        pytest.param("550 5.7.1 Nothing known", None, id="5.7.1, unknown text"),
        pytest.param("550 5.7.26 Nothing known", None, id="5.7.26, unknown text"),
        pytest.param("554 5.7.606 Nothing known", None, id="5.7.606, unknown text"),
        pytest.param("550 5.7.1 User unknown", None, id="a security code makes any server's text doubtful"),
        pytest.param("550 Nothing known", None, id="550 alone"),
        pytest.param("550 5.1.0 Nothing known", None, id="5.1.0"),
        pytest.param("550 5.0.0 Nothing known", None, id="5.0.0"),
        pytest.param("550 Requested action not taken: mailbox unavailable", None, id="mailbox unavailable alone"),
        pytest.param("550 5.1.1 User unknown, or blocked by us", None, id="5.1.1 beside doubt"),
        pytest.param("550 5.1.1 Recipient address rejected: local policy", None, id="5.1.1 beside a policy"),
        pytest.param("550 5.1.1 Rejected: 192.0.2.1 is on a blacklist", None, id="5.1.1 beside a block list"),
        pytest.param("550 5.1.1 <spam@example.org>: User unknown", AT_ONCE, id="an address is not a text about spam"),
        pytest.param(
            "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents more of it",
            None,
            id="Google's 5.2.1 for a rate",
        ),
        pytest.param(
            "550 5.7.1 Messages from [192.0.2.1] weren't sent: part of their network is on our block list (S3150)",
            None,
            id="a block of our address",
        ),
        pytest.param("550 5.1.10 Recipient domain has a null MX", AT_THE_SECOND, id="a null MX as told by a server"),
    ],
)
def test_what_suppresses_a_recipient(text: str, suppress: Suppress | None) -> None:
    assert judge(text).suppress == suppress


# A code or a word of a dead mailbox, and another word that makes it doubtful.
LIVING = (
    "550 5.7.1 Message rejected due to low sender reputation, no such user policy",
    "550 5.1.1 Mail rejected: sender has no valid mailbox",
    "550 5.1.1 Recipient rejected because your IP has too many invalid recipients",
    "550 Too many invalid recipients",
    "554 5.1.1 Blocked for spam",
    "550 No such user - sender verification failed",
    "550 5.1.0 sender address does not exist",
    "550 Sender verify failed: no such user here",
    "553 5.1.8 sender domain unknown",
    "550 5.7.1 Unable to verify recipient at this time",
    "550 mailbox temporarily unavailable",
    "450 4.1.1 unknown recipient",
    "554 5.7.1 you have been blocked by the recipient",
    "550 5.2.1 mailbox is over its hourly limit",
    "550 5.2.1 Mailbox temporarily disabled for too much mail",
    "550 5.2.1 recipient exceeded its rate limit",
    "550 5.2.1 Too many messages for this mailbox",
    "550 5.1.1 user unknown; too many attempts from your host",
    "550 Invalid recipient limit exceeded",
    "550 5.1.1 Invalid recipients limit reached, go away",
    "550 5.7.1 This account does not accept mail from outside",
    "550 Address verification in progress",
    "550 5.1.1 recipient verification failed: timeout",
    "550 5.1.1 Callout verification failed: connection timed out",
    "550 5.1.1 cannot verify recipient, ldap server down",
    "550 no mailbox space left",
    "550 Invalid address in From header",
    "550 unknown user agent",
    "550 Account not found in whitelist",
    "550 5.1.3 Invalid sender address syntax",
    "501 5.1.3 bad sender address",
    "501 5.1.7 Invalid address",
    "553 invalid address: envelope sender",
    "550 5.1.1 Your message was rejected by the user's rules",
    "550 no user authentication provided",
    "550 No account quota left",
    "550 5.1.1 Access denied",
    "550 5.1.1 Message blocked by content filter",
    "550 User has exceeded quota",
    "550 5.1.1 Greylisted",
    "550 5.1.1 try again later",
    "550 5.1.1 Delivery temporarily suspended",
    "550 5.1.1 Recipient address rejected: Greylisting in effect",
    "550 5.1.1 Policy rejection",
    "550 5.1.1 SPF check failed",
    "550 5.2.1 SPF fail",
    "550 5.1.1 Relaying denied",
    "550 5.1.1 relay access denied",
    "550 5.1.1 sender rejected",
    "550 5.1.1 Mailbox full",
    "550 5.1.1 over quota",
    "550 5.1.1 Service unavailable",
    "550 5.2.1 server busy",
    "550 5.2.1 Message size exceeds limit",
    "550 5.1.3 Message too large",
    "550 5.1.6 recipient has moved, please try new@example.org",
    "550 5.2.1 Account temporarily locked",
    "550 5.2.1 Mailbox suspended",
    "550 no mailbox for sender",
    "550 5.1.1 DMARC",
    "550 5.1.1 rejected, TLS required",
    "550 5.1.1 not allowed",
    "550 5.1.1 too busy",
    "550 unknown user or password incorrect",
    "535 5.7.8 unknown user",
    "550 5.1.1 Invalid login: user unknown",
    "550 5.1.1 Rejected by Barracuda",
    "550 5.1.1 reverse DNS lookup: host not found",
    "550 no such domain in sender address",
    "550 Invalid account status, please try later",
)


@pytest.mark.parametrize("text", LIVING)
def test_doubt_never_suppresses_at_once(text: str) -> None:
    suppress = judge(text).suppress
    assert suppress is None or suppress.messages > 1


DEAD = (
    "550 5.1.1 unknown",
    "550 Mailbox does not exist!",
    "550 5.1.1 <x@y.example>: Email address could not be found, or was misspelled (G8)",
    "550 5.4.1 Recipient address rejected: Access denied. [X.prod.protection.outlook.com]",
    "550 5.1.1 RCPT TO: User not found",
    "550 5.1.1 Addressee unknown, relay=[1.2.3.4]",
    "550 <x@y.example> No such user here",
    "553 5.3.0 <x@y.example>... No such user here",
    "550 #5.1.0 Address rejected.",
    "550 cuda_nsu 5.1.1 <x@y.example>: User unknown",
    "550 5.1.1 : user unknown",
    "550 5.1.1 Account does not exist",
    "554 delivery error: dd This user doesn't have a yahoo.fr account (x@yahoo.fr) [-5]",
    "550 Invalid recipient: <x@i.softbank.example>",
    "550 5.1.1 unknown or illegal alias: x@icloud.com",
    "550 Recipient not found",
    "550 5.1.1 sorry, no mailbox here by that name",
    "550 5.1.1 Not our Customer",
    "511 5.1.1 unknown address or alias: x@y",
    "550 Unknown recipient x",
    "550 User x@y.example does not exist",
    "550 5.5.1 Recipient rejected - no such user",
    "550 Message was not accepted -- invalid mailbox. Local mailbox x@mail.ru is unavailable: user not found",
    "550 Mailbox not found. http://service.mail.qq.com/cgi-bin/help?subtype=1&&id=20022&&no=1000728",
    "550 5.1.1 El usuario no existe",
)


@pytest.mark.parametrize("text", DEAD)
def test_the_dead_are_found_in_many_words(text: str) -> None:
    assert judge(text).suppress == AT_ONCE


@pytest.mark.parametrize(
    ("text", "stage", "blame", "category"),
    [
        pytest.param("550 5.7.1 Go away", Stage.MAIL, Blame.SENDER, Category.POLICY, id="5.7.1 before the content"),
        pytest.param("550 5.7.1 Go away", Stage.RCPT, Blame.SENDER, Category.POLICY, id="5.7.1 at RCPT"),
        pytest.param("550 5.7.1 Go away", Stage.FINAL, Blame.CONTENT, Category.POLICY, id="5.7.1 after the content"),
        pytest.param("450 4.7.1 Not now", Stage.RCPT, Blame.TRANSIENT, Category.POLICY, id="a bare 4.7.1"),
        pytest.param("550 5.7.25 No", Stage.FINAL, Blame.SENDER, Category.AUTH, id="5.7.25"),
        pytest.param("552 No", Stage.RCPT, Blame.RECIPIENT, Category.MAILBOX_FULL, id="552 at RCPT"),
        pytest.param("552 No", Stage.FINAL, Blame.CONTENT, Category.TOO_BIG, id="552 after the dot"),
        pytest.param("552 No", Stage.MAIL, Blame.CONTENT, Category.TOO_BIG, id="552 at MAIL answers SIZE"),
        pytest.param("554 No", Stage.GREETING, Blame.SENDER, Category.POLICY, id="554 as greeting"),
        pytest.param("554 No", Stage.FINAL, Blame.CONTENT, Category.POLICY, id="554 after the dot"),
        pytest.param("421 Bye", Stage.RCPT, Blame.TRANSIENT, Category.SYSTEM, id="421"),
        pytest.param("421 4.2.1 Bye", Stage.RCPT, Blame.TRANSIENT, Category.SYSTEM, id="421 is not about a mailbox"),
        pytest.param("451 4.3.0 Wait", Stage.FINAL, Blame.TRANSIENT, Category.SYSTEM, id="451 4.3.0"),
        pytest.param("500 What?", Stage.DATA, Blame.TRANSIENT, Category.PROTOCOL, id="500"),
        pytest.param("550 5.5.0 No", Stage.RCPT, Blame.RECIPIENT, Category.POLICY, id="5.5.0 beside 550 says nothing"),
        pytest.param("550 5.4.4 No", Stage.RCPT, Blame.TRANSIENT, Category.NETWORK, id="5.4.4"),
        pytest.param("535 No", Stage.AUTH, Blame.SENDER, Category.AUTH, id="535"),
        pytest.param("550 4.1.1 No", Stage.RCPT, Blame.RECIPIENT, Category.POLICY, id="a code of another class"),
    ],
)
def test_unknown_texts_are_judged_by_their_codes(text: str, stage: Stage, blame: Blame, category: Category) -> None:
    verdict = judge(text, stage=stage, recipients=3)
    assert (verdict.blame, verdict.category, verdict.rule) == (blame, category, "")


@pytest.mark.parametrize(
    ("text", "permanent"),
    [
        pytest.param("550 5.1.1 User unknown", True, id="a 5xx is final"),
        pytest.param("450 4.1.1 User unknown", False, id="a 4xx is not, whatever it says"),
        pytest.param(
            "421 4.7.1 All messages will be permanently deferred", False, id="nor where it calls itself permanent"
        ),
        pytest.param("552 5.5.3 Too many recipients", False, id="too many recipients go again (RFC 5321 4.5.3.1.10)"),
        pytest.param("554 5.5.3 Unheard of", False, id="5.5.3 too, without words"),
        pytest.param("550 Ip frequency limited", False, id="a 550 for minutes"),
    ],
)
def test_a_replys_class_decides_but_where_a_rule_knows_better(text: str, permanent: bool) -> None:
    assert judge(text).permanent is permanent


def test_a_transient_reply_is_categorised_all_the_same() -> None:
    verdict = judge("451 4.1.1 User unknown in virtual alias table")
    assert (verdict.blame, verdict.category, verdict.permanent) == (Blame.RECIPIENT, Category.BAD_MAILBOX, False)


@pytest.mark.parametrize(
    ("mx", "suppress"),
    [
        pytest.param("mfsmax.docomo.ne.jp", None, id="a carrier that says so of filters too"),
        pytest.param("MX.Example.NET.", AT_ONCE, id="any other server"),
        pytest.param("", AT_ONCE, id="a server unknown"),
    ],
)
def test_words_mean_what_their_server_means_by_them(mx: str, suppress: Suppress | None) -> None:
    assert judge("550 Unknown user someone@example.ne.jp", mx=mx).suppress == suppress


def test_a_block_of_our_address_trips_the_breaker() -> None:
    verdict = judge("550 5.7.1 blocked using zen.spamhaus.org", stage=Stage.MAIL)
    assert (verdict.blame, verdict.action, verdict.permanent) == (Blame.SENDER, "block", True)


def test_dns_alone_proves_a_bad_domain_at_the_first_time() -> None:
    verdict = bad_domain(SuppressionTimes(bad_domain=60.0))
    assert (verdict.blame, verdict.permanent) == (Blame.RECIPIENT, True)
    assert verdict.suppress == Suppress(Cause.BAD_DOMAIN, seconds=60.0, messages=1, over=0.0)


def test_the_numbers_of_the_config_reach_the_verdict() -> None:
    rules = load_rules(
        None, Suppressions(mailbox_full=5.0, mailbox_full_messages=9, mailbox_full_over=7.0, bad_domain=8.0)
    )
    assert judge("552 5.2.2 Full", rules=rules).suppress == Suppress(Cause.MAILBOX_FULL, 5.0, messages=9, over=7.0)
    assert judge("550 5.1.2 Where?", rules=rules).suppress == Suppress(Cause.BAD_DOMAIN, 8.0, messages=2, over=0.0)


WORDS = sorted({word for rule in RULES.rules for phrase in rule.text for word in phrase.whole_words()})
texts = st.one_of(st.text(max_size=300), st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join))
statuses = st.one_of(
    st.just(""), st.builds("{}.{}.{}".format, st.integers(4, 5), st.integers(0, 9), st.integers(0, 60))
)


@given(
    reply=st.builds(Reply, code=st.integers(200, 599), status=statuses, text=texts),
    stage=st.sampled_from(Stage),
    recipients=st.integers(1, 100),
    via=st.sampled_from(Via),
    mx=st.sampled_from(["", "mx1.example.net", "alt1.gmail-smtp-in.l.google.com", "mx00.gmx.net", "mxs.mail.ru"]),
)
def test_no_reply_breaks_the_principles(reply: Reply, stage: Stage, recipients: int, via: Via, mx: str) -> None:
    verdict = classify(reply, stage=stage, recipients=recipients, mx=mx, via=via, rules=RULES)
    assert not (verdict.permanent and reply.code < 500)
    assert not (verdict.permanent and via is Via.SMARTHOST and verdict.blame is Blame.SENDER)
    if verdict.suppress is not None:
        assert verdict.blame is Blame.RECIPIENT
        assert verdict.permanent or verdict.suppress.cause is Cause.MAILBOX_FULL
    if verdict.blame is Blame.RECIPIENT:
        assert stage is Stage.RCPT or (stage in (Stage.DATA, Stage.FINAL) and recipients == 1 and verdict.rule)


HOSTILE = {
    "one long word": "a" * 8192,
    "one word of many phrases, over and over": "mailbox " * 1024,
    "beginnings of phrases": "the email account that you tried to reach is " * 180,
    "every word of every phrase": " ".join(WORDS)[:8192],
    "nothing but @": "@" * 8192,
    "nothing but combining accents": "\u0301" * 8192,
    "things like enhanced codes": "5.1." * 2048,
    "digits and units": "again 1 2 3 4 5 6 7 8 9 " * 341,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reply_costs_little(text: str) -> None:
    assert _seconds(Reply(550, "", text)) < 0.02  # measured: at most 0.001


def test_a_usual_reply_costs_microseconds() -> None:
    costs = [_seconds(reply_of(sample)) for rule in RULES.rules for sample in rule.samples]
    assert median(costs) < 0.0004  # measured: 0.00002


def _seconds(reply: Reply) -> float:
    best = 1.0
    for _ in range(3):
        start = time.perf_counter()
        classify(reply, stage=Stage.RCPT, recipients=1, mx="mx.example.net", rules=RULES)
        best = min(best, time.perf_counter() - start)
    return best
