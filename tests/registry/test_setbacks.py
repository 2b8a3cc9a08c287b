"""Setbacks of warm-ups in the registry: one a day and provider, kept, seen by every process, forgotten after a year."""

from datetime import date, timedelta
from pathlib import Path

from relay.registry.setbacks import KEPT, Setback
from relay.registry.store import Registry
from tests.registry.clock import Clock

DAY = date(2026, 12, 3)
ONE = Setback("203.0.113.12", "google", DAY, "421 4.7.28 from mx.google.com")


async def test_a_setback_is_kept_with_the_first_reply_of_its_day(
    registry: Registry, tmp_path: Path, clock: Clock
) -> None:
    await registry.note_setback(ONE)
    await registry.note_setback(Setback(ONE.source, ONE.provider, DAY, "421 again"))
    next_day = Setback(ONE.source, ONE.provider, DAY + timedelta(days=1), "421 4.7.28 once more")
    elsewhere = Setback("203.0.113.13", "yahoo", DAY, "421 [TSS04]")
    for setback in (next_day, elsewhere):
        await registry.note_setback(setback)
    other = await Registry.open(tmp_path, now=clock)
    assert other.snapshot().setbacks == (ONE, next_day, elsewhere)
    await other.close()


async def test_what_is_longer_ago_than_any_warm_up_is_forgotten(registry: Registry) -> None:
    await registry.note_setback(ONE)
    later = Setback(ONE.source, "yahoo", DAY + KEPT + timedelta(days=1), "421")
    await registry.note_setback(later)
    assert registry.snapshot().setbacks == (later,)
