"""delivery.carriage: one job over one open connection: whether it may go, the transaction, and what came of it.

What the server cannot take ends here without being sent, and what it does not take in one transaction waits for the
next. Before mail is sent at most once its intent is on disk. What a server may have taken when the relay ends is
settled as of unknown outcome.
"""

from dataclasses import replace

from relay.delivery.attempt import compose, impossible, recipients_at_most
from relay.delivery.judging import Where
from relay.delivery.settling import Settling
from relay.delivery.site import Job, Line, Site
from relay.delivery.window import Window
from relay.smtpclient import OutgoingContent, TransactionResult
from relay.spool.spool import Spool


class Carriage:
    """One shard's."""

    def __init__(self, *, spool: Spool, window: Window, settling: Settling) -> None:
        self._spool = spool
        self._window = window
        self._settling = settling

    async def may_be_sent(self, site: Site, job: Job, line: Line) -> bool:
        """Whether recipients are left to be sent now. Raises SpoolError."""
        refusal = impossible(job.message, line.connection.extensions)
        if refusal is not None:
            self._settling.impossible(job, refusal, _where(line), site=site.name)
            return False
        _split(site, job, line)
        return job.message.unknown_outcome != "end" or await self._is_intended(job)

    async def _is_intended(self, job: Job) -> bool:
        """On disk: what a crash leaves of it is never tried again. An operator may have cancelled some meanwhile."""
        positions = [each.position for each in job.recipients]
        missing = set(await self._spool.intend(job.message.id, positions))
        self._window.forget([each for each in job.recipients if each.position in missing])
        job.recipients = [each for each in job.recipients if each.position not in missing]
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

    def conclude(self, site: Site, job: Job, line: Line, result: TransactionResult) -> None:
        """Settles every recipient; the site learns from it."""
        dsn_offered = "DSN" in line.connection.extensions
        judgements = self._settling.judge.transaction(job.recipients, result, _where(line), dsn_offered=dsn_offered)
        _learn(site, result, line)
        self._settling.settle(job.message, judgements, site=site.name)


def _split(site: Site, job: Job, line: Line) -> None:
    """What the server does not take in one transaction waits for the next."""
    most = recipients_at_most(line.connection.extensions, ours=site.profile.recipients)
    if len(job.recipients) > most:
        site.put_back(replace(job, recipients=job.recipients[most:], tried={}))
        job.recipients = job.recipients[:most]


def _learn(site: Site, result: TransactionResult, line: Line) -> None:
    if result.decided and line.connection.usable:
        site.governor.succeeded()
        return
    site.governor.pushed_back()
    replies = (result.final, *result.recipients, result.mail)
    last = next((reply for reply in replies if reply and not reply.is_positive), None)
    site.last_error = result.failure or str(last or "")


def _where(line: Line) -> Where:
    connection = line.connection
    return Where(mx=str(connection.endpoint), source=connection.local_address, tls=connection.tls)
