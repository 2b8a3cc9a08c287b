"""submission.handover: a complete message goes to reception, if its credential's limits allow, and the reply comes
back.

Whatever breaks is ours: 451 4.3.0 to the client, which sends it again, and the detail in the log under the message's
id. It is never a 5xx, which would make a bounce of our trouble.
"""

import math

from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.submission.limits import Excess, excess, limits_of
from relay.submission.refusal import Refused, record
from relay.submission.services import Services


async def hand_over(submitted: Submitted, services: Services, over: Excess) -> Reply:
    """The reply to the end of the content. Raises nothing."""
    try:
        reply = await _take(submitted, services, over) or await _receive(submitted, services)
    except Exception as error:  # a bug of ours must not cost the client its message
        services.log.exception("message not accepted", error, id=submitted.id)
        reply = Reply(451, "4.3.0", f"Trouble here; try again later ({submitted.id})")
    if not reply.is_positive:
        record(reply, _refused(submitted), services)
        if submitted.file is not None:
            submitted.file.discard()  # unless the spool has it
    return reply


async def _take(submitted: Submitted, services: Services, over: Excess) -> Reply | None:
    """Why the credential's limits do not allow it now, or None. Whole seconds, so that what was said is enough."""
    limits = limits_of(submitted.credential)
    if not limits:
        return None
    retry_after = await services.limiter.take(submitted.credential.name, limits, 1)
    if retry_after <= 0.0:
        return None
    now = services.now()
    over.remember(submitted.credential.name, limits, until=now + math.ceil(retry_after), now=now)
    return excess(limits, retry_after)


async def _receive(submitted: Submitted, services: Services) -> Reply:
    """A message that is refused counts for no limit."""
    is_accepted = False
    try:
        reply = await services.receiver.receive(submitted)
        is_accepted = reply.is_positive
    finally:
        limits = limits_of(submitted.credential)
        if limits and not is_accepted:
            services.limiter.give_back(submitted.credential.name, limits, 1)
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
