"""delivery.setting_back: a warm-up that a provider does not want to go so fast.

Where the provider asks for less, or refuses our address, the day is written down as a setback, once: its schedule goes
on tomorrow as if today had not been, on every worker and over restarts. What today's number is stays: how fast the site
is to be given more again is the governor's matter.
"""

from collections.abc import Awaitable, Callable, Coroutine

from relay.delivery.site import Site
from relay.delivery.warming import day_at
from relay.errors import RelayError
from relay.log import Log
from relay.registry.setbacks import Setback

NoteSetback = Callable[[Setback], Awaitable[None]]
Begin = Callable[[Coroutine[None, None, None]], None]


class SettingBack:
    """note: writes one down, and raises RelayError. begin: starts a task that somebody owns. now: POSIX seconds."""

    def __init__(self, note: NoteSetback, *, begin: Begin, log: Log, now: Callable[[], float]) -> None:
        self._note = note
        self._begin = begin
        self._log = log
        self._now = now
        self._last: dict[tuple[str, str], Setback] = {}

    def heard(self, site: Site, said: str) -> None:
        """said: the reply and its host."""
        stage = site.quota.stage
        if stage is None:
            return
        setback = Setback(stage.address, stage.provider, day_at(self._now()), said)
        last = self._last.get((stage.address, stage.provider))
        if last is None or last.day != setback.day:
            self._last[stage.address, stage.provider] = setback
            self._begin(self._keep(setback))

    async def _keep(self, setback: Setback) -> None:
        try:
            await self._note(setback)
        except RelayError as error:
            del self._last[setback.source, setback.provider]
            self._log.error("setback not kept", source=setback.source, error=error.text, remedy=error.remedy)
        else:
            self._log.warning("warm-up set back", source=setback.source, provider=setback.provider, cause=setback.reply)
