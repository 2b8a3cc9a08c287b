"""delivery.attempt: what one transaction says, given what the server offered. Pure.

What the client's EHLO parameters asked for is carried on where the server offers it. Where it cannot be, the
recipients end here in our own words, before a byte is sent: SMTPUTF8 (RFC 6531 3.2: a message that needs it is not
sent without), 8BITMIME (RFC 6152 3: 8-bit content is not sent without; credentials with `encode_8bit` had it
converted before signing) and SIZE (RFC 1870 6.1). DSN parameters are dropped where DSN is not offered, and who asked
for SUCCESS is told by a relayed report (RFC 3461 5.2.2).
"""

from collections.abc import Mapping

from relay.delivery.site import Job
from relay.mail.reply import Reply
from relay.smtpclient import OutgoingContent, Transaction
from relay.spool import QueuedMessage, QueuedRecipient

Extensions = Mapping[str, str]


def impossible(message: QueuedMessage, extensions: Extensions) -> Reply | None:
    """Why the server cannot be given this message, as the reply its report will carry; None when it can."""
    if message.smtputf8 and "SMTPUTF8" not in extensions:
        return Reply(550, "5.6.7", "The message needs SMTPUTF8, which the receiving server does not offer")
    if message.body == "8BITMIME" and "8BITMIME" not in extensions:
        text = (
            "The message has 8-bit content and the receiving server does not offer 8BITMIME;"
            " the credential's encode_8bit would convert it"
        )
        return Reply(550, "5.6.3", text)
    limit = _number(extensions.get("SIZE", ""))
    if limit and message.size > limit:
        return Reply(552, "5.3.4", f"The message has {message.size} octets and the receiving server takes {limit}")
    return None


def compose(job: Job, extensions: Extensions, content: OutgoingContent) -> Transaction:
    dsn = "DSN" in extensions
    return Transaction(
        sender=job.message.sender,
        mail_parameters=_mail_parameters(job.message, extensions, dsn=dsn),
        recipients=tuple((each.recipient.address, _rcpt_parameters(each, dsn=dsn)) for each in job.recipients),
        content=content,
    )


def _mail_parameters(message: QueuedMessage, extensions: Extensions, *, dsn: bool) -> str:
    words = []
    if "SIZE" in extensions:
        words.append(f" SIZE={message.size}")
    if message.body == "8BITMIME":
        words.append(" BODY=8BITMIME")
    if message.smtputf8:
        words.append(" SMTPUTF8")
    if dsn and message.ret:
        words.append(f" RET={message.ret}")
    if dsn and message.envid:
        words.append(f" ENVID={message.envid}")
    return "".join(words)


def _rcpt_parameters(recipient: QueuedRecipient, *, dsn: bool) -> str:
    if not dsn:
        return ""
    notify = f" NOTIFY={recipient.recipient.notify}" if recipient.recipient.notify else ""
    orcpt = f" ORCPT={recipient.recipient.orcpt}" if recipient.recipient.orcpt else ""
    return notify + orcpt


def _number(text: str) -> int:
    word = text.split(maxsplit=1)[0] if text.split() else ""
    return int(word) if word.isascii() and word.isdigit() else 0
