"""submission.commands: which command may come when, as one table, and what is said when it may not.

A pair of state and verb that `TRANSITIONS` has is legal and leads to the state it names, if the command succeeds; every
other pair is refused by `out_of_order` and changes nothing (RFC 5321 4.1.4). Whether a listener offers STARTTLS or AUTH
at all is in the states it begins with, not in the table.
"""

from enum import Enum, StrEnum

from relay.mail.reply import Reply


class Verb(StrEnum):
    """The commands there are; any other is unknown."""

    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    HELP = "HELP"
    QUIT = "QUIT"


class State(Enum):
    """Where a session is between commands. Each name says what was done last."""

    CLEAR = "greeted in clear text; STARTTLS is possible"
    CLEAR_HELO = "HELO in clear text"
    CLEAR_EHLO = "EHLO in clear text"
    SECURE = "greeted, or gone through STARTTLS, inside TLS"
    SECURE_HELO = "HELO inside TLS; who cannot say EHLO cannot AUTH"
    SECURE_EHLO = "EHLO inside TLS"
    TRUSTED = "greeted on a trusted listener"
    READY = "may submit"
    MAIL = "a sender is given"
    RCPT = "at least one recipient is accepted"
    CHUNKS = "at least one BDAT of a message is accepted"

    __hash__ = object.__hash__  # a member is the only one of its value; Enum's own hash is made in Python


_ANYWHERE = (Verb.RSET, Verb.NOOP, Verb.VRFY, Verb.HELP, Verb.QUIT)
_GREETED = {
    State.CLEAR: (State.CLEAR_EHLO, State.CLEAR_HELO),
    State.CLEAR_EHLO: (State.CLEAR_EHLO, State.CLEAR_HELO),
    State.CLEAR_HELO: (State.CLEAR_EHLO, State.CLEAR_HELO),
    State.SECURE: (State.SECURE_EHLO, State.SECURE_HELO),
    State.SECURE_EHLO: (State.SECURE_EHLO, State.SECURE_HELO),
    State.SECURE_HELO: (State.SECURE_EHLO, State.SECURE_HELO),
    State.TRUSTED: (State.READY, State.READY),
    State.READY: (State.READY, State.READY),
    # RFC 5321 4.1.4: EHLO in a transaction is also RSET
    State.MAIL: (State.READY, State.READY),
    State.RCPT: (State.READY, State.READY),
    State.CHUNKS: (State.READY, State.READY),
}
IN_TRANSACTION = frozenset({State.MAIL, State.RCPT, State.CHUNKS})

TRANSITIONS: dict[tuple[State, Verb], State] = {
    **{(state, verb): state for state in State for verb in _ANYWHERE},
    **{(state, Verb.RSET): State.READY for state in IN_TRANSACTION},
    **{(state, Verb.EHLO): after for state, (after, _) in _GREETED.items()},
    **{(state, Verb.HELO): after for state, (_, after) in _GREETED.items()},
    (State.CLEAR_EHLO, Verb.STARTTLS): State.SECURE,
    (State.SECURE_EHLO, Verb.AUTH): State.READY,
    (State.READY, Verb.MAIL): State.MAIL,
    (State.MAIL, Verb.RCPT): State.RCPT,
    (State.RCPT, Verb.RCPT): State.RCPT,
    (State.RCPT, Verb.DATA): State.READY,  # once its content has ended, whatever the reply
    (State.RCPT, Verb.BDAT): State.CHUNKS,
    (State.CHUNKS, Verb.BDAT): State.CHUNKS,  # READY after the last one
}

_CLEAR = frozenset({State.CLEAR, State.CLEAR_HELO, State.CLEAR_EHLO})
UNAUTHENTICATED = _CLEAR | {State.SECURE, State.SECURE_HELO, State.SECURE_EHLO}

AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Say STARTTLS first; a login is not taken in clear text")
AUTH_REQUIRED = Reply(530, "5.7.0", "Authentication required")
STARTTLS_REQUIRED = Reply(530, "5.7.0", "Authentication required; say STARTTLS first")
EHLO_FIRST = Reply(503, "5.5.1", "Say EHLO first")
AUTHENTICATED_ALREADY = Reply(503, "5.5.1", "You are authenticated already")
IN_TRANSACTION_ALREADY = Reply(503, "5.5.1", "A message is under way; end it or say RSET")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is active already, or not offered here")
MAIL_FIRST = Reply(503, "5.5.1", "Say MAIL first")
NO_RECIPIENT = Reply(503, "5.5.1", "No recipient was accepted")
LAST_FIRST = Reply(503, "5.5.1", "The message comes by BDAT; end it with BDAT LAST or say RSET")


def out_of_order(state: State, verb: Verb) -> Reply:
    """What to say to a command for which `TRANSITIONS` has nothing."""
    if verb is Verb.AUTH:
        return _no_auth(state)
    if verb is Verb.STARTTLS:
        return EHLO_FIRST if state in _CLEAR else TLS_ALREADY
    if state in _CLEAR:
        return STARTTLS_REQUIRED  # RFC 3207 4
    if state in UNAUTHENTICATED:
        return AUTH_REQUIRED  # RFC 4954 6
    return _no_transaction_step(state, verb)


def _no_auth(state: State) -> Reply:
    if state in _CLEAR:
        return AUTH_NEEDS_TLS  # RFC 4954 4, 6: and without a challenge
    if state in IN_TRANSACTION:
        return IN_TRANSACTION_ALREADY  # RFC 4954 4
    return AUTHENTICATED_ALREADY if state is State.READY else EHLO_FIRST


def _no_transaction_step(state: State, verb: Verb) -> Reply:
    if state is State.TRUSTED:
        return EHLO_FIRST
    if state is State.CHUNKS:
        return LAST_FIRST  # RFC 3030 2: no DATA, and nothing else of a transaction, after BDAT
    if verb is Verb.MAIL:
        return IN_TRANSACTION_ALREADY  # RFC 5321 4.1.4
    return NO_RECIPIENT if state is State.MAIL else MAIL_FIRST
