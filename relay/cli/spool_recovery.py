"""cli.spool_recovery: what `relay spool recover` does to one shard, and what it says of it.

What was lost is what the journal knows to have been accepted, without an end that anybody wrote down, and what the
recovered queue does not have. It may have been delivered in the last moments before the damage.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from relay.cli import invocation, printing

if TYPE_CHECKING:
    from relay.journal.owed import Owed
    from relay.spool.salvage import Salvaged


def recovered(here: invocation.Invocation, shard: int) -> dict[str, Any]:
    """Stable fields. Raises SpoolLocked, SpoolVersion, SpoolError."""
    from relay.journal.owed import owed
    from relay.spool.replacing import recover_shard

    done = recover_shard(here.spool, shard=shard, now=here.now)
    if done.salvaged is None:
        return {"shard": shard, "damaged": False, "original": None, "messages": None, "recipients": None,
                "set_aside": 0, "lost": [], "unreadable": []}  # fmt: skip
    known, unreadable = owed(here.spool / f"shard-{shard}", done.salvaged.events)
    return {
        "shard": shard,
        "damaged": True,
        "original": str(done.original),
        "messages": done.salvaged.messages,
        "recipients": len(done.salvaged.owed),
        "set_aside": done.salvaged.set_aside,
        "lost": _lost(done.salvaged, known),
        "unreadable": unreadable,
    }


def _lost(salvaged: "Salvaged", known: "Owed") -> list[dict[str, Any]]:
    """By message, the oldest first: ids sort by time."""
    from relay.mail.queue_id import accepted_at

    lost: dict[str, dict[str, Any]] = {}
    for fragment in salvaged.fragments:
        lost[fragment.message] = _one(fragment.message, fragment.sender, accepted_at(fragment.message))
    for (message, recipient), event in known.items():
        if (message, recipient) not in salvaged.owed:
            entry = lost.setdefault(message, _one(message, event.sender, event.at))
            entry["sender"] = event.sender
            entry["recipients"].append(recipient)
    return [lost[message] for message in sorted(lost)]


def _one(message: str, sender: str | None, at: float) -> dict[str, Any]:
    return {"id": message, "sender": sender, "recipients": [], "accepted_at": printing.iso(at)}


def lines(value: dict[str, Any]) -> Iterator[str]:
    """For people."""
    if not value["damaged"]:
        yield f"shard {value['shard']}: nothing is damaged, nothing was done"
        return
    recipients = printing.count(value["recipients"], "recipient")
    yield f"shard {value['shard']}: {recipients} of {printing.count(value['messages'], 'message')} saved"
    yield f"  the damaged original: {value['original']}"
    if value["set_aside"]:
        aside = printing.count(value["set_aside"], "recipient")
        yield f"  {aside} set aside, being damaged: relay queue list --status damaged"
    for each in value["unreadable"]:
        yield f"  the journal could not be read: {each}"
    for each in value["lost"]:
        to = ", ".join(each["recipients"]) or "recipients that nothing tells of"
        yield f"  lost: {each['id']}, accepted {each['accepted_at']} from {each['sender'] or '<>'} for {to}"
