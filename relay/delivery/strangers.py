"""delivery.strangers: sites that gave no session when they were last dialled, or never were.

So many a second are dialled by a worker, and one more for each that gives a session: ten thousand that refuse at once
would otherwise have the worker to themselves for as long as it takes to find that out. Those that wait have their turn
in a fair order of whose mail is for them: so one application's mail to a new site does not wait for all that another's
campaign goes to.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from relay.delivery.fair_order import FairOrder, Sharer
from relay.delivery.site import Site

PER_SECOND = 50
_EACH = 1 / PER_SECOND


class Strangers:
    """One worker's. resume: called with a site that may be dialled now. has_room: for one more to be dialled."""

    def __init__(self, resume: Callable[[Site], None], *, has_room: Callable[[], bool]) -> None:
        self._resume = resume
        self._has_room = has_room
        self._waiting: dict[Sharer, OrderedDict[Site, None]] = {}
        self._order = FairOrder()
        self._resumed: Site | None = None
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def admits(self, site: Site, sharer: Sharer) -> bool:
        """Whether the site may be dialled now; else it waits to be resumed. sharer: whose mail is for it."""
        if not site.is_stranger:
            return True
        now = asyncio.get_running_loop().time()
        is_its_turn = site is self._resumed or not self._waiting
        if is_its_turn and self._next_at <= now and self._has_room():
            self._resumed = None
            self._next_at = max(self._next_at, now) + _EACH
            return True
        site.waits_for_limit = True
        self._waiting.setdefault(sharer, OrderedDict())[site] = None
        self._order.wait(sharer)
        self._set_timer(not_before=now)
        return False

    def dialled(self, site: Site, *, gave_session: bool) -> None:
        if site.is_stranger and gave_session:
            self._next_at -= _EACH
            self._set_timer()
        site.is_stranger = not gave_session

    def stop(self) -> None:
        """None is dialled any more."""
        self._waiting.clear()
        self._order.clear()
        self._resumed = None

    def _set_timer(self, *, not_before: float = 0.0) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            at = max(self._next_at, not_before)
            self._timer = asyncio.get_running_loop().call_at(at, self._give)

    def _give(self) -> None:
        """The one that is resumed will be admitted a moment later, and nobody before it while others wait."""
        if self._waiting and self._has_room():
            self._resumed = self._next()
            self._resume(self._resumed)
        self._set_timer(not_before=asyncio.get_running_loop().time() + _EACH)

    def _next(self) -> Site:
        sharer = self._order.first()
        self._order.reach(self._order.place(sharer))
        sites = self._waiting[sharer]
        site, _ = sites.popitem(last=False)
        if not sites:
            del self._waiting[sharer]
            self._order.leave(sharer)
        return site
