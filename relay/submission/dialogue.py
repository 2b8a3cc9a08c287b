"""submission.dialogue: what is answered to each command (RFC 5321, 6409; 2034, 3030, 3207, 4954).

One command, line of an AUTH exchange or end of content goes in; an `Answer` comes out: octets to send, and whose turn
it is then. Whether a command is in order is `commands`' table; a message is `intake`'s; a login is `sasl`'s and
`auth`'s. No reply of ours is a 5xx for trouble of ours, and none says what the trouble is: that is in the log, under
the reply's id.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.registry.credentials import Credential
from relay.registry.snapshot import Login
from relay.registry.usage import Use
from relay.submission import replies
from relay.submission.admission import TOO_MANY_OF_CREDENTIAL, Admission
from relay.submission.auth import Denied, check
from relay.submission.client import Client
from relay.submission.commands import IN_TRANSACTION, TRANSITIONS, UNAUTHENTICATED, State, Verb, out_of_order
from relay.submission.intake import Intake, shown
from relay.submission.limits import Excess
from relay.submission.refusal import Refused, record
from relay.submission.sasl import Attempt, Challenge, Exchange, Step
from relay.submission.services import Services
from relay.submission.terms import Terms

NONSENSE_LIMIT = 5  # lines that are no command
NAME_LIMIT = 255  # octets of an EHLO name that are kept: RFC 5321 4.5.3.1.2

# A browser, or a form that was made to come here: what follows must not be taken for commands.
_FOREIGN = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) |[!-9;-~]+:")
_CHUNK = re.compile(rb" *(\d{1,19})( +LAST)? *", re.IGNORECASE)
_VERBS = {verb.value.encode(): verb for verb in Verb}


class Turn(Enum):
    """What the client's next octets are."""

    COMMAND = "a command"
    EXCHANGE = "a line of an AUTH exchange"
    CONTENT = "a message's content, or a part of it"
    TLS = "TLS, once it is up"
    COMMIT = "not to be read before the message is handed over"
    OVER = "nothing any more"


# Named once: Python 3.11 takes 0.15 µs to find an enumeration's member, and a command asks for five.
COMMAND = Turn.COMMAND
EXCHANGE = Turn.EXCHANGE
CONTENT = Turn.CONTENT
TLS = Turn.TLS
COMMIT = Turn.COMMIT
OVER = Turn.OVER

Answer = tuple[bytes, Turn]


class Dialogue:
    """One client's. `state` is where it is, `submitted` what is to be handed over when the turn is COMMIT."""

    __slots__ = (
        "_admission",
        "_commands",
        "_ehlo",
        "_exchange",
        "_failures",
        "_first",
        "_helo",
        "_intake",
        "_last_chunk",
        "_login",
        "_nonsense",
        "_services",
        "_skipping",
        "_smtputf8",
        "_terms",
        "_tls",
        "client",
        "state",
        "submitted",
    )

    def __init__(
        self, terms: Terms, services: Services, client: Client, *, admission: Admission, over: Excess, tls: str
    ) -> None:
        self._terms = terms
        self._services = services
        self._admission = admission
        self._intake = Intake(terms, services, over, client)
        self.client = client
        self._login: Login | None = None
        trusted = services.snapshot().credentials.get(terms.trusted)
        if trusted is not None:
            self._login = Login(trusted)
        self.submitted: Submitted | None = None
        self._exchange: Exchange | None = None  # while AUTH is under way
        self._commands = self._nonsense = self._failures = 0
        self._last_chunk = self._skipping = self._smtputf8 = False
        self.begin(tls)

    def begin(self, tls: str) -> None:
        """As before anything was said. RFC 3207 4.2: nothing learnt before TLS is kept."""
        self._tls = self._intake.tls = tls
        self.state = State.TRUSTED if self._terms.trusted else State.SECURE if tls else State.CLEAR
        self._ehlo = ""
        self._helo = False
        self._first = True

    @property
    def is_idle(self) -> bool:
        return self.state not in IN_TRANSACTION

    @property
    def credential(self) -> Credential | None:
        """As of the last MAIL; None before AUTH."""
        return self._login.credential if self._login is not None else None

    def current_login(self) -> Login | None:
        """The session's as it is now; None once it was revoked, has expired or may not come from here."""
        if self._login is None:
            return None
        login = self._services.snapshot().current(self._login, now=self._services.now())
        return login if login is not None and login.allows_client(self.client.address) else None

    def reset(self) -> None:
        """Forget the message under way."""
        self._intake.reset()

    # -- lines ----------------------------------------------------------------------------------------------------

    def command(self, line: bytes) -> Answer:
        """A line that is no part of an exchange, without its CRLF."""
        if self._first and self._is_foreign(line):
            return replies.NOT_SMTP, OVER
        if self.state in UNAUTHENTICATED:
            self._commands += 1
            if self._commands > self._terms.limits.unauthenticated_commands:
                return replies.TOO_MANY_COMMANDS, OVER
        word, _, argument = line.partition(b" ")
        verb = _VERBS.get(word.upper())
        return self._carry_out(verb, argument) if verb is not None else self._refuse_nonsense(replies.UNKNOWN)

    def malformed(self, line: bytes, refusal: bytes) -> Answer:
        """A line that is too long or ends in no CRLF, as far as it has come."""
        return (replies.NOT_SMTP, OVER) if self._is_foreign(line) else self._refuse_nonsense(refusal)

    def _is_foreign(self, line: bytes) -> bool:
        first, self._first = self._first, False
        is_foreign = first and _FOREIGN.match(line) is not None
        if is_foreign:
            self._services.log.info("session is not SMTP", client=self.client.address)
        return is_foreign

    def _refuse_nonsense(self, refusal: bytes) -> Answer:
        """A line that is no command, so many times and no more."""
        self._nonsense += 1
        return (refusal, COMMAND) if self._nonsense < NONSENSE_LIMIT else (replies.NONSENSE, OVER)

    def exchange(self, line: bytes) -> Answer:
        if self._exchange is None:
            raise RuntimeError("no AUTH is under way")
        return self._step(self._exchange.proceed(line))

    def _carry_out(self, verb: Verb, argument: bytes) -> Answer:
        after = TRANSITIONS.get((self.state, verb))
        try:
            if after is None:
                return self._refuse_order(verb, argument)
            return self._COMMANDS[verb](self, argument, after)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and never a 5xx
            return self._trouble(verb, error), COMMAND

    def _trouble(self, verb: Verb, error: Exception) -> bytes:
        try:
            reference = self._services.new_id()
        except Exception:  # noqa: BLE001 - what broke may be just that
            reference = "no id"
        self._services.log.exception("command broke", error, id=reference, verb=verb.value)
        return Reply(451, "4.3.0", f"Trouble here; try again later ({reference})").wire()

    def _refuse_order(self, verb: Verb, argument: bytes) -> Answer:
        refusal = out_of_order(self.state, verb).wire()
        return self._skip_chunk(argument, refusal) if verb is Verb.BDAT else (refusal, COMMAND)

    def _say(self, reply: Reply) -> Answer:
        return reply.wire(smtputf8=self._intake.smtputf8), COMMAND

    # -- commands of the session ----------------------------------------------------------------------------------

    def _on_ehlo(self, argument: bytes, after: State) -> Answer:
        offer = self._terms.ehlo_secure if self._tls else self._terms.ehlo_clear
        return self._greet(argument, after, offer)

    def _on_helo(self, argument: bytes, after: State) -> Answer:
        return self._greet(argument, after, self._terms.helo)

    def _greet(self, argument: bytes, after: State, octets: bytes) -> Answer:
        """RFC 5321 4.1.4: whatever name it gives; some clients send a file name, some "vm"."""
        name = argument.strip(b" ")
        if not name:
            return replies.NO_NAME, COMMAND
        self._intake.reset()
        self._helo = octets is self._terms.helo
        self._ehlo = name[:NAME_LIMIT].decode("utf-8", "backslashreplace")
        self.state = after
        return octets, COMMAND

    def _on_starttls(self, argument: bytes, _after: State) -> Answer:
        if argument.strip(b" "):
            return replies.NO_ARGUMENT, COMMAND  # RFC 3207 4
        return replies.START_TLS, TLS

    def _on_noop(self, _argument: bytes, _after: State) -> Answer:
        return replies.OK, COMMAND

    def _on_rset(self, _argument: bytes, after: State) -> Answer:
        self._intake.reset()
        self.state = after
        return replies.OK, COMMAND

    def _on_vrfy(self, _argument: bytes, _after: State) -> Answer:
        return replies.CANNOT_VERIFY, COMMAND

    def _on_help(self, _argument: bytes, _after: State) -> Answer:
        return replies.HELP, COMMAND

    def _on_quit(self, _argument: bytes, _after: State) -> Answer:
        return replies.BYE, OVER

    # -- authentication -------------------------------------------------------------------------------------------

    def _on_auth(self, argument: bytes, _after: State) -> Answer:
        self._exchange = Exchange()
        return self._step(self._exchange.begin(argument))

    def _step(self, step: Step) -> Answer:
        if isinstance(step, Challenge):
            return step.octets, EXCHANGE
        self._exchange = None
        if isinstance(step, Attempt):
            return self._attempt(step)
        return self._say(step.reply)

    def _attempt(self, attempt: Attempt) -> Answer:
        outcome = check(attempt, self.client, self._services)
        if isinstance(outcome, Denied):
            return self._deny(attempt.login, outcome)
        limit = self._terms.limits.sessions_per_credential
        if not self._admission.move_to_credential(outcome.credential.name, limit=limit):
            return TOO_MANY_OF_CREDENTIAL.wire(), OVER
        self._login = outcome
        self.state = TRANSITIONS[self.state, Verb.AUTH]
        self._services.facts.auth_succeeded()
        return replies.AUTHENTICATED, COMMAND

    def _deny(self, login: str, denied: Denied) -> Answer:
        self._services.facts.auth_failed(denied.failure)
        self._services.log.warning(
            "authentication failed", reason=denied.failure.value, login=login, client=self.client.address
        )
        self._failures += denied.is_guess
        if self._failures >= self._terms.limits.auth_failures_per_session:
            return replies.TOO_MANY_FAILURES, OVER
        return denied.reply.wire(), OVER if denied.reply.code == 421 else COMMAND

    # -- messages -------------------------------------------------------------------------------------------------

    def _on_mail(self, argument: bytes, after: State) -> Answer:
        login = self.current_login()
        if login is None:
            return self._end_without_login(argument)
        refusal = self._intake.mail(argument, login.credential)
        if refusal is not None:
            return self._say(refusal)
        self._login = login
        self.state = after
        return replies.SENDER_OK, COMMAND

    def _end_without_login(self, argument: bytes = b"") -> Answer:
        """The credential or its secret is not good any more, or a trusted listener names one that is not there."""
        self.record_not_valid(argument)
        self._intake.reset()
        return replies.NOT_VALID.wire(), OVER

    def record_not_valid(self, argument: bytes = b"") -> None:
        """That a message was refused for it: the one under way, or the one this argument of MAIL was to begin."""
        known = self.credential
        refused = Refused(
            credential=known.name if known is not None else self._terms.trusted,
            stream=known.stream if known is not None else "",
            client=self.client.address,
            tls=self._tls,
            sender=self._intake.sender,
            detail=shown(argument),
        )
        record(replies.NOT_VALID, refused, self._services)

    def _on_rcpt(self, argument: bytes, after: State) -> Answer:
        refusal = self._intake.rcpt(argument)
        if refusal is not None:
            return self._say(refusal)
        self.state = after
        return replies.RECIPIENT_OK, COMMAND

    def _on_data(self, argument: bytes, _after: State) -> Answer:
        if argument.strip(b" "):
            return replies.NO_ARGUMENT, COMMAND
        self._last_chunk, self._skipping = True, False
        self._intake.begin_data()
        return replies.SEND_DATA, CONTENT

    def _on_bdat(self, argument: bytes, after: State) -> Answer:
        match = _CHUNK.fullmatch(argument)
        if match is None:
            return replies.CHUNK_FORM, OVER  # where the next command begins is unknown
        self.state = after
        self._last_chunk, self._skipping = match[2] is not None, False
        size = int(match[1])
        self._intake.begin_chunk(size)
        return (b"", CONTENT) if size else self.content_ended()

    def _skip_chunk(self, argument: bytes, refusal: bytes) -> Answer:
        """RFC 3030 2: the octets of a BDAT come whatever was said to it."""
        match = _CHUNK.fullmatch(argument)
        if match is None:
            return replies.CHUNK_FORM, OVER
        size, self._skipping = int(match[1]), True
        self._intake.skip_chunk(size)
        return refusal, CONTENT if size else COMMAND

    def content(self, octets: bytes) -> int | None:
        """Content; None while there is more to come, then how many of the last octets lie beyond its end."""
        return self._intake.take(octets)

    def content_ended(self) -> Answer:
        """All of a DATA, or of a BDAT."""
        if self._skipping:
            return b"", COMMAND  # it has its reply
        if not self._last_chunk and self._intake.problem is None:
            return replies.OK, COMMAND
        self.state = State.READY  # RFC 3030 2: after a chunk that failed, too, the message is over
        try:
            return self._finish()
        except Exception as error:  # noqa: BLE001 - see _carry_out
            self._intake.reset()
            return self._trouble(Verb.DATA, error), COMMAND

    def _finish(self) -> Answer:
        login = self.current_login()
        if login is None:
            return self._end_without_login()
        self._smtputf8 = self._intake.smtputf8
        outcome = self._intake.finish(login.credential, ehlo=self._ehlo, protocol=self._protocol())
        if isinstance(outcome, Reply):
            return outcome.wire(smtputf8=self._smtputf8), COMMAND
        if self._terms.trusted:  # where nobody logs in, mail is what uses a credential
            self._services.record_use(Use(login.credential.name, self._services.now(), self.client.address))
        self.submitted = outcome
        return b"", COMMIT

    def finished(self, reply: Reply) -> Answer:
        """What came of `submitted`."""
        self.submitted = None
        return reply.wire(smtputf8=self._smtputf8), COMMAND

    def _protocol(self) -> str:
        """RFC 3848, RFC 6531 4.3."""
        if self._helo:
            return "SMTP"
        name = "UTF8SMTP" if self._intake.smtputf8 else "ESMTP"
        return name + ("S" if self._tls else "") + ("" if self._terms.trusted else "A")

    _COMMANDS: ClassVar[dict[Verb, Callable[["Dialogue", bytes, State], Answer]]] = {
        Verb.EHLO: _on_ehlo,
        Verb.HELO: _on_helo,
        Verb.STARTTLS: _on_starttls,
        Verb.AUTH: _on_auth,
        Verb.MAIL: _on_mail,
        Verb.RCPT: _on_rcpt,
        Verb.DATA: _on_data,
        Verb.BDAT: _on_bdat,
        Verb.RSET: _on_rset,
        Verb.NOOP: _on_noop,
        Verb.VRFY: _on_vrfy,
        Verb.HELP: _on_help,
        Verb.QUIT: _on_quit,
    }
