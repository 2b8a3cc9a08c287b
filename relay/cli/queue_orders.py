"""cli.queue_orders: `relay queue hold|release|retry|cancel`: an operator's orders, by id or by filter.

Durable when the command returns, and in the journal with who gave them. --dry-run counts what would be changed.
"""

from typing import TYPE_CHECKING

import typer

from relay.cli import invocation, options, printing, queue_flags, shards
from relay.cli.queue_flags import DryRun, Everything, Ids, InStatus, OfCredential, OlderThan, Sender, ToDomain

if TYPE_CHECKING:
    from relay.spool import Selection


def hold(
    context: typer.Context,
    *,
    ids: Ids = None,
    to_domain: ToDomain = "",
    sender: Sender = None,
    credential: OfCredential = "",
    status: InStatus = "",
    older_than: OlderThan = "",
    everything: Everything = False,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Keep them in the queue until released; what is held does not expire."""
    chosen = queue_flags.selection(
        ids=ids, to_domain=to_domain, sender=sender, credential=credential, status=status, older_than=older_than
    )
    _order(context, "hold", chosen, everything=everything, dry_run=dry_run, as_json=as_json)


def release(
    context: typer.Context,
    *,
    ids: Ids = None,
    to_domain: ToDomain = "",
    sender: Sender = None,
    credential: OfCredential = "",
    status: InStatus = "",
    older_than: OlderThan = "",
    everything: Everything = False,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Held ones are due now; the time on hold is added to their expiry."""
    chosen = queue_flags.selection(
        ids=ids, to_domain=to_domain, sender=sender, credential=credential, status=status, older_than=older_than
    )
    _order(context, "release", chosen, everything=everything, dry_run=dry_run, as_json=as_json)


def retry(
    context: typer.Context,
    *,
    ids: Ids = None,
    to_domain: ToDomain = "",
    sender: Sender = None,
    credential: OfCredential = "",
    status: InStatus = "",
    older_than: OlderThan = "",
    everything: Everything = False,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Try them now instead of waiting for their time."""
    chosen = queue_flags.selection(
        ids=ids, to_domain=to_domain, sender=sender, credential=credential, status=status, older_than=older_than
    )
    _order(context, "retry", chosen, everything=everything, dry_run=dry_run, as_json=as_json)


def cancel(
    context: typer.Context,
    *,
    ids: Ids = None,
    to_domain: ToDomain = "",
    sender: Sender = None,
    credential: OfCredential = "",
    status: InStatus = "",
    older_than: OlderThan = "",
    everything: Everything = False,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """End them without delivery and without a report; the journal keeps who did it."""
    chosen = queue_flags.selection(
        ids=ids, to_domain=to_domain, sender=sender, credential=credential, status=status, older_than=older_than
    )
    _order(context, "cancel", chosen, everything=everything, dry_run=dry_run, as_json=as_json)


_DONE = {"hold": "held", "release": "released", "retry": "due now", "cancel": "cancelled"}


def _order(
    context: typer.Context, verb: str, chosen: "Selection", *, everything: bool, dry_run: bool, as_json: bool
) -> None:
    here = invocation.of(context)
    queue_flags.refuse_everything_by_mistake(chosen, verb, everything=everything)
    changed = shards.would_change(here, verb, chosen) if dry_run else invocation.run(shards.order(here, verb, chosen))
    if changed.recipients == 0:
        queue_flags.check_names(here, chosen)
    if as_json:
        printing.as_json({"recipients": changed.recipients, "messages": changed.messages, "dry_run": dry_run})
        return
    words = printing.count(changed.recipients, "recipient")
    if changed.messages is not None:
        words += f" of {printing.count(changed.messages, 'message')}"
    printing.line(f"{words} would be {_DONE[verb]}" if dry_run else f"{words} {_DONE[verb]}")
