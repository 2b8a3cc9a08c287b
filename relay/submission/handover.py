"""submission.handover: a complete message goes to reception, if its credential's limits allow, and the reply comes
back.

Whatever breaks is ours: 451 4.3.0 to the client, which sends it again, and the detail in the log under the message's
id. It is never a 5xx, which would make a bounce of our trouble.
"""

import math
from dataclasses import dataclass

from relay.mail.address import comparable
from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.submission.limits import Excess, excess, limits_of
from relay.submission.refusal import Refused, record
from relay.submission.services import Limits, Services


async def hand_over(submitted: Submitted, services: Services, over: Excess) -> Reply:
    """The reply to the end of the content. Raises nothing."""
    try:
        share = await _share(submitted, services)
        reply = await _take(share, services, over) or await _receive(submitted, share, services)
    except Exception as error:  # a bug of ours must not cost the client its message
        services.log.exception("message not accepted", error, id=submitted.id)
        reply = Reply(451, "4.3.0", f"Trouble here; try again later ({submitted.id})")
    if not reply.is_positive:
        record(reply, _refused(submitted), services)
        if submitted.file is not None:
            submitted.file.discard()  # unless the spool has it
    return reply


@dataclass(frozen=True, slots=True)
class _Share:
    """What one message takes of its credential's limits. recipients: as they are compared; first_time: of them."""

    credential: str
    limits: Limits
    recipients: tuple[str, ...] = ()
    first_time: int = 0


async def _share(submitted: Submitted, services: Services) -> _Share:
    name, limits = submitted.credential.name, limits_of(submitted.credential)
    if not limits.first_time:
        return _Share(name, limits)
    recipients = tuple(comparable(each.address) for each in submitted.envelope.recipients)
    return _Share(name, limits, recipients, await services.recipients.first_time(name, recipients))


async def _take(share: _Share, services: Services, over: Excess) -> Reply | None:
    """Why the credential's limits do not allow it now, or None. Whole seconds, so that what was said is enough."""
    if not share.limits:
        return None
    retry_after = await services.limiter.take(share.credential, share.limits, 1, first_time=share.first_time)
    if retry_after <= 0.0:
        return None
    now = services.now()
    if not share.first_time:  # else the next message may have none and go
        over.remember(share.credential, share.limits, until=now + math.ceil(retry_after), now=now)
    return excess(share.limits, retry_after, first_time=share.first_time)


async def _receive(submitted: Submitted, share: _Share, services: Services) -> Reply:
    """A message that is refused counts for no limit."""
    is_accepted = False
    try:
        reply = await services.receiver.receive(submitted)
        is_accepted = reply.is_positive
    finally:
        if share.limits and not is_accepted:
            services.limiter.give_back(share.credential, share.limits, 1, first_time=share.first_time)
    if is_accepted and share.recipients:
        services.recipients.sent_to(share.credential, share.recipients)
    return reply


def _refused(submitted: Submitted) -> Refused:
    body = submitted.file.size if submitted.file is not None else len(submitted.body)
    return Refused(
        credential=submitted.credential.name,
        stream=submitted.credential.stream,
        client=submitted.client,
        tls=submitted.tls,
        sender=submitted.envelope.sender,
        message=submitted.id,
        size=len(submitted.header) + 2 + body,
    )
