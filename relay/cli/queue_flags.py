"""cli.queue_flags: which recipients a queue command means: ids or filters, checked for names that do not exist."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import options
from relay.cli.credential_flags import one_of
from relay.errors import UsageError

if TYPE_CHECKING:
    from relay.spool import Selection

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Messages, by queue id.")]
ToDomain = Annotated[str, typer.Option("--to-domain", metavar="DOMAIN", help="Of the recipient.")]
Sender = Annotated[
    str | None, typer.Option("--from", metavar="ADDRESS", help='The envelope sender; "<>" for the null sender.')
]
OfCredential = Annotated[str, typer.Option("--credential", metavar="NAME", help="Accepted from this credential.")]
InStatus = Annotated[str, typer.Option("--status", metavar="queued|deferred|held|damaged", help="In this status.")]
OlderThan = Annotated[str, typer.Option("--older-than", metavar="DURATION", help='Accepted longer ago than "2h".')]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be changed.")]
Everything = Annotated[bool, typer.Option("--all", help="Every recipient there is.")]


def selection(
    *,
    ids: list[str] | None = None,
    to_domain: str = "",
    sender: str | None = None,
    credential: str = "",
    status: str = "",
    older_than: str = "",
) -> "Selection":
    """Raises UsageError for what cannot be."""
    from relay.mail.queue_id import is_valid
    from relay.spool import Selection, Status

    for message in ids or ():
        if not is_valid(message):
            raise UsageError(
                f'"{message}" is no queue id',
                remedy="It has 15 letters and digits: relay queue list, or the 250 reply.",
            )
    return Selection(
        ids=tuple(ids or ()),
        recipient_domain=to_domain.lower().rstrip("."),
        sender=None if sender is None else "" if sender == "<>" else sender,
        credential=credential,
        status=one_of(status, Status, option="--status") if status else None,
        older_than=options.duration(older_than, option="--older-than"),
    )


def refuse_everything_by_mistake(chosen: "Selection", verb: str, *, everything: bool) -> None:
    """An order without ids or filters needs --all; with them, --all would be a contradiction."""
    from relay.spool import Selection

    if chosen == Selection() and not everything:
        raise UsageError(
            f"relay queue {verb} needs to know which recipients are meant",
            remedy="Give queue ids or a filter such as --to-domain, or --all for every recipient there is.",
        )
    if chosen != Selection() and everything:
        raise UsageError("--all goes with no id and no filter", remedy="Leave out one or the other.")
