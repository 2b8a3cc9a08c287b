"""cli.log: `relay log`: what happened to messages, from the journal and from what is not in it yet."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, shards
from relay.cli.credential_flags import one_of
from relay.errors import NotFound

if TYPE_CHECKING:
    from relay.journal.query import Found, Query
    from relay.mail.event import Event

app = typer.Typer(help="What happened: search, and the story of one message.", no_args_is_help=True)

_STATUSES = "accepted|rejected|deferred|delivered|bounced|expired|suppressed|unknown|cancelled|held|released"


@app.command()
def search(
    context: typer.Context,
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="ADDRESS", help='Recipient; "@example.com" for a whole domain.')
    ] = "",
    sender: Annotated[
        str, typer.Option("--from", metavar="ADDRESS", help='Envelope sender; "@example.com", or "<>" for reports.')
    ] = "",
    message: Annotated[str, typer.Option("--id", metavar="ID", help="Queue id, or a header Message-ID.")] = "",
    credential: Annotated[
        str, typer.Option("--credential", metavar="NAME", help="Accepted from this credential.")
    ] = "",
    status: Annotated[str, typer.Option("--status", metavar=_STATUSES, help="Events of this kind.")] = "",
    since: options.Since = "",
    until: options.Until = "",
    limit: options.Limit = 100,
    as_json: options.Json = False,
) -> None:
    """Events, newest first."""
    from relay.journal.query import Query
    from relay.mail.event import Kind

    here = invocation.of(context)
    query = Query(
        to=to,
        sender=sender,
        message=message,
        credential=credential,
        status=one_of(status, Kind, option="--status") if status else None,
        since=options.past(since, option="--since", now=here.now()),
        until=options.past(until, option="--until", now=here.now()),
        limit=limit,
    )
    found = _search(here, query)
    if as_json:
        printing.as_json([as_value(event) for event in found.events])
    else:
        columns = ("time", "status", "id", "from", "to", "reply")
        printing.table(columns, map(_row, found.events), empty="Nothing of that kind happened.")
    _warn_of_unreadable(found)
    if not found.events and credential:
        _check_credential(here, credential)


@app.command()
def show(
    context: typer.Context,
    *,
    message: Annotated[str, typer.Argument(metavar="ID", help="Queue id, or a header Message-ID.")],
    as_json: options.Json = False,
) -> None:
    """All that happened to one message, in order."""
    here = invocation.of(context)
    found = story(here, message)
    _warn_of_unreadable(found)
    if not found.events:
        raise NotFound(f'nothing is known of message "{message}"', remedy=_not_known(here))
    if as_json:
        printing.as_json([as_value(event) for event in found.events])
        return
    _show_message(found.events[0])
    for event in found.events:
        show_event(event)


def story(here: invocation.Invocation, message: str) -> "Found":
    """A message's events in order, from the journal and the shards."""
    from relay.journal.search import Search

    pending = shards.pending_events(here)
    return invocation.run(Search(here.spool).show(message, pending=pending))


def show_event(event: "Event") -> None:
    """One event as it is read in a terminal."""
    to = f" {event.recipient}" if event.recipient else ""
    printing.line(f"{printing.moment(event.at)}  {event.kind.value}{to}")
    printing.facts(
        (f"    {name}", value)
        for name, value in (
            ("server", event.mx),
            ("from", event.source),
            ("TLS", event.tls or ("none" if event.mx else "")),
            ("reply", event.reply),
            ("reason", event.detail),
            ("blames", event.verdict),
            ("try", event.attempt or ""),
            ("next try", printing.when(event.next_attempt_at)),
        )
    )


def as_value(event: "Event") -> dict[str, Any]:
    """Stable fields; what does not apply is null."""
    return {
        "time": printing.iso(event.at),
        "status": event.kind.value,
        "id": event.message or None,
        "sender": event.sender,
        "recipient": event.recipient or None,
        "credential": event.credential or None,
        "stream": event.stream or None,
        "reply": event.reply or None,
        "mx": event.mx or None,
        "source": event.source or None,
        "tls": event.tls or None,
        "verdict": event.verdict or None,
        "attempt": event.attempt or None,
        "next_attempt_at": printing.iso(event.next_attempt_at),
        "size": event.size or None,
        "header_from": event.header_from or None,
        "subject": event.subject or None,
        "message_id": event.header_message_id or None,
        "client": event.client or None,
        "detail": event.detail or None,
    }


def _search(here: invocation.Invocation, query: "Query") -> "Found":
    from relay.journal.search import Search

    pending = shards.pending_events(here)
    return invocation.run(Search(here.spool).search(query, pending=pending))


def _row(event: "Event") -> tuple[object, ...]:
    sender = event.sender or "<>"
    return (
        printing.when(event.at),
        event.kind.value,
        event.message,
        sender,
        event.recipient,
        event.reply or event.detail,
    )


def _show_message(accepted: "Event") -> None:
    printing.facts(
        [
            ("id", accepted.message),
            ("from", accepted.header_from),
            ("envelope sender", accepted.sender or "<>"),
            ("subject", accepted.subject),
            ("Message-ID", accepted.header_message_id),
            ("credential", accepted.credential),
            ("size", printing.size(accepted.size) if accepted.size else ""),
            ("client", accepted.client),
        ]
    )
    printing.line()


def _warn_of_unreadable(found: "Found") -> None:
    for path, reason in found.unreadable.items():
        printing.note(f"{path} was not searched: {reason}")


def _not_known(here: invocation.Invocation) -> str:
    days = here.config.journal.retention_days
    return f"The journal goes back {days} days. Search by other marks: relay log search --to ADDRESS --since 2d"


def _check_credential(here: invocation.Invocation, name: str) -> None:
    """Nothing was found: is the name misspelt? A note only, since the journal outlives credentials."""
    from relay.cli.credential import find
    from relay.registry.snapshot import Snapshot

    async def snapshot() -> Snapshot:
        async with here.registry() as registry:
            return registry.snapshot()

    try:
        find(invocation.run(snapshot()), name)
    except NotFound as unknown:
        printing.note(f"{unknown.text}. {unknown.remedy}")
