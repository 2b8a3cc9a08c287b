"""delivery.carriage: one job over one open connection: whether it may go, the transaction, and what came of it.

What the server cannot take ends here without being sent, and what it does not take in one transaction waits for the
next. Before mail is sent at most once its intent is on disk. What a server may have taken when the relay ends is
settled as of unknown outcome. What a smarthost could not take goes on to the next one of its route, and what a site
refuses because it blocks our address goes from another one that can send there now (`shares`).
"""

from msgspec import Struct
from msgspec.structs import replace

from relay.delivery.attempt import compose, impossible
from relay.delivery.breaker import OUR_ADDRESS, scope_of
from relay.delivery.governor import SiteLimits
from relay.delivery.judging import Judgement, Where, another_may_take
from relay.delivery.pace import Pace
from relay.delivery.routing import Smarthost
from relay.delivery.settling import Settling
from relay.delivery.shares import Elsewhere, has_another
from relay.delivery.site import Job, Line, Site
from relay.delivery.trouble import Trouble
from relay.delivery.window import Window
from relay.mail.event import Kind
from relay.mail.verdict import Verdict, Via
from relay.smtpclient import OutgoingContent, TransactionResult
from relay.spool.spool import Spool


class Conclusion(Struct, frozen=True):
    """What a transaction came to. verdicts: on each recipient, None where nothing was refused. takes_more: False where
    a smarthost refuses our account.
    """

    verdicts: list[Verdict | None]
    takes_more: bool = True


class Carriage:
    """One shard's."""

    def __init__(
        self,
        *,
        spool: Spool,
        window: Window,
        limits: SiteLimits,
        settling: Settling,
        elsewhere: Elsewhere,
        trouble: Trouble,
    ) -> None:
        self._spool = spool
        self._window = window
        self._limits = limits
        self._settling = settling
        self._elsewhere = elsewhere
        self._trouble = trouble

    def fits(self, site: Site, job: Job, line: Line) -> bool:
        """Whether the server can be given it, or as much of it as goes into one transaction."""
        refusal = impossible(job.message, line.connection.extensions)
        if refusal is None:
            _split(site, job, most=line.recipients(site.recipients))
        elif site.source or not self._elsewhere.pass_on(job, site.hop, str(refusal)):
            self._settling.impossible(job, refusal, _where(site, job, line), site=site.name)
        return refusal is None

    async def pause(self, site: Site, job: Job) -> float:
        """Seconds until its turn comes, as the site's pace and its learnt rate have it; beyond `pace.SOON` it has none
        yet.
        """
        governor = site.governor
        if not governor.is_paced:
            return 0.0
        return await self._limits.pace(
            site.counted_as, governor.pace or Pace(), count=site.messages_of(job), sharer=job.sharer
        )

    async def spend(self, site: Site, job: Job) -> float:
        """0.0, or the seconds until the site's quota has room for it. The last of a smarthost's is used by one
        recipient at a time: one message to many does not hold up the others.
        """
        if not site.quota:
            return 0.0
        count = site.messages_of(job)
        wait = await self._limits.spend(site.quota, count=count)
        if wait and count > 1:
            wait = await self._limits.spend(site.quota, count=1)
            if not wait:
                _split(site, job, most=1)
        return wait

    def refund(self, site: Site, job: Job) -> None:
        """It was counted, and is not sent."""
        self._give_back(site, site.messages_of(job))

    def _give_back(self, site: Site, count: int) -> None:
        if site.quota and count:
            self._limits.refund(site.quota, count=count)

    async def is_intended(self, site: Site, job: Job) -> bool:
        """Whether recipients are left to be sent now. Of what is sent at most once, an intent is on disk: what a crash
        leaves of it is never tried again. An operator may have cancelled some meanwhile. Raises SpoolError.
        """
        if job.message.unknown_outcome != "end":
            return True
        positions = [each.position for each in job.recipients]
        missing = set(await self._spool.intend(job.message.id, positions))
        counted = site.messages_of(job)
        self._window.forget([each for each in job.recipients if each.position in missing])
        job.recipients = [each for each in job.recipients if each.position not in missing]
        self._give_back(site, counted - (site.messages_of(job) if job.recipients else 0))
        return bool(job.recipients)

    async def transact(self, job: Job, line: Line) -> TransactionResult:
        """Raises NotFound, MessageDamaged, SpoolError."""
        stored = await self._spool.content(job.message.id)
        size = stored.body_size if stored.path else 0
        content = OutgoingContent(head=stored.head, body=stored.body, path=stored.path, size=size)
        line.messages += 1
        return await line.connection.transact(compose(job, line.connection.extensions, content))

    def interrupted(self, site: Site, job: Job, line: Line) -> None:
        """The relay ends, and waits no longer for the reply."""
        known = line.connection.interrupted
        if known is not None and known.dot_sent:
            self.conclude(site, job, line, replace(known, failure="the relay ended before the server answered"))

    def conclude(self, site: Site, job: Job, line: Line, result: TransactionResult) -> Conclusion:
        """Settles every recipient, or hands it on."""
        dsn_offered = "DSN" in line.connection.extensions
        where = _where(site, job, line)
        judgements = self._settling.judge.transaction(job.recipients, result, where, dsn_offered=dsn_offered)
        verdicts = [each.verdict for each in judgements]
        if site.quota:
            taken = sum(each.outcome.event.kind in (Kind.DELIVERED, Kind.UNKNOWN) for each in judgements)
            self._give_back(site, max(0, site.messages_of(job) - taken))
        self._settling.settle(job.message, self._kept(site, job, judgements), site=site.name)
        if where.via is Via.MX:
            return Conclusion(verdicts)
        refusal = next((each for each in judgements if each.is_of_our_account), None)
        if refusal is not None:
            site.last_error = refusal.said
        return Conclusion(verdicts, takes_more=refusal is None)

    def _kept(self, site: Site, job: Job, judgements: list[Judgement]) -> list[Judgement]:
        """Those that do not go on by the next hop."""
        if isinstance(site.hop, Smarthost):
            going = [each for each in judgements if another_may_take(each)] if has_another(job, site.hop) else []
        else:
            going = [each for each in judgements if _blocks_our_address(each, job)]
            going = going if going and self._trouble.has_one_ready(job, site) else []
        if not going:
            return judgements
        self._elsewhere.pass_on(replace(job, recipients=[each.recipient for each in going]), site.hop, going[0].said)
        return [each for each in judgements if not any(each is other for other in going)]


def _split(site: Site, job: Job, *, most: int) -> None:
    """What the server does not take in one transaction waits for the next."""
    if len(job.recipients) > most:
        site.put_rest(replace(job, recipients=job.recipients[most:], tried={}))
        job.recipients = job.recipients[:most]


def _blocks_our_address(judgement: Judgement, job: Job) -> bool:
    """A rule says so. What is only refused so now and then is no reason to try it from all our addresses."""
    verdict = judgement.verdict
    if verdict is None or verdict.action != "block":
        return False
    return scope_of(verdict, job.message.sender_domain) == OUR_ADDRESS


def _where(site: Site, job: Job, line: Line) -> Where:
    connection = line.connection
    via = Via.SMARTHOST if isinstance(site.hop, Smarthost) else Via.MX
    return Where(str(connection.endpoint), connection.local_address, connection.tls, via, job.detour)
