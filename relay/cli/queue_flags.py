"""cli.queue_flags: which recipients a queue command means: ids or filters, checked for names that do not exist."""

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import invocation, options, printing, shards
from relay.cli.credential_flags import one_of
from relay.errors import NotFound, UsageError

if TYPE_CHECKING:
    from relay.spool import Selection

_COMPARED = 10_000  # domains among which the nearest is looked for

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


def check_names(here: invocation.Invocation, chosen: "Selection") -> None:
    """Nothing was found: because a name is misspelt? Raises NotFound with the nearest."""
    from relay.cli.credential import find
    from relay.registry.snapshot import Snapshot

    for message in chosen.ids:
        if not shards.find(here, selection(ids=[message]), limit=1):
            raise not_queued(message)

    async def snapshot() -> Snapshot:
        async with here.registry() as registry:
            return registry.snapshot()

    if chosen.credential:
        find(invocation.run(snapshot()), chosen.credential)
    if chosen.recipient_domain:
        _note_nearest_domain(here, chosen.recipient_domain)


def _note_nearest_domain(here: invocation.Invocation, domain: str) -> None:
    """A note only: that nothing waits for a domain is as it should be."""
    from difflib import get_close_matches

    waiting = {total.domain for reader in shards.readers(here) for total in reader.domains(_COMPARED)}
    near = get_close_matches(domain, waiting, n=1)
    if near and domain not in waiting:
        printing.note(f'Nothing waits for {domain}. Did you mean "{near[0]}"?')


def not_queued(message: str) -> NotFound:
    return NotFound(
        f"nothing of message {message} is in the queue", remedy=f"What became of it: relay log show {message}"
    )
