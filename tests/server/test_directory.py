"""The spool's directory before anything is opened in it: made, or refused in words, and never touched."""

import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from relay.errors import PermissionRefused, SpoolError, SpoolFull
from relay.server.directory import prepare, shards_on_disk
from tests.server.other_user import NOBODY, as_nobody, directory_of, needs_root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill(directory: Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_it_is_made_for_the_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "var" / "spool"
    prepare(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert list(directory.iterdir()) == []


def test_one_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("mine")
    for directory in (tmp_path / "spool", tmp_path / "spool" / "below"):
        with pytest.raises(SpoolError, match="is, or lies below, a file") as refused:
            prepare(directory)
        assert refused.value.remedy == "set server.spool to a directory"
    assert (tmp_path / "spool").read_text() == "mine"


@needs_root
def test_another_users_is_refused_and_says_whose_it_is() -> None:
    with directory_of(NOBODY) as directory:
        directory.chmod(0o755)
        with pytest.raises(PermissionRefused, match=f"belongs to uid {NOBODY}, this is uid 0") as refused:
            prepare(directory)
        assert f"setpriv --reuid={NOBODY}" in refused.value.remedy
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755


@needs_root
def test_roots_is_refused_to_others() -> None:
    with directory_of(0) as directory, as_nobody(), pytest.raises(PermissionRefused, match="belongs to uid 0"):
        prepare(directory)


@needs_root
def test_where_nothing_may_be_made_the_remedy_says_for_whom_to_make_it() -> None:
    with directory_of(0) as directory:
        directory.chmod(0o755)
        with as_nobody(), pytest.raises(PermissionRefused, match="cannot be made") as refused:
            prepare(directory / "spool")
    assert f"give it to uid {NOBODY}" in refused.value.remedy


def test_a_read_only_file_system_is_named(small_disk: Path) -> None:
    (small_disk / "spool").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for directory in (small_disk / "spool", small_disk / "new"):
        with pytest.raises(SpoolError, match="read-only"):
            prepare(directory)


def test_a_full_disk_keeps_a_new_spool_from_being_made(small_disk: Path) -> None:
    directory = small_disk / "spool"
    directory.mkdir()
    fill(small_disk)
    with pytest.raises(SpoolFull, match="is full"):
        prepare(directory)
    assert list(directory.iterdir()) == []


def test_a_full_disk_does_not_keep_mail_from_being_delivered(small_disk: Path) -> None:
    directory = small_disk / "spool"
    (directory / "shard-0").mkdir(parents=True)
    fill(small_disk)
    prepare(directory)


def test_shards_are_told_from_other_things(tmp_path: Path) -> None:
    for name in ("shard-10", "shard-2", "shard-x", "shard-", "registry.db"):
        (tmp_path / name).mkdir()
    assert shards_on_disk(tmp_path) == [2, 10]
    assert shards_on_disk(tmp_path / "nothing") == []
