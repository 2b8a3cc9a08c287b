"""What is read from this machine's kernel."""

import ipaddress
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from relay.config.models import SubmissionLimits
from relay.errors import SpoolError
from relay.server.machine import DiskSpace, disk_space, ipv6_source, own_addresses, raise_file_limit

GIB = 1024**3
LIMITS = SubmissionLimits()


def test_our_addresses_are_those_that_can_be_bound() -> None:
    own = own_addresses()
    assert ipaddress.ip_address("127.0.0.1") in own
    assert ipaddress.ip_address("192.0.2.1") not in own
    for address in own:
        if not address.is_link_local:  # those want an interface named
            family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
            with socket.socket(family) as probe:
                probe.bind((str(address), 0))


def test_the_ipv6_source_is_one_of_ours_or_there_is_none() -> None:
    source = ipv6_source()
    assert not source or ipaddress.ip_address(source) in own_addresses()


def test_a_kernel_without_ipv6_has_no_ipv6_source() -> None:
    """In a network namespace without a single address, as a stand-in."""
    code = "from relay.server.machine import ipv6_source; print(repr(ipv6_source()))"
    asked = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if "unshare" in asked.stderr:
        pytest.skip("no namespaces here")
    assert asked.stdout == "''\n", asked.stderr


@pytest.mark.parametrize(
    ("space", "low"),
    [
        pytest.param(DiskSpace(50 * GIB, 100 * GIB, 0, 0), False, id="half free"),
        pytest.param(DiskSpace(11 * GIB, 1000 * GIB, 0, 0), False, id="1 %, and over 10 GiB"),
        pytest.param(DiskSpace(5 * GIB, 20 * GIB, 0, 0), False, id="5 GiB, and over 10 %"),
        pytest.param(DiskSpace(5 * GIB, 100 * GIB, 0, 0), True, id="5 %, and 5 GiB"),
        pytest.param(DiskSpace(50 * GIB, 100 * GIB, 5, 100), True, id="5 % of the inodes"),
        pytest.param(DiskSpace(50 * GIB, 100 * GIB, 0, 0), False, id="a file system that counts no inodes"),
    ],
)
def test_low_is_below_the_share_and_the_size(space: DiskSpace, low: bool) -> None:
    assert space.is_low(LIMITS) is low


def test_free_space_is_what_the_file_system_says(tmp_path: Path) -> None:
    space = disk_space(tmp_path)
    assert 0 < space.free <= space.total
    assert space.free_inodes <= space.inodes


def test_a_disk_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="No such file or directory"):
        disk_space(tmp_path / "gone")


def test_the_soft_limit_of_files_is_raised_to_what_is_allowed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        limit = raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, before[1])
        assert limit == 65536 if before[1] == resource.RLIM_INFINITY else min(before[1], 65536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
