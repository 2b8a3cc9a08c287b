"""server.machine: what this machine is: its addresses, its limits, its disk.

Read from /proc and statvfs; Linux only, as the service is.
"""

import ipaddress
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path

from relay.config.models import SubmissionLimits
from relay.config.values import Address
from relay.errors import SpoolError

WANTED_FILES = 65536


def own_addresses() -> frozenset[Address]:
    """Every address of this machine's interfaces."""
    return frozenset([*_own_ipv4(), *_own_ipv6()])


def why_not_bound(address: Address) -> str:
    """In words, why no connection can be opened from the address; "" where one can. The kernel knows more of them than
    the interfaces have: all of 127.0.0.0/8, and whole networks by `ip route add local`.
    """
    try:
        with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _own_ipv4() -> set[Address]:
    """fib_trie lists each local address as a /32 host LOCAL leaf below its number."""
    found: set[Address] = set()
    last = ""
    for line in _lines("/proc/net/fib_trie"):
        word = line.split()
        if word[:1] == ["|--"]:
            last = word[1]
        elif "host" in word and "LOCAL" in word and last:
            found.add(ipaddress.IPv4Address(last))
    return found


def _own_ipv6() -> set[Address]:
    return {ipaddress.IPv6Address(int(line.split()[0], 16)) for line in _lines("/proc/net/if_inet6")}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []  # no IPv6 in this kernel


def ipv6_source() -> str:
    """The address this machine would send from to the IPv6 Internet, "" without a route. Sends nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:500:2f::f", 53))  # f.root-servers.net; any address of the Internet would do
            return str(probe.getsockname()[0])
    except OSError:  # no route, or no IPv6 in this kernel
        return ""


def raise_file_limit() -> int:
    """RLIMIT_NOFILE up to what is allowed, at most 65536; the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """free, total: octets an unprivileged process may use. inodes are 0 of 0 where the file system reports none."""

    free: int
    total: int
    free_inodes: int
    inodes: int

    def __str__(self) -> str:
        inodes = f" and {self.free_inodes} of {self.inodes} inodes" if self.inodes else ""
        return f"{self.free} of {self.total} octets{inodes} are free"

    def is_low(self, limits: SubmissionLimits) -> bool:
        """Below the share and below the size; or short of inodes, where the file system counts them."""
        share = limits.disk_free_share
        short = self.free < self.total * share and self.free < limits.disk_free_size
        return short or (self.inodes > 0 and self.free_inodes < self.inodes * share)


def disk_space(directory: Path) -> DiskSpace:
    """Raises SpoolError."""
    try:
        status = os.statvfs(directory)
    except OSError as error:
        raise SpoolError(f"the disk of {directory} cannot be asked for its free space: {error.strerror}") from error
    return DiskSpace(
        free=status.f_bavail * status.f_frsize,
        total=status.f_blocks * status.f_frsize,
        free_inodes=status.f_favail,
        inodes=status.f_files,
    )
