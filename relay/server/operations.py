"""server.operations: an operator's verbs on one shard, the same for its owner and for a command that opens it itself.

hold, release, retry and cancel take a selection and answer with what they changed; `status` tells what is only in
memory. The owner also tells its scheduler: what is held or cancelled is taken out of every line it waits in, what is
released or to be tried now is read from the disk again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from relay.delivery.site import Site
from relay.errors import UsageError
from relay.server.shard import Shard
from relay.spool import Change, Selection, Spool

CHANGES = ("hold", "release", "retry", "cancel")


async def change(spool: Spool, verb: str, parameters: dict[str, Any]) -> list[Change]:
    """parameters: "selection" (the fields of Selection) and "by" (who asks, for the journal). Raises UsageError."""
    if verb not in CHANGES:
        raise UsageError(f'"{verb}" is no command for the queue', remedy=f"use one of {', '.join(CHANGES)}")
    selection = msgspec.convert(parameters["selection"], Selection)
    by: str = parameters["by"]
    orders = {"hold": spool.hold, "release": spool.release, "retry": spool.retry, "cancel": spool.cancel}
    return [change async for changes in orders[verb](selection, by=by) for change in changes]


def answer(changes: Sequence[Change]) -> dict[str, Any]:
    return {"changed": msgspec.to_builtins(changes)}


class Operations:
    """What the control socket of an owned shard answers."""

    def __init__(self, shard: Shard, *, now: Callable[[], float]) -> None:
        self._shard = shard
        self._now = now

    async def answer(self, verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if verb == "status":
            return self._status()
        changes = await change(self._shard.spool, verb, parameters)
        self._tell_scheduler(verb, changes)
        return answer(changes)

    def _tell_scheduler(self, verb: str, changes: Sequence[Change]) -> None:
        scheduler = self._shard.scheduler
        if verb in ("hold", "cancel"):
            scheduler.drop({(each.message_id, each.position) for each in changes})
        elif verb == "release":
            scheduler.stored({each.domain for each in changes})
        else:
            scheduler.retry_now({each.domain for each in changes})

    def _status(self) -> dict[str, Any]:
        shard = self._shard
        return {
            "in_memory": len(shard.scheduler.window),
            "at_work": shard.couriers.at_work,
            "sites": [self._site(site) for site in shard.couriers.sites.values()],
        }

    def _site(self, site: Site) -> dict[str, Any]:
        return {
            "name": site.name,
            "waiting": site.waiting,
            "couriers": site.couriers,
            "connections": site.couriers + len(site.idle),
            "limit": site.governor.connections,
            "in_trouble": site.governor.in_trouble,
            "next_probe_at": site.governor.retry_at if site.governor.in_trouble else 0.0,
            "last_error": site.last_error,
        }
