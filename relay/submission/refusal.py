"""submission.refusal: what was refused after AUTH goes into the journal and the metrics, 4xx as well as 5xx.

So `relay log search` answers why a message never came, also where the application swallowed the reply.
"""

from dataclasses import dataclass

from relay.mail.event import Event, Kind
from relay.mail.reply import Reply
from relay.submission.services import Services


@dataclass(frozen=True, slots=True)
class Refused:
    """What was refused. credential: its name; nobody of that name may exist any more. recipient: "" for a whole
    message. message: its id, where it had one. detail: the argument of a command that was not read.
    """

    credential: str
    stream: str
    client: str
    tls: str
    sender: str = ""
    recipient: str = ""
    message: str = ""
    size: int = 0
    detail: str = ""


def record(reply: Reply, refused: Refused, services: Services) -> None:
    services.facts.message_refused(reply.code)
    services.journal_rejection(
        Event(
            at=services.now(),
            kind=Kind.REJECTED,
            message=refused.message,
            sender=refused.sender,
            recipient=refused.recipient,
            credential=refused.credential,
            stream=refused.stream,
            reply=str(reply),
            tls=refused.tls,
            size=refused.size,
            client=refused.client,
            detail=refused.detail,
        )
    )
