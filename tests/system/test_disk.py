"""A whole server whose disk fails or is full: nobody is told 5xx, nothing acknowledged is lost, it is well again alone.

The disk's calls fail by `failing_disk`; what is full is a small tmpfs.
"""

import errno
import os
import smtplib
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from relay.mail.event import Kind
from tests.peers.certificates import Authority
from tests.peers.failing_disk import FailingDisk, Rule
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.waiting import eventually
from tests.system.relay_process import DOMAIN, Login, RelayProcess, letter, queue_id

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

RECIPIENT = "someone@postfix.test"
SOON = {"ladder": ["2s"], "jitter": 0}
LARGE = letter("large") + (b"x" * 70 + b"\r\n") * 3000

Make = Callable[..., RelayProcess]


@dataclass
class Client:
    """Sends one message after the other, and comes again when it loses its session. answers: to what came to an end."""

    server: RelayProcess
    login: Login
    content: bytes = b""
    acknowledged: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def sends(self, count: int) -> None:
        enough = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= enough, what=f"{count} messages are taken", within=40)

    def is_told(self, code: int) -> None:
        before = self.answers[code]
        eventually(lambda: self.answers[code] > before, what=f"a client is told {code}")

    def _work(self) -> None:
        while not self._over.is_set():
            with suppress(OSError, smtplib.SMTPException), self.server.session(self.login) as client:
                while not self._over.is_set():
                    self._send(client)
                    self._over.wait(0.01)

    def _send(self, client: smtplib.SMTP) -> None:
        for code, _ in (client.mail(f"app@{DOMAIN}"), client.rcpt(RECIPIENT)):
            if code != 250:
                self.answers[code] += 1
                client.rset()
                return
        code, text = client.data(self.content or letter("one of many"))
        self.answers[code] += 1
        if code == 250:
            self.acknowledged.append(queue_id(text))


def nothing_is_lost(server: RelayProcess, client: Client, mx: Mx, *, duplicates: int) -> None:
    """Each arrives, and the journal tells of each delivery once; `duplicates` arrive more than once at most."""
    wanted = set(client.acknowledged)
    eventually(lambda: wanted <= delivered(server).keys(), what="all of them are delivered", within=40)
    server.stop()
    assert max(delivered(server).values()) == 1
    assert not [code for code in client.answers if code >= 500], client.answers
    arrived = Counter(each for each in wanted for message in mx.messages if each.encode() in message.wire)
    assert arrived.keys() == wanted
    assert sum(arrived.values()) - len(wanted) <= duplicates


def delivered(server: RelayProcess) -> Counter[str]:
    return Counter(event.message for event in server.events(kind=Kind.DELIVERED))


def started(server: RelayProcess) -> Login:
    server.add_domain()
    login = server.add_credential()
    server.start()
    return login


# The disk fails calls.


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    """For every relay that is started from here on."""
    disk = FailingDisk(tmp_path)
    for name, value in disk.environment.items():
        monkeypatch.setenv(name, value)
    return disk


PLACES = [
    pytest.param("fdatasync", "queue.db-wal", b"", id="commits are not synced"),
    pytest.param("write", "queue.db-wal", b"", id="commits are not written"),
    pytest.param("fdatasync", "/content/", LARGE, id="large contents are not synced"),
    pytest.param("write", "/content/", LARGE, id="large contents are not written"),
    pytest.param("open", "/content/", LARGE, id="large contents are not made"),
    pytest.param("fsync", "/content", LARGE, id="names of large contents are not synced"),
    pytest.param("fdatasync", "journal-", b"", id="the journal is not synced"),
    pytest.param("write", "journal-", b"", id="the journal is not written"),
    pytest.param("open", "journal-", b"", id="the journal is not opened"),
]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=lambda error: errno.errorcode[error])
@pytest.mark.parametrize(("call", "path", "content"), PLACES)
def test_calls_that_fail_for_a_while_lose_nothing_and_need_no_help(
    relay: Make, failing: FailingDisk, *, call: str, path: str, content: bytes, error: int
) -> None:
    mx = Mx()
    with receiving(mx) as receiver:
        # What cannot be opened to be delivered is put off.
        server = relay(server={"workers": 1}, delivery={"port": receiver.port, "retry": SOON})
        login = started(server)
        with Client(server, login, content) as client:
            for _ in range(3):
                if (call, path) != ("open", "journal-"):  # which is opened once, for the first that is moved there
                    client.sends(5)
                failing.follow(Rule(call, path, error, times=1))
                failing.wait_until_met()
            client.sends(5)
        nothing_is_lost(server, client, mx, duplicates=0)
    if "journal" in path:
        assert set(client.answers) == {250}, "whoever sends knows nothing of it"


@pytest.mark.parametrize("workers", [2], ids=["two workers"])
def test_a_checkpoint_that_fails_ends_its_worker_alone_and_the_next_begins_with_what_is_on_disk(
    relay: Make, failing: FailingDisk, workers: int
) -> None:
    mx = Mx()
    with receiving(mx) as receiver:
        server = relay(server={"workers": workers}, delivery={"port": receiver.port})
        login = started(server)
        with Client(server, login) as client:
            client.sends(10)
            failing.follow(Rule("fdatasync", "/queue.db$", errno.EIO, times=1))
            failing.wait_until_met(within=60)
            failing.heal()  # the next process counts anew
            server.logged("worker ended")
            client.sends(10)
            eventually(lambda: len(server.workers()) == workers, what="it is started again")
        assert server.metric("relay_worker_restarts_total") == 1
        nothing_is_lost(server, client, mx, duplicates=5)


def test_a_commit_that_fails_is_told_by_status_metric_and_log(relay: Make, failing: FailingDisk) -> None:
    mx = Mx()
    with receiving(mx) as receiver:
        server = relay(server={"workers": 1}, delivery={"port": receiver.port})
        login = started(server)
        with Client(server, login) as client:
            client.sends(3)
            failing.follow(Rule("fdatasync", "queue.db-wal", errno.EIO, times=1))
            eventually(lambda: "spool written anew" in server.output, what="the log says that it is cured")
            client.sends(3)
        assert server.metric("relay_spool_cures_total") == 1
        assert "spool not synced" in server.output
        assert "it failed 1 commit since the start" in server.command("status").stdout
        nothing_is_lost(server, client, mx, duplicates=0)


def test_a_disk_that_fails_for_good_ends_the_only_process_with_words_and_a_code(
    relay: Make, failing: FailingDisk
) -> None:
    server = relay(server={"workers": 1})
    login = started(server)
    client = Client(server, login)
    with client:
        client.sends(3)
        failing.follow(Rule("sync", "shard-0/queue.db", errno.EIO))
        assert server.process is not None
        assert server.process.wait(40) == os.EX_IOERR
    assert "can no longer be trusted" in server.output
    assert not [code for code in client.answers if code >= 500], client.answers
    failing.heal()
    server.start()
    queued = {event.message for event in server.events(kind=Kind.ACCEPTED)}
    assert set(client.acknowledged) <= queued
    server.stop()


# The disk is full.


class SmallDisk:
    """A tmpfs. inodes: its number of files, 0 for no limit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    def mount(self, *, size: str, inodes: int = 0) -> None:
        self.directory.mkdir()
        options = f"size={size},nr_inodes={inodes}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.directory], check=True)

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def use_up_inodes(self) -> None:
        self._ballast.mkdir()
        with suppress(OSError):
            for number in range(100_000):
                (self._ballast / str(number)).touch()

    def free(self) -> None:
        if self._ballast.is_dir():
            for each in self._ballast.iterdir():
                each.unlink()
            self._ballast.rmdir()
        else:
            self._ballast.unlink()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = SmallDisk(tmp_path / "small")
    yield disk
    subprocess.run(["umount", "--lazy", disk.directory], check=True)


@pytest.fixture
def on_small_disk(
    tmp_path: Path, authority: Authority, nameserver: str, small: SmallDisk
) -> Iterator[Callable[..., RelayProcess]]:
    """Makes a relay whose spool is there."""
    made: list[RelayProcess] = []

    def make(**tables: Any) -> RelayProcess:
        server = RelayProcess(tmp_path, authority, nameserver=nameserver, **tables)
        server.spool = small.directory / "spool"
        server.configure(server={"spool": str(server.spool)})
        made.append(server)
        return server

    yield make
    for each in made:
        each.close()


NEVER_LOW = {"limits": {"disk_free_share": 0.0}}


@pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
@pytest.mark.parametrize(
    "content", [pytest.param(b"", id="small messages"), pytest.param(LARGE, id="messages with a file")]
)
def test_a_disk_full_to_its_last_block_while_mail_goes_through(
    on_small_disk: Make, small: SmallDisk, content: bytes, workers: int
) -> None:
    small.mount(size="40m")
    mx = Mx()
    with receiving(mx) as receiver:
        server = on_small_disk(server={"workers": workers}, delivery={"port": receiver.port}, submission=NEVER_LOW)
        login = started(server)
        with Client(server, login, content) as client:
            for _ in range(3):
                client.sends(5)
                small.fill()
                client.is_told(452)
                small.free()
            client.sends(5)
        assert set(client.answers) <= {250, 452}
        assert not server.log("worker ended")
        nothing_is_lost(server, client, mx, duplicates=0)


def test_what_was_sent_is_settled_on_a_full_disk_and_the_journal_begins_its_day_when_there_is_room(
    on_small_disk: Make, small: SmallDisk
) -> None:
    small.mount(size="40m")
    mx = Mx({"END": b"451 4.3.0 later\r\n"})
    with receiving(mx) as receiver:
        server = on_small_disk(
            server={"workers": 1}, delivery={"port": receiver.port, "retry": SOON}, submission=NEVER_LOW
        )
        login = started(server)
        with Client(server, login) as client:
            client.sends(20)
        for path in (server.spool / "shard-0").glob("journal-*"):
            path.unlink()  # as at the beginning of a day
        server.kill()
        mx.be_orderly("END")  # not before: what was taken as it was killed would come again
        server.start()
        small.fill()
        eventually(lambda: len(mx.messages) >= 20, what="what is owed is delivered all the same")
        small.free()
        nothing_is_lost(server, client, mx, duplicates=0)


@pytest.mark.parametrize("what", ["room", "inodes"])
def test_a_disk_that_is_low_takes_no_new_mail_delivers_what_it_has_and_is_well_again_alone(
    on_small_disk: Make, small: SmallDisk, what: str
) -> None:
    small.mount(size="40m", inodes=2000)
    mx = Mx({"END": [b"451 4.3.0 later\r\n"] * 5})
    with receiving(mx) as receiver:
        server = on_small_disk(
            server={"workers": 1},
            delivery={"port": receiver.port, "retry": SOON},
            submission={"limits": {"disk_free_share": 0.1, "disk_free_size": 2**30}},
        )
        login = started(server)
        with Client(server, login) as client:
            client.sends(5)
            (small.fill if what == "room" else small.use_up_inodes)()
            client.is_told(452)
            assert "too little room" in eventually(lambda: readiness(server), what="it says why it is not ready")
            low = "relay_disk_free_ratio" if what == "room" else "relay_disk_free_inodes_ratio"
            assert server.metric(low) < 0.1
            assert "clients get 452" in server.command("status").stdout
            eventually(lambda: len(mx.messages) >= 5, what="what is owed is delivered")
            small.free()
            eventually(lambda: not readiness(server), what="it is ready again")
            client.sends(5)
        nothing_is_lost(server, client, mx, duplicates=0)


def readiness(server: RelayProcess) -> str:
    """Why it is not ready; "" when it is."""
    url = f"http://127.0.0.1:{server.http_port}/readyz"
    done = subprocess.run(["curl", "--silent", url], capture_output=True, text=True, check=True)
    return "" if done.stdout == "ready\n" else done.stdout
