"""What an operator can get wrong, or the machine: each is told by what, where and what to do, with sysexits' code.

Nothing is lost by any of it: what a spool held is there and is delivered once the mistake is corrected.
"""

import os
import socket
import sqlite3
import subprocess
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from relay.mail.event import Kind
from tests.peers.waiting import eventually
from tests.system.relay_process import DOMAIN, Login, RelayProcess, letter, queue_id

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
MOUNTS = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk of its own")
SIMULATOR = [{"recipient_domain": "simulator.test", "via": "simulator"}]


def test_a_misspelt_key_is_named_with_its_line_and_the_nearest_one(relay: Make) -> None:
    server = relay(server={"workers": 2}, delivery={"conections": 5})
    line = server.config_path.read_text().splitlines().index("conections = 5") + 1
    for code, said in (server.run_to_its_end(), checked(server)):
        assert code == os.EX_CONFIG
        assert f"line {line}" in said and "conections" in said
        assert "connections" in said.replace("conections", "")


@WORKERS
def test_a_certificate_of_another_key_is_told_with_both_files(relay: Make, workers: int) -> None:
    server = relay(server={"workers": workers})
    other = server.authority.issue("other.example")
    server.configure(tls={"key": str(other.key)})
    for code, said in (server.run_to_its_end(), checked(server)):
        assert code == os.EX_CONFIG
        assert "is not the key of the certificate" in said
        assert str(other.key) in said and str(server.issued.certificate) in said
        assert "issued together" in said
        assert "Traceback" not in said


def test_a_port_in_use_is_told_with_how_to_find_its_owner(relay: Make) -> None:
    server = relay(server={"workers": 2})
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.starttls_port))
        other.listen()
        code, said = server.run_to_its_end()
        assert code == os.EX_UNAVAILABLE
        assert f"127.0.0.1:{server.starttls_port} is in use by another program" in said
        assert f"ss -ltnp 'sport = :{server.starttls_port}'" in said
        code, said = checked(server)
        assert code == os.EX_CONFIG
        assert f"127.0.0.1:{server.starttls_port} is in use by another program" in said


def test_a_key_that_all_may_read_is_refused_with_the_command_that_helps(relay: Make) -> None:
    server = relay(server={"workers": 2})
    server.issued.key.chmod(0o644)
    code, said = server.run_to_its_end()
    assert code == os.EX_NOPERM
    assert str(server.issued.key) in said and f"chmod o-rwx {server.issued.key}" in said
    code, said = checked(server)
    assert code == os.EX_CONFIG
    assert f"chmod o-rwx {server.issued.key}" in said


def test_a_smarthosts_secret_that_all_may_read_is_refused(relay: Make, tmp_path: Path) -> None:
    secret = tmp_path / "smarthost.secret"
    secret.write_text("hidden\n")
    secret.chmod(0o644)
    route = {"via": "smtp://127.0.0.1:587", "login": "us", "secret_file": str(secret)}
    server = relay(route=[route])
    code, said = server.run_to_its_end()
    assert code == os.EX_NOPERM
    assert f"chmod o-rwx {secret}" in said and "hidden" not in said


class TestSpool:
    """A spool with a message that waits, of a server that has ended."""

    @pytest.fixture
    def left(self, relay: Make) -> tuple[RelayProcess, str]:
        """The server, and the id of the message."""
        server = relay(server={"workers": 2}, route=SIMULATOR)
        server.add_domain()
        login = server.add_credential()
        server.start()
        waiting = server.send(login, "defer@simulator.test")
        server.event(Kind.DEFERRED, message=waiting)
        server.stop()
        return server, waiting

    @WORKERS
    def test_one_of_a_newer_version_is_left_untouched(self, left: tuple[RelayProcess, str], workers: int) -> None:
        server, waiting = left
        server.configure(server={"workers": workers})
        database = server.spool / "shard-0" / "queue.db"
        with_version(database, add=100)
        before = database.read_bytes()
        code, said = server.run_to_its_end()
        assert code == os.EX_CONFIG
        assert f"{database} was written by a newer Relay" in said
        assert "Install the newer Relay again" in said
        assert database.read_bytes() == before
        code, said = checked(server)
        assert code == os.EX_CONFIG and "newer Relay" in said
        with_version(database, add=-100)
        is_still_owed(server, waiting)

    def test_a_second_server_is_refused_and_the_first_goes_on(
        self, left: tuple[RelayProcess, str], relay: Make
    ) -> None:
        first, waiting = left
        first.start()
        second = relay(server={"spool": str(first.spool), "workers": 2})
        code, said = second.run_to_its_end()
        assert code == os.EX_TEMPFAIL
        assert str(first.spool) in said and str(first.process.pid if first.process else 0) in said
        is_still_owed(first, waiting)
        first.stop()

    @pytest.mark.parametrize(("name", "version"), [("registry.db", 105), ("suppression.db", 101)])
    def test_a_database_of_a_newer_version_beside_it_is_left_untouched_too(
        self, left: tuple[RelayProcess, str], name: str, version: int
    ) -> None:
        server, waiting = left
        with_version(server.spool / name, add=100)
        before = (server.spool / name).read_bytes()
        code, said = server.run_to_its_end()
        assert code == os.EX_CONFIG
        assert f"{server.spool / name} has version {version}" in said
        assert "Run the newer relay that wrote it" in said
        assert (server.spool / name).read_bytes() == before
        with_version(server.spool / name, add=-100)
        is_still_owed(server, waiting)

    @MOUNTS
    def test_a_read_only_disk_is_told_and_changes_nothing(self, left: tuple[RelayProcess, str]) -> None:
        server, waiting = left
        with read_only(server.spool):
            code, said = server.run_to_its_end()
            assert code == os.EX_IOERR
            assert f"the file system of the spool {server.spool} is read-only" in said
            assert "mount it writable, or set server.spool" in said
            code, said = checked(server)
            assert code == os.EX_CONFIG and f"{server.spool} cannot be written" in said
        server.start()
        is_still_owed(server, waiting)
        server.stop()


@MOUNTS
class TestFullDisk:
    """The spool has 32 MB of its own."""

    @pytest.fixture
    def server(self, relay: Make, tmp_path: Path) -> Iterator[RelayProcess]:
        with small_disk(tmp_path / "disk") as disk:
            made = relay(server={"spool": str(disk / "spool"), "workers": 2}, route=SIMULATOR)
            made.spool = disk / "spool"
            yield made
            made.close()

    def test_a_new_spool_is_not_made_on_it(self, server: RelayProcess) -> None:
        with filled(server.spool.parent):
            code, said = server.run_to_its_end()
            assert code == os.EX_CANTCREAT
            assert f"the disk of the spool {server.spool} is full" in said
            assert "make room" in said

    def test_mail_is_refused_for_now_and_taken_again_once_there_is_room(self, server: RelayProcess) -> None:
        login = prepared(server)
        server.start()
        before = server.send(login, "defer@simulator.test")
        server.event(Kind.DEFERRED, message=before)
        with filled(server.spool.parent):
            code, text = sent(server, login)
            assert code == 452 and text.startswith(b"4.3.1 ")
            assert "Traceback" not in server.output
            is_still_owed(server, before)
        after = eventually(lambda: accepted(server, login), what="mail is taken again")
        server.event(Kind.DELIVERED, message=after)
        is_still_owed(server, before)
        server.stop()

    def test_a_spool_with_mail_is_served_so_that_it_can_be_delivered(self, server: RelayProcess) -> None:
        server.configure(delivery={"retry": {"ladder": ["2s"], "obey": "0s"}})
        login = prepared(server)
        server.start()
        waiting = server.send(login, "defer@simulator.test")
        server.event(Kind.DEFERRED, message=waiting)
        server.stop()
        with filled(server.spool.parent):
            server.start()
            server.event(Kind.DELIVERED, message=waiting)
            server.stop()

    def test_little_room_is_refused_before_it_is_none_and_readyz_says_so(self, server: RelayProcess) -> None:
        server.configure(submission={"limits": {"disk_free_share": 0.99}})
        login = prepared(server)
        server.launch()
        server.logged("worker ready", times=2)
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.page("readyz")
        assert refused.value.code == 503 and b"too little room" in refused.value.read()
        code, text = sent(server, login)
        assert code == 452 and text.startswith(b"4.3.1 ")
        server.stop()


class TestResolver:
    """One that does not answer."""

    @pytest.fixture
    def server(self, relay: Make) -> Iterator[RelayProcess]:
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            yield relay(dns={"nameservers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": "0.5s"})

    def test_check_says_so(self, server: RelayProcess) -> None:
        server.add_domain()
        code, said = checked(server)
        assert code == os.EX_CONFIG
        silent = server.tables["dns"]["nameservers"][0]
        assert f"it does not answer: A of relay.example.com: no answer within 0.5 s from {silent}" in said
        assert "Is the resolver running?" in said

    def test_the_server_starts_takes_mail_and_keeps_it(self, server: RelayProcess) -> None:
        login = prepared(server)
        server.start()
        waiting = server.send(login, "someone@postfix.test")
        event = server.event(Kind.DEFERRED, message=waiting)
        assert "no answer" in event.detail
        is_still_owed(server, waiting)
        server.stop()


@pytest.mark.parametrize("domain", ["other.example", "sub.other.example"])
def test_mail_from_a_domain_without_a_key_is_refused_naming_the_command(relay: Make, domain: str) -> None:
    server = relay(route=SIMULATOR)
    server.add_domain()
    login = server.add_credential(senders=[f"*@{domain}"])
    server.start()
    with server.session(login) as client:
        client.mail(f"app@{domain}")
        client.rcpt("delivered@simulator.test")
        code, text = client.data(letter("hello", f"app@{domain}"))
    assert code == 550 and text.startswith(b"5.7.1 ")
    assert f"relay domain add {domain}".encode() in text
    server.stop()
    (event,) = server.events()
    assert event.kind is Kind.REJECTED and "relay domain add" in event.reply


def prepared(server: RelayProcess) -> Login:
    server.add_domain()
    return server.add_credential()


def sent(server: RelayProcess, login: Login) -> tuple[int, bytes]:
    """The first reply that is no 250, or the last, to a small message."""
    with server.session(login) as client:
        for verb, argument in (("MAIL", f"FROM:<app@{DOMAIN}>"), ("RCPT", "TO:<delivered@simulator.test>")):
            code, text = client.docmd(verb, argument)
            if code != 250:
                return code, text
        return client.data(letter("hello"))


def accepted(server: RelayProcess, login: Login) -> str:
    code, text = sent(server, login)
    return queue_id(text) if code == 250 else ""


def checked(server: RelayProcess) -> tuple[int, str]:
    """What `relay check` ends with and says."""
    done = server.command("check")
    return done.returncode, done.stdout + done.stderr


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Not an octet is left."""
    filler = directory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def with_version(database: Path, *, add: int) -> None:
    connection = sqlite3.connect(database)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.execute(f"PRAGMA user_version = {version + add}")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def is_still_owed(server: RelayProcess, message: str) -> None:
    listed = server.command("queue", "list", "--json")
    assert message in listed.stdout, listed.stderr
