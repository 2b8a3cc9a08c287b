"""delivery.trouble: what becomes of a site's jobs while it takes no mail, or takes no more of it.

Where a session is refused while others go on it was one too many: the job waits for one of them, and no attempt is
counted for it.

A site takes no mail when no host gives a session, when a smarthost refuses our account, while a smarthost's quota is
used up, while an operator or a rule has it suspended, and while our address cannot be bound. All of this is of one hop:
what waits there goes on by the next one of its way, where that has one; else it goes back to the disk, and its domain
is parked until the site is tried again or resumed: waiting for a site climbs nobody's retry ladder. So does what a
breaker holds, but for what may go by another hop now. Only what found out, and what could go by no other hop either,
has made an attempt; and what found out that our address cannot be bound has made none.

Hosts that give no session are tried from two of our addresses in one attempt: it is theirs more often than ours. While
two of one family hear nothing at all from a site, the others of it leave the site to the probes of these: a host that
is down is not dialled once more for each address that we have.
"""

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence

from relay.delivery.breaker import OUR_ADDRESS, PROBE_WITHIN, Report, Scope
from relay.delivery.dialler import Unreached
from relay.delivery.governor import SiteLimits
from relay.delivery.judging import Where
from relay.delivery.machine_breakers import Told
from relay.delivery.pressure import Pressure, last_refusal
from relay.delivery.routing import Hop, Smarthost
from relay.delivery.settling import Settling
from relay.delivery.shares import Elsewhere, has_another, others
from relay.delivery.site import Job, Line, Site
from relay.delivery.sites import SOURCES_TRIED, Sites
from relay.delivery.sources import Rest, Sources
from relay.delivery.window import Window
from relay.mail.reply import Reply
from relay.mail.retry import asked_wait
from relay.mail.verdict import Stage, Verdict, Via
from relay.smtpclient import Fault, TransactionResult

REFUSALS = 3  # sessions too many that a message meets before an attempt is counted for it
LOOK_AGAIN = 900.0  # seconds after which a suspended site's mail is looked at again: its domain may have moved


class Trouble:
    """One shard's. begin: starts a task that somebody owns. steady: POSIX seconds that never jump."""

    def __init__(
        self,
        sites: Sites,
        *,
        window: Window,
        settling: Settling,
        elsewhere: Elsewhere,
        pressure: Pressure,
        sources: Sources,
        limits: SiteLimits,
        begin: Callable[[Coroutine[None, None, None]], None],
        steady: Callable[[], float],
    ) -> None:
        self._pressure = pressure
        self._sources = sources
        self._limits = limits
        self._begin = begin
        self._sites = sites
        self._window = window
        self._settling = settling
        self._elsewhere = elsewhere
        self._steady = steady

    def resumes_at(self, hop: Hop, name: str, *, passed: Collection[Hop] = ()) -> float:
        """When mail can go by it again, 0.0 for now, as far as is known. One that is being probed may at any moment.
        name: of the site that direct mail goes to; a smarthost is its own. passed: as for `rest_at`.
        """
        now = self._steady()
        name = hop.site if isinstance(hop, Smarthost) else name
        if self._sites.is_suspended(name, hop):
            return now + LOOK_AGAIN
        rest = self.rest_at(name, hop.source, passed=passed)
        rests_until = max(_end(rest), self._sites.down_until(name, hop, now=now))
        site = self._sites.by_key.get((name, hop))
        if site is None:
            return rests_until
        if site.suspension is not None:  # by a rule, and not written yet
            return now + LOOK_AGAIN
        if site.governor.in_trouble and site.couriers:
            return max(now, rests_until)
        until = max(site.governor.retry_at, site.breakers.waits_until(now=now), rests_until)
        return until if until > now else 0.0

    def rest_at(self, name: str, source: str, *, passed: Collection[Hop] = ()) -> Rest | None:
        """What keeps one of our addresses from sending to a site. passed: hops that cannot send instead."""
        rest = self._sources.resting(source)
        if rest is None or not rest.instead:
            return rest
        able = any(each not in passed and not self.resumes_at(each, name) for each in rest.instead)
        return rest if able else None

    def shuts_out(self, site: Site) -> bool:
        """By itself it takes no mail now, but for a probe."""
        return site.governor.in_trouble or self.tried_at(site) > self._steady()

    def tried_at(self, site: Site) -> float:
        """When mail goes there again from this address, in the past for now."""
        down_until = self._sites.down_until(site.name, site.hop, now=self._steady())
        return max(site.governor.retry_at, _end(self.rest_at(site.name, site.source)), down_until)

    @property
    def waiting_for_warm_ups(self) -> int:
        """Domains that wait for nothing else."""
        sites = (self._sites.by_key.get(key) for key in self._window.parked_for())
        warming = (site for site in sites if site is not None and site.quota.stage is not None)
        return sum(site.is_out_of_quota(self._steady()) for site in warming)

    @property
    def smarthosts(self) -> Mapping[str, bool]:
        """Whether each of those that mail has come to takes mail; not of one that is suspended."""
        told = (site for site in self._sites.by_key.values() if isinstance(site.hop, Smarthost) and not site.suspension)
        return {site.name: not self.shuts_out(site) for site in told}

    def holds(self, site: Site, job: Job) -> bool:
        """Whether a job that comes to the site must wait. Where a courier is at work the site is being probed, and the
        job waits there for what comes of it; where an operator wants it tried now, it is.
        """
        if site.suspension is not None:
            self._window.take_urge(job.domain)  # to try it now is no way round what an operator ordered
            return True
        if self.rest_at(site.name, site.source, passed=job.passed):
            self._window.take_urge(job.domain)
            return True
        if self.tried_at(site) <= self._steady() or site.couriers:
            return False
        return not self._window.take_urge(job.domain)

    def blocks(self, site: Site, job: Job) -> bool:
        """Whether a breaker holds the job: it is on its way back to the disk, or asks to be the one that probes."""
        if not site.breakers:
            return False
        sender_domain, now = job.message.sender_domain, self._steady()
        scopes = site.breakers.holding(sender_domain, now=now)
        if not scopes:
            site.breakers.go(sender_domain)
            return False
        urged, held = self._window.take_urge(job.domain), site.breakers.held(sender_domain, now=now)
        if held is not None and not urged:
            scope, until = held
            self._hold_back(site, [job], scope, until=until)
        else:
            site.breakers.wait(sender_domain, until=now + PROBE_WITHIN)
            self._begin(self._ask_to_probe(site, job, scopes, urged=urged))
        return True

    async def _ask_to_probe(self, site: Site, job: Job, scopes: Sequence[Scope], *, urged: bool) -> None:
        """One message of the machine's does."""
        wait = await self._limits.probe(site.front, scopes, urged=urged)
        if not wait:
            site.breakers.grant(job.message.sender_domain)
            self._elsewhere.send([job])
            return
        until = self._steady() + wait
        site.breakers.wait(job.message.sender_domain, until=until)
        self._hold_back(site, [job], scopes[0].sender_domain, until=until)

    async def judge(
        self, site: Site, job: Job, line: Line, result: TransactionResult, verdicts: Sequence[Verdict | None]
    ) -> None:
        """The breakers, after a transaction. verdicts: on each recipient."""
        if result.failure:  # whoever has no verdict then was not taken: nothing is known
            verdicts = [verdict for verdict in verdicts if verdict is not None]
        if not site.breakers and not any(verdicts):
            return
        said = f"{last_refusal(result)} from {line.connection.endpoint.name}"
        message = job.message
        for report in site.breakers.reports(message.sender_domain, message.credential, verdicts, said):
            await self._report(site, report)

    async def _report(self, site: Site, report: Report) -> None:
        if await self._limits.reported(site.front, report) and report.scope.sender_domain == OUR_ADDRESS:
            self._pressure.blocked(site, report.cause)

    def heard_of_breaker(self, front: str, told: Told) -> None:
        """One of the machine's has tripped or mended."""
        concerned, of = self._sites.concerned(front, told.scope), told.scope.sender_domain
        if told.has_closed:
            for name in {each.name for each in concerned}:
                self._window.unpark(name)
        if told.pause is None:
            return
        for site in concerned:
            jobs = site.take_of(of) if of else site.take_all()
            self._hold_back(site, jobs, of, until=self._steady() + told.pause)

    def _hold_back(self, site: Site, jobs: Sequence[Job], scope: str, *, until: float) -> None:
        """To the disk, until a message of the scope may probe. What is refused because of our address may go by another
        hop that can carry mail now.
        """
        going, staying = list[Job](), list[Job]()
        for job in jobs:
            (going if scope == OUR_ADDRESS and self.has_one_ready(job, site) else staying).append(job)
        self._elsewhere.send(going)
        for job in staying:
            at = min([until, *(self._others_resume(job, site) if scope == OUR_ADDRESS else ())])
            self._window.park(job.domain, job.way, site=site.name, hop=site.hop, until=at, sender_domain=scope)
        self._settling.give_back(job for job in staying if not job.passed)
        for job in staying:
            if job.passed:
                self._settling.unreached(job, site.last_error, Where(detour=job.detour), site=site.name)

    def _others_resume(self, job: Job, site: Site) -> list[float]:
        """When the job can go by the other hops of its way."""
        return [self.resumes_at(each, site.name) for each in others(job, site.hop)]

    def has_one_ready(self, job: Job, site: Site) -> bool:
        """Another hop of its way that can carry it now, and that this attempt has not come to."""
        passed = {*job.passed, site.hop}
        left = [each for each in others(job, site.hop) if each not in passed]
        return any(not self.resumes_at(each, site.name, passed=passed) for each in left)

    async def unreached(self, site: Site, job: Job, outcome: Unreached, *, epoch: int) -> None:
        """No host gave a session. Where one did and it broke, the job is put off alone: what breaks one message's
        session need not break another's.
        """
        if outcome.fault is Fault.SOURCE:
            self._unbound(site, job, outcome)
            return
        said = f"{outcome.reply} from {outcome.host}" if outcome.reply else outcome.detail
        where = Where(mx=outcome.mx, via=_via(site), detour=job.detour)
        verdict = self._settling.judge.verdict(outcome.reply, where, stage=outcome.stage) if outcome.reply else None
        was_surplus = await self._pressure.session_refused(site, said, verdict, epoch=epoch, in_session=False)
        site.last_error = "; ".join((*job.tried.values(), outcome.detail))
        if not (was_surplus and not job.tried and self._goes_back(site, job)):
            self._put_off(site, job, outcome, said, is_trouble=not (job.tried or was_surplus))
        if verdict is not None and verdict.action == "block":
            scope = Scope(OUR_ADDRESS, site.source)
            await self._report(site, Report(scope, job.message.credential, (True,), said, at_once=True))

    def _unbound(self, site: Site, job: Job, outcome: Unreached) -> None:
        """Our address cannot be used. Nobody has heard of the job, so it has made no attempt."""
        site.last_error = outcome.detail
        site.put_back(job)
        if site.source:
            self.turn_away(site)
        else:
            self._leave_alone(site, outcome.detail, ())

    def _put_off(self, site: Site, job: Job, outcome: Unreached, said: str, *, is_trouble: bool) -> None:
        """Or on to the next hop."""
        goes_on = self._may_try_another(site, job, outcome) and self._elsewhere.pass_on(job, site.hop, site.last_error)
        if not goes_on:
            where = Where(mx=outcome.mx, source=site.source, detour=job.detour)
            self._settling.unreached(job, site.last_error, where, reply=outcome.reply, site=site.name)
        if is_trouble:
            self._sites.heard(site, is_silent=outcome.reply is None and outcome.fault is Fault.THEIRS)
            self._leave_alone(site, said, () if goes_on else (job,))

    def _may_try_another(self, site: Site, job: Job, outcome: Unreached) -> bool:
        """Not from all our addresses after each other, where none may help: but where this machine has no route."""
        if isinstance(site.hop, Smarthost) or outcome.fault is Fault.ROUTE:
            return True
        return len(job.passed) + 1 < SOURCES_TRIED

    async def unheard(self, site: Site, job: Job, line: Line, reply: Reply, *, epoch: int) -> bool:
        """A session was ended with 421 to MAIL. Whether the job waits for another one: else it is to be settled. The
        last of many messages in a session says nothing of the site.
        """
        endpoint = line.connection.endpoint
        site.last_error = said = f"{reply} from {endpoint.name}"
        verdict = self._settling.judge.verdict(reply, Where(str(endpoint), via=_via(site)), stage=Stage.MAIL)
        if verdict.action in ("block", "account"):
            return False
        if line.messages > 1 and not (verdict.slow or verdict.suspend):
            return self._goes_back(site, job)
        was_surplus = await self._pressure.session_refused(site, said, verdict, epoch=epoch, in_session=True)
        if was_surplus:
            return self._goes_back(site, job)
        self._leave_alone(site, said, (job,))
        return False

    def _goes_back(self, site: Site, job: Job) -> bool:
        """Now and then it does not: what is refused so may be the message after all."""
        job.refusals += 1
        if job.refusals % REFUSALS == 0 and site.suspension is None:
            return False
        site.put_back(job)
        if site.suspension is not None:
            self.turn_away(site)
        return True

    def _leave_alone(self, site: Site, said: str, jobs: Iterable[Job]) -> None:
        """jobs: that found out, and go nowhere else."""
        site.governor.unreachable(now=self._steady(), asked=asked_wait(said))
        self._park(site, jobs)
        self.turn_away(site)

    def refused(self, site: Site) -> None:
        """The smarthost takes nothing from us, whoever the recipient is. One message at a time probes it."""
        site.governor.unreachable(now=self._steady())
        self.turn_away(site)

    def spent(self, site: Site, job: Job, wait: float) -> None:
        """The site's quota has no room for the job for so many seconds."""
        site.governor.rest(until=self._steady() + wait)
        site.last_error = site.quota.spent(wait)
        site.put_back(job)
        self.turn_away(site)

    def give_back(self, site: Site) -> None:
        """What waits for it goes back to the disk until it is tried again."""
        self._put_down(site, site.take_all())

    def turn_away(self, site: Site) -> None:
        """What waits for it goes on by the next hop; what has none, back to the disk."""
        jobs = site.take_all()
        if site.is_gone:  # routes say anew where it goes
            self._elsewhere.send(jobs)
            return
        self._elsewhere.send([job for job in jobs if has_another(job, site.hop)])
        self._put_down(site, [job for job in jobs if not has_another(job, site.hop)])

    def turn_away_resting(self) -> list[Site]:
        """The sites of those of our addresses that rest: what waits there goes by others of their pool."""
        resting = [each for each in self._sites.by_key.values() if each.source and self.rest_at(each.name, each.source)]
        for site in resting:
            self.turn_away(site)
        return resting

    def _put_down(self, site: Site, jobs: list[Job]) -> None:
        untried = [job for job in jobs if not job.passed]
        self._park(site, untried)
        self._settling.give_back(untried)
        why = self._why(site)
        for job in jobs:
            if job.passed:
                self._settling.unreached(job, why, Where(detour=job.detour), site=site.name)

    def _why(self, site: Site) -> str:
        rest = self.rest_at(site.name, site.source)
        if site.suspension is not None:
            return f"{site.place} is suspended by {site.suspension.by}"
        return rest.why if rest is not None else site.last_error

    def _park(self, site: Site, jobs: Iterable[Job]) -> None:
        """Unless another hop of the way can carry it."""
        tried_at = self.tried_at(site)
        if site.suspension is not None:
            tried_at = max(tried_at, self._steady() + LOOK_AGAIN)
        for job in jobs:
            until = min([tried_at, *self._others_resume(job, site)])
            if until:
                self._window.park(job.domain, job.way, site=site.name, hop=site.hop, until=until)


def _end(rest: Rest | None) -> float:
    return rest.until if rest is not None else 0.0


def _via(site: Site) -> Via:
    return Via.SMARTHOST if isinstance(site.hop, Smarthost) else Via.MX
