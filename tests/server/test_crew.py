"""When a worker is started again, and what an end means."""

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from relay.server.channel import Channel
from relay.server.crew import Crew, Life, Slot
from relay.server.forking import Ends
from relay.server.patience import Patience
from tests.server.logbook import Logbook

PATIENCE = Patience(beat=1.0, hung_after=30.0, settled_after=10.0, first_wait=1.0, longest_wait=30.0)


def life(started_at: float = 0.0, *, last_beat: float = 0.0, ready: bool = False, pid: int = 0) -> Life:
    """Of no process, or of that one."""
    unconnected = socket.socket()
    unconnected.close()
    channel = Channel(_nobody, asyncio.TaskGroup())
    return Life(pid, Ends(unconnected, unconnected), channel, started_at=started_at, last_beat=last_beat, ready=ready)


def dead() -> int:
    """A process that has ended and is yet to be reaped."""
    pid = os.posix_spawn("/bin/false", ["false"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


async def _nobody(verb: str, arguments: Sequence[Any]) -> Any:
    raise AssertionError(verb)


def waits(*lasted: float) -> list[float]:
    """How long after each of these lives the next begins."""
    slot, now, found = Slot(0, PATIENCE), 1000.0, []
    for seconds in lasted:
        ended = now + seconds
        slot.ended(life(now), ended)
        found.append(slot.start_at - ended)
        now = slot.start_at
    return found


@pytest.mark.parametrize(
    ("lasted", "expected"),
    [
        pytest.param([3600.0], [0.0], id="one that ran well is replaced at once"),
        pytest.param([0.1], [0.0], id="so is the first that did not"),
        pytest.param([0.1] * 9, [0, 1, 2, 4, 8, 16, 30, 30, 30], id="then the waits double, up to the longest"),
        pytest.param([0.1, 0.1, 0.1, 60.0, 0.1, 0.1], [0, 1, 2, 0, 0, 1], id="one that ran well begins it anew"),
        pytest.param([0.1] * 2000, [0, 1, 2, 4, 8, 16, *[30] * 1994], id="for however long"),
    ],
)
def test_waits(lasted: list[float], expected: list[float]) -> None:
    assert waits(*lasted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("code", "ever_ready", "expected"),
    [
        pytest.param(os.EX_CONFIG, False, True, id="a mistake in relay.toml, at the first start"),
        pytest.param(os.EX_TEMPFAIL, False, True, id="a spool that another server has"),
        pytest.param(os.EX_SOFTWARE, False, True, id="a bug"),
        pytest.param(os.EX_CONFIG, True, False, id="the same once it has run: it may pass"),
        pytest.param(-9, False, False, id="killed by somebody"),
        pytest.param(1, False, False, id="what Python itself ends with"),
        pytest.param(0, False, False, id="an end without an error"),
    ],
)
def test_what_no_restart_cures(code: int, ever_ready: bool, expected: bool) -> None:
    slot = Slot(0, PATIENCE)
    if ever_ready:
        slot.became_ready(life(), now=0.0)
    assert slot.cannot_run(code) is expected


def test_a_slot_with_a_worker_is_never_due(logbook: Logbook) -> None:
    slot = Slot(0, PATIENCE)
    assert slot.is_due(0.0)
    slot.life = life()
    assert not slot.is_due(1e9)


@pytest.mark.parametrize(
    ("beats", "now", "alive", "answering"),
    [
        pytest.param([100.0, 100.0], 101.0, True, 2, id="both have just said so"),
        pytest.param([100.0, 90.0], 101.0, True, 1, id="one is quiet, and not yet hung"),
        pytest.param([100.0, 60.0], 101.0, False, 1, id="one is hung"),
    ],
)
def test_who_lives(beats: list[float], now: float, alive: bool, answering: int, logbook: Logbook) -> None:
    crew = Crew(2, PATIENCE, logbook.log)
    for slot, last_beat in zip(crew.slots, beats, strict=True):
        slot.life = life(last_beat=last_beat, ready=True)
    assert (crew.is_alive(now), crew.answering(now)) == (alive, answering)


def test_one_that_is_being_restarted_is_not_waited_for(logbook: Logbook) -> None:
    crew = Crew(2, PATIENCE, logbook.log)
    crew.slots[0].life = life(last_beat=100.0)
    assert crew.is_alive(101.0)
    assert not crew.is_empty()
    assert crew.answering(101.0) == 0  # it does not take mail yet


async def test_workers_that_end_together_are_all_told_of_and_none_is_signalled_any_more(logbook: Logbook) -> None:
    crew = Crew(2, PATIENCE, logbook.log)
    for slot in crew.slots:
        slot.life = life(pid=dead())
        slot.life.channel.ended.set()
    assert [(each.slot.number, each.code) for each in await crew.ended()] == [(0, 1), (1, 1)]
    crew.drain()  # the first one's end may stop the server, before the second's is dealt with
    crew.kill_all("does not end")


async def test_a_worker_whose_last_words_are_waited_for_is_not_signalled(logbook: Logbook) -> None:
    crew = Crew(1, PATIENCE, logbook.log)
    ended = crew.slots[0].life = life(pid=dead())
    hearing = asyncio.create_task(crew.ended())
    await asyncio.sleep(0)  # it is reaped by now
    assert not hearing.done()
    crew.drain()
    ended.channel.ended.set()
    assert [each.code for each in await hearing] == [1]
