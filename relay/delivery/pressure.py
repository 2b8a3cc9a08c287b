"""delivery.pressure: what a server's answers say of how hard its site is pushed, told to the governor.

Asked to send less is who is blamed as a sender for rate or reputation by a reply that is not final. A session that
breaks or is ended with 421 in the middle says less: that one was too many, perhaps. Greylisting and a mailbox's own
limits blame nobody of us, and a refused recipient is no word about the site. A rule of bounce-rules.toml may say more:
that the reply is of connections alone, or of rate and connections, or that the site is suspended. To an address in its
warm-up all of this, and a breaker, is a setback.
"""

from collections.abc import Sequence

from relay.delivery.feedback import Kind, Push
from relay.delivery.governor import SiteLimits
from relay.delivery.setting_back import SettingBack
from relay.delivery.site import Line, Site
from relay.delivery.suspending import Suspending
from relay.mail.meaning import Blame, Category, Slow
from relay.mail.reply import Reply
from relay.mail.verdict import Verdict
from relay.smtpclient import TransactionResult

SERVICE_CLOSES = 421  # RFC 5321 4.2.3: service not available, closing transmission channel
_ABOUT_US = frozenset({Category.THROTTLE, Category.REPUTATION})


class Pressure:
    """One shard's."""

    def __init__(self, limits: SiteLimits, suspending: Suspending, setting_back: SettingBack) -> None:
        self._limits = limits
        self._suspending = suspending
        self._setting_back = setting_back

    async def session_refused(
        self, site: Site, said: str, verdict: Verdict | None, *, epoch: int, in_session: bool
    ) -> bool:
        """Nothing was said about a message. Whether the session was one too many, or the site is suspended for it: then
        it is no trouble. verdict: on the reply, None where there was none.
        """
        kind = Kind.HALVE if verdict is not None and verdict.slow is Slow.BOTH else Kind.REFUSED
        was_surplus = await self._limits.pushed_back(site.counted_as, Push(kind, said, epoch, in_session))
        if verdict is not None:
            self._suspending.obey(site, verdict, said)
            if verdict.slow or _asks_for_less(verdict):
                self._setting_back.heard(site, said)
        return was_surplus or site.suspension is not None

    async def learn(
        self, site: Site, line: Line, result: TransactionResult, judged: Sequence[Verdict | None], *, epoch: int
    ) -> None:
        """From a transaction that is settled. judged: each recipient's verdict."""
        verdicts = [verdict for verdict in judged if verdict is not None]
        kind = pushing(result, verdicts, is_usable=line.connection.usable)
        if kind is None:
            untold = site.governor.succeeded()
            if untold:
                self._limits.taken(site.counted_as, messages=untold)
            return
        site.last_error = str(last_refusal(result) or result.failure)
        cause = f"{site.last_error} from {line.connection.endpoint.name}"
        await self._limits.pushed_back(site.counted_as, Push(kind, cause, epoch))
        for verdict in verdicts:
            self._suspending.obey(site, verdict, cause)
        if kind is not Kind.BROKEN:
            self._setting_back.heard(site, cause)

    def blocked(self, site: Site, said: str) -> None:
        """It refuses our address."""
        self._setting_back.heard(site, said)


def pushing(result: TransactionResult, verdicts: Sequence[Verdict], *, is_usable: bool) -> Kind | None:
    """How the site pushed back; None where all went as it should. is_usable: the session, still."""
    if any(verdict.slow is Slow.BOTH for verdict in verdicts):
        return Kind.HALVE
    if any(_asks_for_less(verdict) for verdict in verdicts if verdict.slow is not Slow.CONNECTIONS):
        return Kind.SLOW
    if any(verdict.slow is Slow.CONNECTIONS for verdict in verdicts):
        return Kind.TOO_MANY
    return None if result.decided and is_usable else Kind.BROKEN


def unheard(result: TransactionResult) -> Reply | None:
    """A 421 to MAIL: the session was ended, and nothing said about the message (RFC 5321 3.8)."""
    return result.mail if result.mail is not None and result.mail.code == SERVICE_CLOSES else None


def _asks_for_less(verdict: Verdict) -> bool:
    """Not where it blocks us: that is the breaker's, and no number of ours was too large."""
    if verdict.suspend:
        return True
    if verdict.action == "block":
        return False
    return verdict.blame is Blame.SENDER and not verdict.permanent and verdict.category in _ABOUT_US


def last_refusal(result: TransactionResult) -> Reply | None:
    """The final reply of those that refused, if it did."""
    replies = (result.final, *result.recipients, result.mail)
    return next((reply for reply in replies if reply and not reply.is_positive), None)
