"""cli.queue: `relay queue`: what is still owed, why, and what an operator may do about it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, queue_flags, shards
from relay.cli.queue_flags import Ids, InStatus, OfCredential, OlderThan, Sender, ToDomain
from relay.errors import NotFound, UsageError

if TYPE_CHECKING:
    from relay.mail.event import Event
    from relay.spool import QueueEntry, Selection

app = typer.Typer(help="What is still owed: look, hold, release, retry, cancel.", no_args_is_help=True)

_COMPARED = 10_000  # domains among which the nearest is looked for

Id = Annotated[str, typer.Argument(metavar="ID", help="The queue id.")]


@app.command("list")
def list_entries(
    context: typer.Context,
    *,
    ids: Ids = None,
    to_domain: ToDomain = "",
    sender: Sender = None,
    credential: OfCredential = "",
    status: InStatus = "",
    older_than: OlderThan = "",
    limit: options.Limit = 100,
    as_json: options.Json = False,
) -> None:
    """Recipients that are waiting, oldest first."""
    here = invocation.of(context)
    chosen = queue_flags.selection(
        ids=ids, to_domain=to_domain, sender=sender, credential=credential, status=status, older_than=older_than
    )
    entries = shards.find(here, chosen, limit=limit)
    if not entries:
        check_names(here, chosen)
    if as_json:
        printing.as_json([as_value(entry) for entry in entries])
        return
    columns = ("id", "recipient", "status", "age", "tries", "next try", "last reply")
    printing.table(columns, (_row(entry, now=here.now()) for entry in entries), empty="Nothing is waiting.")
    total = shards.count(here, chosen)
    if total > len(entries):
        printing.note(f"{total - len(entries)} more; see them with --limit {total}")


@app.command()
def show(context: typer.Context, message: Id, as_json: options.Json = False) -> None:
    """One message that is waiting: envelope, recipients, header."""
    here = invocation.of(context)
    entries = _entries_of(here, message)
    header = _header_of(here, message)
    first = entries[0]
    if as_json:
        printing.as_json(
            {**_message_value(first), "header": header, "recipients": [as_value(each) for each in entries]}
        )
        return
    printing.facts(
        [
            ("id", first.message_id),
            ("from", first.sender or "<>"),
            ("credential", first.credential),
            ("stream", first.stream),
            ("accepted", f"{printing.when(first.accepted_at)} ({printing.span(here.now() - first.accepted_at)} ago)"),
            ("expires", printing.when(first.expires_at)),
            ("size", printing.size(first.size)),
        ]
    )
    printing.line()
    columns = ("recipient", "status", "tries", "next try", "last reply")
    printing.table(
        columns, ((*_row(each, now=here.now())[1:3], *_row(each, now=here.now())[4:]) for each in entries), empty=""
    )
    printing.line()
    printing.block(header)


@app.command()
def why(context: typer.Context, message: Id, as_json: options.Json = False) -> None:
    """Why a message has not been delivered, and when it is tried next."""
    here = invocation.of(context)
    entries = _entries_of(here, message)
    tries, trouble = _last_tries(here, message), _trouble(here, message)
    if as_json:
        printing.as_json(
            [
                _why_value(entry, tries.get(entry.recipient.address), trouble.get(str(entry.position)))
                for entry in entries
            ]
        )
        return
    for entry in entries:
        facts = _why(entry, tries.get(entry.recipient.address), trouble.get(str(entry.position)), here.now())
        printing.line(entry.recipient.address)
        printing.facts((f"  {name}", value) for name, value in facts)


def as_value(entry: "QueueEntry") -> dict[str, Any]:
    """Stable fields."""
    return {
        **_message_value(entry),
        "recipient": entry.recipient.address,
        "status": entry.status.value,
        "attempts": entry.attempts,
        "next_attempt_at": printing.iso(entry.due_at),
        "held_at": printing.iso(entry.held_at),
        "last_reply": entry.last_reply or None,
        "damage": entry.damage or None,
    }


def _message_value(entry: "QueueEntry") -> dict[str, Any]:
    return {
        "id": entry.message_id,
        "sender": entry.sender,
        "credential": entry.credential,
        "stream": entry.stream,
        "subject": entry.subject,
        "size": entry.size,
        "accepted_at": printing.iso(entry.accepted_at),
        "expires_at": printing.iso(entry.expires_at),
    }


def _row(entry: "QueueEntry", *, now: float) -> tuple[object, ...]:
    return (
        entry.message_id,
        entry.recipient.address,
        entry.status.value,
        printing.span(now - entry.accepted_at),
        entry.attempts,
        "" if entry.held_at else _in(entry.due_at - now),
        entry.damage or entry.last_reply,
    )


def _in(seconds: float) -> str:
    return "now" if seconds <= 0 else f"in {printing.span(seconds)}"


def _entries_of(here: invocation.Invocation, message: str) -> "list[QueueEntry]":
    """Raises NotFound when nothing of it is waiting."""
    chosen = queue_flags.selection(ids=[message])
    entries = shards.find(here, chosen, limit=100_000)
    if not entries:
        raise _not_queued(message)
    return entries


def _not_queued(message: str) -> NotFound:
    return NotFound(
        f"nothing of message {message} is in the queue", remedy=f"What became of it: relay log show {message}"
    )


def _header_of(here: invocation.Invocation, message: str) -> str:
    for reader in shards.readers(here, ids=(message,)):
        try:
            return reader.content(message).head.decode("utf-8", "replace")
        except NotFound:
            return ""  # damaged; the recipients say so
    raise _not_queued(message)


def _last_tries(here: invocation.Invocation, message: str) -> "dict[str, Event]":
    """The last attempt of each recipient, as the journal tells it."""
    from relay.journal.search import Search
    from relay.mail.event import Kind

    pending = shards.pending_events(here)
    found = invocation.run(Search(here.spool).show(message, pending=pending))
    return {event.recipient: event for event in found.events if event.kind in (Kind.DEFERRED, Kind.UNKNOWN)}


def _trouble(here: invocation.Invocation, message: str) -> dict[str, Any]:
    """The sites in trouble that recipients wait for, by position, as the worker sees them."""
    try:
        answers = invocation.run(shards.ask_owners(here, "why", {"message": message}, ids=(message,)))
    except UsageError:  # a server of the version before does not know the question
        return {}
    return {position: site for answer in answers.values() if answer for position, site in answer["trouble"].items()}


def _why(
    entry: "QueueEntry", tried: "Event | None", trouble: dict[str, Any] | None, now: float
) -> list[tuple[str, object]]:
    next_try = max(entry.due_at, trouble["next_probe_at"] if trouble else 0.0)
    return [
        ("status", _status_words(entry, trouble)),
        ("damage", entry.damage),
        ("waiting for", printing.span(now - entry.accepted_at)),
        ("tries", entry.attempts),
        ("last try", printing.when(tried.at) if tried else ""),
        ("at", tried.mx if tried else ""),
        ("reply", (tried.reply if tried else "") or entry.last_reply),
        ("reason", tried.detail if tried else ""),
        ("blames", tried.verdict if tried else ""),
        ("its site", f"{trouble['name']}: {trouble['last_error']}" if trouble else ""),
        ("next try", "" if entry.held_at else f"{printing.when(next_try)} ({_in(next_try - now)})"),
        ("expires", "" if entry.held_at else printing.when(entry.expires_at)),
    ]


def _status_words(entry: "QueueEntry", trouble: dict[str, Any] | None) -> str:
    if entry.damage:
        since = printing.when(entry.held_at)
        return f"set aside since {since}; looked at again by: relay queue release {entry.message_id}"
    if entry.held_at:
        return f"held since {printing.when(entry.held_at)}; goes on with: relay queue release {entry.message_id}"
    if trouble is not None:
        return f"{entry.status.value}: its site takes no mail now; one message probes it, the others wait"
    return entry.status.value if entry.attempts else "queued: not tried yet, or being tried for the first time"


def _why_value(entry: "QueueEntry", tried: "Event | None", trouble: dict[str, Any] | None) -> dict[str, Any]:
    return {
        **as_value(entry),
        "last_attempt_at": printing.iso(tried.at) if tried else None,
        "mx": (tried.mx or None) if tried else None,
        "tls": (tried.tls or None) if tried else None,
        "verdict": (tried.verdict or None) if tried else None,
        "reason": (tried.detail or None) if tried else None,
        "site_in_trouble": trouble["name"] if trouble else None,
        "site_error": (trouble["last_error"] or None) if trouble else None,
        "next_probe_at": printing.iso(trouble["next_probe_at"]) if trouble else None,
    }


def check_names(here: invocation.Invocation, chosen: "Selection") -> None:
    """Nothing was found: because a name is misspelt? Raises NotFound with the nearest."""
    from relay.cli.credential import find
    from relay.registry.snapshot import Snapshot

    for message in chosen.ids:
        if not shards.find(here, queue_flags.selection(ids=[message]), limit=1):
            raise _not_queued(message)

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
