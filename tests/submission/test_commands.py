"""The whole product of states and verbs: what the table has, and what is said to the rest."""

import pytest

from relay.mail.reply import Reply
from relay.submission import commands
from relay.submission.commands import IN_TRANSACTION, TRANSITIONS, UNAUTHENTICATED, State, Verb, out_of_order

ALWAYS = {Verb.EHLO, Verb.HELO, Verb.NOOP, Verb.RSET, Verb.VRFY, Verb.HELP, Verb.QUIT}
LEGAL = {
    State.CLEAR: ALWAYS,
    State.CLEAR_HELO: ALWAYS,
    State.CLEAR_EHLO: ALWAYS | {Verb.STARTTLS},
    State.SECURE: ALWAYS,
    State.SECURE_HELO: ALWAYS,
    State.SECURE_EHLO: ALWAYS | {Verb.AUTH},
    State.TRUSTED: ALWAYS,
    State.READY: ALWAYS | {Verb.MAIL},
    State.MAIL: ALWAYS | {Verb.RCPT},
    State.RCPT: ALWAYS | {Verb.RCPT, Verb.DATA, Verb.BDAT},
    State.CHUNKS: ALWAYS | {Verb.BDAT},
}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize("verb", Verb, ids=lambda verb: verb.value)
def test_every_pair_is_legal_or_refused(state: State, verb: Verb) -> None:
    assert ((state, verb) in TRANSITIONS) == (verb in LEGAL[state])
    if verb not in LEGAL[state]:
        refusal = out_of_order(state, verb)
        assert refusal.code in (503, 530, 538)
        assert refusal.status[0] == "5"


@pytest.mark.parametrize(
    ("state", "verb", "after"),
    [
        pytest.param(State.CLEAR_EHLO, Verb.STARTTLS, State.SECURE, id="STARTTLS begins anew, inside TLS"),
        pytest.param(State.SECURE_EHLO, Verb.AUTH, State.READY, id="AUTH"),
        pytest.param(State.TRUSTED, Verb.EHLO, State.READY, id="a trusted client is ready when it has said its name"),
        pytest.param(State.RCPT, Verb.EHLO, State.READY, id="EHLO ends a transaction"),
        pytest.param(State.CHUNKS, Verb.RSET, State.READY, id="RSET ends a transaction"),
        pytest.param(State.SECURE_EHLO, Verb.RSET, State.SECURE_EHLO, id="RSET forgets no greeting"),
        pytest.param(State.SECURE_EHLO, Verb.HELO, State.SECURE_HELO, id="HELO takes AUTH away"),
        pytest.param(State.RCPT, Verb.DATA, State.READY, id="DATA ends a transaction"),
    ],
)
def test_where_a_command_leads(state: State, verb: Verb, after: State) -> None:
    assert TRANSITIONS[state, verb] is after


def test_nothing_but_auth_or_a_trusted_listener_leads_to_mail() -> None:
    ways_in = {
        pair
        for pair, after in TRANSITIONS.items()
        if after not in UNAUTHENTICATED | {State.TRUSTED} and pair[0] in UNAUTHENTICATED | {State.TRUSTED}
    }
    assert ways_in == {(State.SECURE_EHLO, Verb.AUTH), (State.TRUSTED, Verb.EHLO), (State.TRUSTED, Verb.HELO)}
    assert {state for state, verb in TRANSITIONS if verb is Verb.MAIL} == {State.READY}
    assert {after for (_, verb), after in TRANSITIONS.items() if verb is Verb.MAIL} <= IN_TRANSACTION


@pytest.mark.parametrize(
    ("state", "verb", "reply"),
    [
        pytest.param(State.CLEAR, Verb.AUTH, commands.AUTH_NEEDS_TLS, id="AUTH in clear text, before EHLO"),
        pytest.param(State.CLEAR_EHLO, Verb.AUTH, commands.AUTH_NEEDS_TLS, id="AUTH in clear text"),
        pytest.param(State.CLEAR_EHLO, Verb.MAIL, commands.STARTTLS_REQUIRED, id="MAIL in clear text"),
        pytest.param(State.SECURE_EHLO, Verb.MAIL, commands.AUTH_REQUIRED, id="MAIL before AUTH"),
        pytest.param(State.SECURE_EHLO, Verb.BDAT, commands.AUTH_REQUIRED, id="BDAT before AUTH"),
        pytest.param(State.SECURE_HELO, Verb.AUTH, commands.EHLO_FIRST, id="AUTH after HELO"),
        pytest.param(State.READY, Verb.AUTH, commands.AUTHENTICATED_ALREADY, id="AUTH twice"),
        pytest.param(State.RCPT, Verb.AUTH, commands.IN_TRANSACTION_ALREADY, id="AUTH in a transaction"),
        pytest.param(State.CLEAR, Verb.STARTTLS, commands.EHLO_FIRST, id="STARTTLS before EHLO"),
        pytest.param(State.READY, Verb.STARTTLS, commands.TLS_ALREADY, id="STARTTLS inside TLS"),
        pytest.param(State.TRUSTED, Verb.MAIL, commands.EHLO_FIRST, id="MAIL before EHLO where no AUTH is wanted"),
        pytest.param(State.MAIL, Verb.MAIL, commands.IN_TRANSACTION_ALREADY, id="MAIL twice"),
        pytest.param(State.READY, Verb.RCPT, commands.MAIL_FIRST, id="RCPT without MAIL"),
        pytest.param(State.READY, Verb.DATA, commands.MAIL_FIRST, id="DATA without MAIL"),
        pytest.param(State.MAIL, Verb.DATA, commands.NO_RECIPIENT, id="DATA without a recipient"),
        pytest.param(State.CHUNKS, Verb.DATA, commands.LAST_FIRST, id="DATA after BDAT"),
    ],
)
def test_what_is_said(state: State, verb: Verb, reply: Reply) -> None:
    assert out_of_order(state, verb) is reply
