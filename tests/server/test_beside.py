"""What runs beside the mail: it is tried again, it is bounded, and nothing it was given is lost."""

import asyncio
import fcntl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from relay.config.models import SubmissionLimits
from relay.errors import RelayError, SpoolError, SpoolFull
from relay.mail.address import Pattern
from relay.registry.store import Registry
from relay.registry.usage import Use
from relay.server.disk_watch import DiskWatch
from relay.server.rates_keeper import Counters, RatesKeeper
from relay.server.repeating import attempt, repeat
from relay.server.uses import Uses
from relay.submission.limits import Rates
from relay.submission.services import Limits
from tests.server.logbook import Logbook
from tests.submission.house import NOW, Clock

HOURLY = Limits(hour=3)


# A work that is repeated.


async def test_what_fails_for_the_machines_reasons_is_told_and_tried_again(logbook: Logbook) -> None:
    tries, done = 0, asyncio.Event()

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise SpoolFull("no space left", remedy="Free space.")
        done.set()

    repeating = asyncio.create_task(repeat(work, every=0.001, log=logbook.log, failing="not done yet"))
    await asyncio.wait_for(done.wait(), 5)
    repeating.cancel()
    lines = logbook.lines("not done yet")
    assert [(line["error"], line["remedy"]) for line in lines] == [("no space left", "Free space.")] * 2


async def test_a_bug_is_no_reason_to_try_again(logbook: Logbook) -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await repeat(work, every=0.001, log=logbook.log, failing="not done yet")
    with pytest.raises(ZeroDivisionError):
        await attempt(work, log=logbook.log, failing="not done")
    assert logbook.lines() == []


# Last uses.


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(tmp_path, now=lambda: NOW, patience=0.1)
    await opened.add_credential("shop", senders=[Pattern.parse("*@example.com")])
    yield opened
    await opened.close()


def use(at: float, address: str = "192.0.2.1") -> Use:
    return Use("shop", at, address, "")


def known(registry: Registry) -> dict[str, float]:
    (login,) = registry.snapshot().logins
    return registry.known_addresses(login)


async def test_only_the_newest_use_of_each_secret_and_address_is_kept(registry: Registry) -> None:
    uses = Uses(registry)
    for second in range(1000):
        uses.record(use(NOW + second))
        uses.record(use(NOW + second, "192.0.2.2"))
    assert len(uses) == 2
    await uses.flush()
    assert len(uses) == 0
    assert known(registry) == {"192.0.2.1": NOW + 999, "192.0.2.2": NOW + 999}


async def test_their_number_is_bounded_and_the_oldest_goes_first(registry: Registry) -> None:
    uses = Uses(registry, most=3)
    for number in (1, 2, 3, 1, 4):
        uses.record(use(NOW + number, f"192.0.2.{number}"))
    await uses.flush()
    assert sorted(known(registry)) == ["192.0.2.1", "192.0.2.3", "192.0.2.4"]


async def test_a_batch_that_could_not_be_written_is_written_with_the_next(registry: Registry, tmp_path: Path) -> None:
    uses = Uses(registry)
    uses.record(use(NOW))
    uses.record(use(NOW, "192.0.2.2"))
    with (tmp_path / "registry.db.lock").open() as somebody:
        fcntl.flock(somebody, fcntl.LOCK_EX)
        writing = asyncio.create_task(uses.flush())
        await asyncio.sleep(0)
        uses.record(use(NOW + 5))
        with pytest.raises(RelayError, match="being changed by another process"):
            await writing
    assert len(uses) == 2
    await uses.flush()
    assert known(registry) == {"192.0.2.1": NOW + 5, "192.0.2.2": NOW}


# What credentials have sent.


def kept(directory: Path, clock: Clock, logbook: Logbook) -> RatesKeeper:
    return RatesKeeper.load(directory, now=clock, log=logbook.log)


def test_what_was_sent_is_remembered_over_a_restart(tmp_path: Path, logbook: Logbook) -> None:
    clock = Clock()
    first = kept(tmp_path, clock, logbook)
    for _ in range(3):
        assert first.rates.take("shop", HOURLY, now=clock()) == 0.0
    first.save_at_the_end(tmp_path, logbook.log)
    clock.time += 600
    second = kept(tmp_path, clock, logbook)
    assert second.rates.take("shop", HOURLY, now=clock()) > 0
    clock.time += 3600
    assert second.rates.take("shop", HOURLY, now=clock()) == 0.0
    assert logbook.lines() == []


def test_first_time_recipients_are_remembered_too(tmp_path: Path, logbook: Logbook) -> None:
    clock, limits = Clock(), Limits(first_time=5)
    first = kept(tmp_path, clock, logbook)
    assert first.rates.take("shop", limits, now=clock(), first_time=4) == 0.0
    first.save_at_the_end(tmp_path, logbook.log)
    clock.time += 43200
    second = kept(tmp_path, clock, logbook)
    assert second.rates.take("shop", limits, now=clock(), first_time=2) > 0
    assert second.rates.take("shop", limits, now=clock(), first_time=1) == 0.0
    clock.time += 43200
    assert second.rates.take("shop", limits, now=clock(), first_time=4) == 0.0
    assert logbook.lines() == []


async def test_only_what_may_have_changed_is_written_and_what_failed_is_written_again() -> None:
    clock, rates = Clock(), Rates()
    written: Counters = {}
    keeper = RatesKeeper(rates, now=clock)

    async def write(counters: Counters) -> None:
        written.update(counters)

    async def refuse(counters: Counters) -> None:
        raise SpoolFull("no space left")

    def begun() -> list[int]:
        return [start for _, window, start in written if window == "hour"]

    rates.take("shop", HOURLY, now=clock())
    clock.time += 300
    rates.take("shop", HOURLY, now=clock())
    with pytest.raises(SpoolFull):
        await keeper.save(refuse)
    clock.time += 300
    await keeper.save(write)
    assert begun() == [NOW, NOW + 300]
    written.clear()
    clock.time += 300
    rates.take("shop", HOURLY, now=clock())
    await keeper.save(write)
    assert begun() == [NOW + 900]


def test_a_registry_that_cannot_be_read_keeps_the_server_from_starting(tmp_path: Path, logbook: Logbook) -> None:
    (tmp_path / "registry.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolError, match=r"registry\.db is damaged"):
        kept(tmp_path, Clock(), logbook)


def test_one_that_cannot_be_written_at_the_end_is_told(tmp_path: Path, logbook: Logbook) -> None:
    keeper = kept(tmp_path, Clock(), logbook)
    keeper.rates.take("shop", HOURLY, now=NOW)
    (tmp_path / "registry.db").write_bytes(b"no database" * 1000)
    for name in ("registry.db-wal", "registry.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    keeper.save_at_the_end(tmp_path, logbook.log)
    (line,) = logbook.lines("what was sent is not saved")
    assert "damaged" in line["error"]


# The disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


async def test_a_disk_that_fills_is_told_once_and_so_is_the_room_that_comes_back(
    small_disk: Path, logbook: Logbook
) -> None:
    watch = DiskWatch(small_disk, limits=SubmissionLimits, log=logbook.log)
    seen = []
    for fill in (None, bytes(2 << 20), None):
        with suppress(OSError):
            (small_disk / "filler").write_bytes(fill or b"")
        for _ in range(3):
            await watch.look()
            seen.append(watch.is_low)
    assert seen == [False] * 3 + [True] * 3 + [False] * 3
    assert [line["event"] for line in logbook.lines()] == ["disk space low", "disk space enough again"]


async def test_a_disk_low_from_the_start_is_told_too(tmp_path: Path, logbook: Logbook) -> None:
    limits = SubmissionLimits(disk_free_share=1.0, disk_free_size=10**15)
    watch = DiskWatch(tmp_path, limits=lambda: limits, log=logbook.log)
    assert watch.is_low
    await watch.look()
    assert [line["event"] for line in logbook.lines()] == ["disk space low"]


async def test_a_disk_that_is_gone_is_an_error_and_what_was_seen_last_stays(tmp_path: Path, logbook: Logbook) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    watch = DiskWatch(directory, limits=SubmissionLimits, log=logbook.log)
    before = watch.space
    directory.rmdir()
    with pytest.raises(SpoolError):
        await watch.look()
    assert watch.space is before
