"""bench.programs: the load generator and the sink, compiled when their source is newer, and run.

They are in C so that they take little of the cores they share with what is measured. The sink's counts are read from
the file it maps; see sink.c for what they mean.
"""

import fcntl
import json
import mmap
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parents[1]
BUILT = TOP / ".peers" / "bench"
NUMBERS = 1_000_000
_LIBRARIES = {"load": ("-pthread", "-lssl", "-lcrypto"), "sink": ()}
_TOTALS = struct.Struct("12Q")
_ENTRY = struct.Struct("2IQ")


def compiled(name: str) -> Path:
    """The program `load` or `sink`."""
    source, program = HERE / f"{name}.c", BUILT / name
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            _install_compiler()
            flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
            subprocess.run(["gcc", *flags, "-o", program, source, *_LIBRARIES[name]], check=True)
    return program


def _install_compiler() -> None:
    if shutil.which("gcc") is None or not Path("/usr/include/openssl/ssl.h").exists():
        subprocess.run([TOP / "tests" / "install-peers", "gcc", "libc6-dev", "libssl-dev"], check=True)


@dataclass(frozen=True, slots=True)
class Load:
    """One run of the load generator. per_connection: messages; 0 for all that a session has. tls: "", "starttls" or
    "tls". rate: messages per second at most, 0 for as many as go. domain: of the recipients. recipients: of a message.
    domains: below `domain`, to which recipients go in turn; 0 for itself. per_domain: recipients of a message at one of
    them; 0 for all. prefix: of the local parts.
    """

    port: int
    messages: int
    sessions: int
    octets: int
    first: int
    per_connection: int = 0
    tls: str = ""
    login: str = ""
    secret: str = ""
    rate: float = 0
    domain: str = "example.org"
    recipients: int = 1
    domains: int = 0
    per_domain: int = 0
    prefix: str = "r"

    def command(self) -> Sequence[str | Path]:
        numbers = {"p": self.port, "n": self.messages, "c": self.sessions, "s": self.octets, "b": self.first}
        numbers |= {"r": self.recipients, "D": self.domains, "g": self.per_domain}
        words = [f"-{letter}{number}" for letter, number in numbers.items()]
        words += [f"-k{self.per_connection}", f"-R{self.rate}", f"-d{self.domain}", f"-l{self.prefix}"]
        words += {"": [], "starttls": ["-t"], "tls": ["-T"]}[self.tls]
        if self.login:
            words += ["-u", self.login, "-w", self.secret]
        return [compiled("load"), *words]


@dataclass(frozen=True, slots=True)
class Loaded:
    """seconds: until the last 250. p50, p99, longest: milliseconds from the dot to the 250. cpu: seconds of the
    loader.
    """

    seconds: float
    p50: float
    p99: float
    longest: float
    cpu: float
    connections: int


def load(load: Load, *, within: float = 300) -> Loaded:
    """Raises RuntimeError when a message was not accepted."""
    ended = subprocess.run(load.command(), capture_output=True, text=True, timeout=within, check=False)
    if ended.returncode:
        raise RuntimeError(f"not all messages were accepted: {ended.stderr.strip()}")
    return Loaded(**json.loads(ended.stdout))


@contextmanager
def idle_sessions(load: Load) -> Iterator[None]:
    """As many as the load has, logged in where it has a login; they say nothing until the end."""
    words = [*load.command(), "-i"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        if said != "ready\n":
            raise RuntimeError(f"not all sessions were opened: {process.communicate(timeout=10)[1].strip()}")
        yield
    finally:
        process.communicate(timeout=60)


@dataclass(frozen=True, slots=True)
class Totals:
    """first_at, last_at: seconds of time.monotonic, of the first and the last message. open, most_open: connections,
    now and at most. open_seconds: for how long, added up.
    """

    messages: int
    recipients: int
    deferred: int
    connections: int
    octets: int
    strays: int
    first_at: float
    last_at: float
    open: int
    most_open: int
    open_seconds: float


@dataclass(frozen=True, slots=True)
class Sink:
    pid: int
    kept: Path
    _counts: mmap.mmap

    @property
    def totals(self) -> Totals:
        numbers = _TOTALS.unpack_from(self._counts)
        messages, recipients, deferred, connections, octets, strays, first, last, now_open, most, open_ns, at = numbers
        open_seconds = (open_ns + now_open * (time.monotonic_ns() - at)) / 1e9
        counts = (messages, recipients, deferred, connections, octets, strays)
        return Totals(*counts, first / 1e9, last / 1e9, now_open, most, open_seconds)

    def came(self, number: int) -> int:
        """How often the message with that number came."""
        count: int = _ENTRY.unpack_from(self._counts, _TOTALS.size + number * _ENTRY.size)[0]
        return count

    def body_octets(self, number: int) -> int:
        octets: int = _ENTRY.unpack_from(self._counts, _TOTALS.size + number * _ENTRY.size)[1]
        return octets

    def came_at(self, number: int) -> float:
        """When the message with that number came, last: seconds of time.monotonic; 0 for never."""
        moment: int = _ENTRY.unpack_from(self._counts, _TOTALS.size + number * _ENTRY.size)[2]
        return moment / 1e9

    def all_came(self, first: int, count: int) -> bool:
        """Each of these messages at least once."""
        return all(self.came(number) for number in range(first, first + count))

    def copy(self, number: int) -> bytes:
        """A kept message's octets, without the dot that ended it. RFC 5321 4.5.2: the dots before lines are out."""
        octets = (self.kept / str(number)).read_bytes().removesuffix(b".\r\n")
        return octets.replace(b"\r\n..", b"\r\n.")


@contextmanager
def sink(
    directory: Path,
    *,
    port: int,
    address: str = "127.0.0.1",
    later: str = "",
    keep_every: int = 1_000_000_000,
    takes: float = 0.0,
    refuses: bool = False,
) -> Iterator[Sink]:
    """later: recipients whose local part begins so are put off. keep_every: each message whose number is a multiple
    of it is kept. takes: seconds for each message. refuses: every session.
    """
    counts, kept = directory / "counts", directory / "kept"
    kept.mkdir()
    words = [f"-p{port}", f"-a{address}", f"-m{counts}", f"-n{NUMBERS}", f"-o{kept}", f"-e{keep_every}"]
    words += [f"-w{takes * 1000:.0f}", *([f"-l{later}"] if later else []), *(["-g"] if refuses else [])]
    process = subprocess.Popen([compiled("sink"), *words], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the sink does not start")
        descriptor = os.open(counts, os.O_RDONLY)
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
            yield Sink(process.pid, kept, mapped)
        os.close(descriptor)
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
