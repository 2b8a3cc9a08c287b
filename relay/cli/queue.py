"""cli.queue: `relay queue`: what is still owed, why, and what an operator may do about it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import invocation, options, printing, queue_flags, queue_orders, shards
from relay.cli.queue_flags import Ids, InStatus, OfCredential, OlderThan, Sender, ToDomain
from relay.cli.site_facts import breaker_value, breaker_words, suspended_value, suspended_words
from relay.errors import NotFound, UsageError

if TYPE_CHECKING:
    from relay.mail.event import Event
    from relay.spool import QueueEntry

app = typer.Typer(help="What is still owed: look, hold, release, retry, cancel.", no_args_is_help=True)

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
        queue_flags.check_names(here, chosen)
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
    tries, held_back = _last_tries(here, message), _held_back(here, message)
    if as_json:
        printing.as_json(
            [
                _why_value(entry, tries.get(entry.recipient.address), held_back[entry.position], here.now())
                for entry in entries
            ]
        )
        return
    for entry in entries:
        facts = _why(entry, tries.get(entry.recipient.address), held_back[entry.position], here.now())
        printing.line(entry.recipient.address)
        printing.facts((f"  {name}", value) for name, value in facts)


for order in (queue_orders.hold, queue_orders.release, queue_orders.retry, queue_orders.cancel):
    app.command()(order)


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
        raise queue_flags.not_queued(message)
    return entries


def _header_of(here: invocation.Invocation, message: str) -> str:
    for reader in shards.readers(here, ids=(message,)):
        try:
            return reader.content(message).head.decode("utf-8", "replace")
        except NotFound:
            return ""  # damaged; the recipients say so
    raise queue_flags.not_queued(message)


def _last_tries(here: invocation.Invocation, message: str) -> "dict[str, Event]":
    """The last attempt of each recipient, as the journal tells it."""
    from relay.journal.search import Search
    from relay.mail.event import Kind

    pending = shards.pending_events(here)
    found = invocation.run(Search(here.spool).show(message, pending=pending))
    return {event.recipient: event for event in found.events if event.kind in (Kind.DEFERRED, Kind.UNKNOWN)}


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What keeps a recipient from being tried, as a worker sees it: its site, if that is in trouble, if suspended,
    and an open breaker. is_served: there is a worker that sees it.
    """

    site: dict[str, Any] | None = None
    trouble: dict[str, Any] | None = None
    suspended: dict[str, Any] | None = None
    breaker: dict[str, Any] | None = None
    is_served: bool = True

    @property
    def source(self) -> str:
        """Our address that it goes from, as far as that is chosen here."""
        known = self.trouble or self.site or {}
        return str(known.get("source", ""))

    def turn_at(self, now: float) -> float:
        """When the site's pace allows the next message, 0 where it does now."""
        turn = self.site.get("next_turn_at", 0.0) if self.site else 0.0
        return float(turn) if turn > now else 0.0


def _held_back(here: invocation.Invocation, message: str) -> Mapping[int, HeldBack]:
    """By position, of any."""
    try:
        answers = invocation.run(shards.ask_owners(here, "why", {"message": message}, ids=(message,)))
    except UsageError:  # a server of the version before does not know the question
        return defaultdict(HeldBack)
    is_served = all(answer is not None for answer in answers.values())
    found: defaultdict[int, HeldBack] = defaultdict(lambda: HeldBack(is_served=is_served))
    for answer in filter(None, answers.values()):
        words = ("sites", "trouble", "suspended", "breakers")
        sites, trouble, suspended, breakers = (answer.get(word, {}) for word in words)
        for position in (
            sites.keys() | trouble.keys() | breakers.keys()
        ):  # a server of the version before tells of trouble alone
            found[int(position)] = HeldBack(*(each.get(position) for each in (sites, trouble, suspended, breakers)))
    return found


def _why(entry: "QueueEntry", tried: "Event | None", held_back: HeldBack, now: float) -> list[tuple[str, object]]:
    site, trouble = held_back.site, held_back.trouble
    return [
        ("status", _status_words(entry, held_back, now)),
        ("damage", entry.damage),
        ("waiting for", printing.span(now - entry.accepted_at)),
        ("tries", entry.attempts),
        ("last try", printing.when(tried.at) if tried else ""),
        ("at", tried.mx if tried else ""),
        ("source", tried.source if tried else ""),
        ("TLS", _tls_words(tried)),
        ("TLS needed", _tls_need_words(site)),
        ("reply", (tried.reply if tried else "") or entry.last_reply),
        ("reason", tried.detail if tried else ""),
        ("blames", tried.verdict if tried else ""),
        ("site", site["name"] if site else trouble["name"] if trouble else ""),
        ("goes from", held_back.source),
        ("MX hosts", ", ".join(site["mx"]) if site else ""),
        ("held back by", "" if entry.held_at else _what_holds(held_back, now)),
        ("next try", "" if entry.held_at else _next_try(entry, held_back, now)),
        ("expires", "" if entry.held_at else printing.when(entry.expires_at)),
    ]


def _what_holds(held_back: HeldBack, now: float) -> str:
    if not held_back.is_served:
        return "no server has it in hand: it is stopped, or has just been started (relay status)"
    if held_back.suspended:
        return f"the site is {suspended_words(held_back.suspended)}"
    if held_back.breaker:
        return f"the breaker: {breaker_words(held_back.breaker)}"
    if held_back.trouble:
        error = str(held_back.trouble["last_error"])
        if held_back.trouble.get("resting"):
            return str(held_back.trouble["resting"])
        return error if held_back.trouble.get("out_of_quota") else f"the site is in trouble: {error}"
    if held_back.site and held_back.turn_at(now):
        limits = held_back.site["limits"]
        named = (
            f"{name} = {limits[name]['value']:g} ({limits[name]['origin']})"
            for name in ("messages_per_second", "messages_per_minute", "messages_per_hour")
            if limits[name]["value"]
        )
        return f"the site's pace: {', '.join(named)}"
    return ""


def _next_try(entry: "QueueEntry", held_back: HeldBack, now: float) -> str:
    trouble, suspended = held_back.trouble, held_back.suspended
    if suspended and not suspended["until"]:
        return f"when the site is resumed: relay site resume {suspended['site']}"
    if trouble and trouble.get("resting") and not trouble["next_probe_at"]:
        return f"when {trouble['source']} sends again, or another of its pool: relay source show {trouble['source']}"
    times = (
        entry.due_at,
        trouble["next_probe_at"] if trouble else 0.0,
        suspended["until"] if suspended else 0.0,
        held_back.breaker["until"] if held_back.breaker else 0.0,
        held_back.turn_at(now),
    )
    if not held_back.is_served and max(times) <= now:
        return "when the server runs"
    condition = "" if held_back.is_served else ", if the server runs then"
    return f"{printing.when(max(times))} ({_in(max(times) - now)}){condition}"


def _tls_words(tried: "Event | None") -> str:
    """Of the connection that the last try was made over, where there was one that somebody answered on."""
    if tried is None:
        return ""
    return tried.tls or ("clear text" if tried.source and tried.reply else "")


def _tls_need_words(site: dict[str, Any] | None) -> str:
    """Of MX hosts, where it is not left to them."""
    need = site["limits"].get("tls") if site else None  # of no smarthost, and unknown to a server of the version before
    return f"{need['value']} ({need['origin']})" if need and need["value"] != "opportunistic" else ""


def _status_words(entry: "QueueEntry", held_back: HeldBack, now: float) -> str:
    if entry.damage:
        since = printing.when(entry.held_at)
        return f"set aside since {since}; looked at again by: relay queue release {entry.message_id}"
    if entry.held_at:
        return f"held since {printing.when(entry.held_at)}; goes on with: relay queue release {entry.message_id}"
    if held_back.suspended:
        return f"{entry.status.value}: its site is suspended, and it is tried when that ends"
    if held_back.trouble and held_back.trouble.get("out_of_quota"):
        whose = "the numbers of our address's warm-up are" if held_back.source else "our quota at its smarthost is"
        return f"{entry.status.value}: {whose} used up, and it is tried when there is room again"
    if held_back.trouble and held_back.trouble.get("resting"):
        return f"{entry.status.value}: no address that it may leave from can send now, and it goes when one can"
    if held_back.trouble:
        return f"{entry.status.value}: its site takes no mail now; one message probes it, the others wait"
    if held_back.breaker:
        return f"{entry.status.value}: a breaker holds it; one message probes, the others wait"
    if entry.attempts:
        return entry.status.value
    is_first = held_back.is_served and not held_back.turn_at(now)
    return f"{entry.status.value}: not tried yet{', or being tried for the first time' if is_first else ''}"


def _why_value(entry: "QueueEntry", tried: "Event | None", held_back: HeldBack, now: float) -> dict[str, Any]:
    site, trouble, suspended = held_back.site, held_back.trouble, held_back.suspended
    return {
        **as_value(entry),
        "last_attempt_at": printing.iso(tried.at) if tried else None,
        "mx": (tried.mx or None) if tried else None,
        "source": (tried.source or None) if tried else None,
        "tls": (tried.tls or None) if tried else None,
        "verdict": (tried.verdict or None) if tried else None,
        "reason": (tried.detail or None) if tried else None,
        "server": "running" if held_back.is_served else "stopped",
        "site": site["name"] if site else None,
        "site_source": held_back.source or None,
        "mx_hosts": site["mx"] if site else None,
        "limits": site["limits"] if site else None,
        "next_turn_at": printing.iso(held_back.turn_at(now)),
        "site_in_trouble": trouble["name"] if trouble else None,
        "site_error": (trouble["last_error"] or None) if trouble else None,
        "source_error": (trouble.get("resting") or None) if trouble else None,
        "next_probe_at": printing.iso(trouble["next_probe_at"]) if trouble else None,
        "breaker": breaker_value(held_back.breaker) if held_back.breaker else None,
        "site_suspended": {"site": suspended["site"], **suspended_value(suspended)} if suspended else None,
    }
