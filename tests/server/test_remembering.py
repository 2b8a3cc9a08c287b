"""What sites have taught, over a restart: kept whole, and no reason not to start."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.delivery.feedback import Kind, Push
from relay.delivery.machine_limits import LEARNT_KEPT_ON_DISK, MachineLimits
from relay.delivery.pace import Pace
from relay.delivery.taught import NOTHING, Taught
from relay.log import Log, Output
from relay.server.remembering import FILE, Remembering

START = 1_800_000_000.0
SHARER = ("transactional", "app")
SAID = "421 4.7.0 Too many from mx3.example"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(Output(tmp_path / "log"), now=lambda: START)


def limits(remembering: Remembering, *, now: float = START, booted_at: float = 0.0) -> MachineLimits:
    return MachineLimits(
        steady=lambda: now - booted_at,
        now=lambda: now,
        tell=lambda *_: None,
        is_free=lambda *_: None,
        noted=lambda *_: None,
        before=remembering.before.limits,
        went=remembering.before.went,
    )


def taught(log: Log, directory: Path) -> None:
    """A server that has met a site with a ceiling of 2, one with a rate, and one that never refused anything."""
    remembering = Remembering(directory, log)
    made = limits(remembering)
    for site in ("crowded", "paced", "easy"):
        for _ in range(2):
            assert made.acquire(0, site, maximum=10)
            made.opened(0, site)
        made.taken(site, 2)
    assert made.acquire(0, "crowded", maximum=10)
    made.pushed_back("crowded", Push(Kind.REFUSED, SAID, epoch=0, in_session=False))
    made.pushed_back("paced", Push(Kind.SLOW, "451 4.7.1 slow down", epoch=0))
    remembering.save(Taught(made.learnt(), {}))


def test_a_ceiling_a_rate_and_their_causes_outlive_a_restart(log: Log, tmp_path: Path) -> None:
    taught(log, tmp_path)
    remembering = Remembering(tmp_path, log)
    assert remembering.before.limits.keys() == {"crowded", "paced"}
    made = limits(remembering)
    for _ in range(2):
        assert made.acquire(0, "crowded", maximum=10)
        made.opened(0, "crowded")
    made.taken("crowded", 50)
    assert not made.acquire(0, "crowded", maximum=10)  # two were what it took
    assert made.learnt()["paced"].rate == 1.0
    assert [str(change) for change in made.learnt()["crowded"].changes][-1] == f"3 → 1 connections: {SAID}"


def test_the_file_is_the_owners_alone(log: Log, tmp_path: Path) -> None:
    taught(log, tmp_path)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_what_no_mail_came_for_is_kept_for_a_day(log: Log, tmp_path: Path) -> None:
    taught(log, tmp_path)
    remembering = Remembering(tmp_path, log)
    assert limits(remembering, now=START + LEARNT_KEPT_ON_DISK - 1).learnt().keys() == {"crowded", "paced"}
    assert limits(remembering, now=START + LEARNT_KEPT_ON_DISK).learnt() == {}


@pytest.mark.parametrize(
    "octets",
    [b"", b"{", b"[]", b'{"limits": {"mx": {}}, "breakers": {}}', b'{"limits": {}}', b'{"\xff": {}}'],
    ids=["empty", "cut", "a list", "a part of a limit", "a part", "no UTF-8"],
)
def test_a_file_that_is_none_is_told_and_left_out_of_account(octets: bytes, log: Log, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(octets)
    assert Remembering(tmp_path, log).before == NOTHING
    log.output.flush()
    assert "what sites taught is not known any more" in (tmp_path / "log").read_text()


def test_a_directory_that_cannot_be_written_is_told(log: Log, tmp_path: Path) -> None:
    remembering = Remembering(tmp_path / "gone", log)
    taught(log, tmp_path)
    remembering.save(Remembering(tmp_path, log).before)
    log.output.flush()
    assert "what sites taught is not saved yet" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("pace", "later", "wait"),
    [
        (Pace(per_minute=3), 20.0, 42.0),
        (Pace(per_minute=4), 20.0, 0.0),
        (Pace(per_minute=3), 70.0, 0.0),
        (Pace(per_hour=3), 1800.0, 1920.0),
        (Pace(per_hour=3), 4000.0, 0.0),
        (Pace(per_second=3.0), 0.0, 0.0),
    ],
)
async def test_what_went_in_a_minute_and_an_hour_counts_over_restarts_and_reboots(
    log: Log, tmp_path: Path, pace: Pace, later: float, wait: float
) -> None:
    remembering = Remembering(tmp_path, log)
    made = limits(remembering)
    for _ in range(3):
        await made.take_turn(0, "paced", replace(pace, per_second=0.0), count=1, sharer=SHARER)
    remembering.save(Taught({}, {}, made.went()))
    for restarted in range(2):  # what nobody asked for in between is not forgotten
        remembering = Remembering(tmp_path, log)
        made = limits(remembering, now=START + later, booted_at=START - 1000.0 * restarted)
        remembering.save(Taught({}, {}, made.went()))
    turn = await made.take_turn(0, "paced", pace, count=1, sharer=SHARER)
    assert turn == pytest.approx(wait, abs=pace_part(pace))


def pace_part(pace: Pace) -> float:
    """Of a minute's or an hour's."""
    return 60.0 if pace.per_hour else 1.0
