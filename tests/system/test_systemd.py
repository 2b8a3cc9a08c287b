"""The units: sound by systemd's own judgement, and a server that does what they expect of it."""

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.image import Image, needs_an_image
from tests.system.installed import Application, make_application, wait_for_event, write_files
from tests.system.service import CREDENTIALS, UNIT, Service, unit_values

CONFIG = Path(__file__).parents[2] / "config"

pytestmark = pytest.mark.system


def test_systemd_verifies_the_units(tmp_path: Path) -> None:
    """`verify` wants the command to exist; here `true` stands for the one an operator installs."""
    for name in ("relay.service", "relay.socket"):
        text = (CONFIG / name).read_text().replace("/opt/relay/bin/relay", str(shutil.which("true")))
        (tmp_path / name).write_text(text)
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "relay.service", tmp_path / "relay.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verdict.returncode, verdict.stderr) == (0, "")


def test_systemd_finds_the_service_little_exposed() -> None:
    verdict = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", CONFIG / "relay.service"],
        capture_output=True,
        text=True,
        check=True,
    )
    overall = re.search(r"Overall exposure level for relay\.service: ([\d.]+)", verdict.stdout)
    assert overall is not None
    assert float(overall[1]) <= 2.0


@pytest.fixture
def service(image: Image, tmp_path: Path) -> Iterator[tuple[Service, Application]]:
    """The unit, started, with an application that may send through it."""
    files = write_files(tmp_path, tls_directory="${CREDENTIALS_DIRECTORY}")
    with Service(image, directory=tmp_path, log=tmp_path / "log", watchdog=4) as running:
        running.wait_for_notice("READY=1", within=30)
        yield running, make_application(running, files)


@needs_an_image
@pytest.mark.xdist_group("image")
@pytest.mark.timeout(300)
class TestService:
    def test_the_private_key_is_named_where_loadcredential_puts_it(self) -> None:
        loaded = unit_values(UNIT)["LoadCredential"]
        assert loaded == ["fullchain.pem:/etc/relay/tls/fullchain.pem", "privkey.pem:/etc/relay/tls/privkey.pem"]
        assert CREDENTIALS == "/run/credentials/relay.service"

    @pytest.mark.parametrize("port", [587, 465])
    def test_confined_as_the_unit_says_it_takes_and_delivers_mail_on_ports_that_were_roots(
        self, service: tuple[Service, Application], port: int
    ) -> None:
        running, application = service
        reply = application.send(running, port=port, recipient="delivered@simulator.test")
        assert reply.startswith("250 2.0.0 Ok: queued as ")
        wait_for_event(running, status="delivered", recipient="delivered@simulator.test")

    def test_it_tells_that_it_lives_twice_as_often_as_it_must(self, service: tuple[Service, Application]) -> None:
        running, _ = service
        running.wait_for_notice("WATCHDOG=1", within=4)
        running.wait_for_notice("WATCHDOG=1", within=3.5)

    def test_a_reload_is_told_from_its_begin_to_its_end(self, service: tuple[Service, Application]) -> None:
        running, _ = service
        running.signal(signal.SIGHUP)
        running.wait_for_notice("RELOADING=1", within=5)
        running.wait_for_notice("READY=1", within=5)

    def test_sigterm_is_told_finishes_what_is_under_way_and_ends_well(
        self, service: tuple[Service, Application]
    ) -> None:
        running, application = service
        client = application.start(running, port=465, recipient="delivered@simulator.test", pause=True)
        assert client.stdout is not None
        assert client.stdout.readline() == b"before the dot\n"
        running.signal(signal.SIGTERM)
        running.wait_for_notice("STOPPING=1", within=5)
        output, _ = client.communicate(b"\n", timeout=20)
        assert output.startswith(b"250 2.0.0 Ok: queued as ")
        assert running.wait(within=40) == 0


@needs_an_image
@pytest.mark.xdist_group("image")
@pytest.mark.timeout(300)
def test_sockets_that_systemd_holds_refuse_nobody_over_a_restart(image: Image, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as starttls, socket.create_server(("127.0.0.1", 0)) as tls:
        ports = [listener.getsockname()[1] for listener in (starttls, tls)]
        files = write_files(
            tmp_path,
            tls_directory="${CREDENTIALS_DIRECTORY}",
            starttls=f"127.0.0.1:{ports[0]}",
            tls=f"127.0.0.1:{ports[1]}",
        )
        log = tmp_path / "log"
        with Service(image, directory=tmp_path, log=log, listeners=[starttls, tls]) as first:
            first.wait_for_notice("READY=1", within=30)
            application = make_application(first, files, inside=False)
            for port, implicit in zip(ports, (False, True), strict=True):
                reply = application.send(first, port=port, recipient="delivered@simulator.test", implicit=implicit)
                assert reply.startswith("250 2.0.0 Ok: queued as ")
            first.signal(signal.SIGTERM)
            assert first.wait(within=40) == 0
            client = application.start(first, port=ports[0], recipient="delivered@simulator.test")
        with Service(image, directory=tmp_path, log=log, listeners=[starttls, tls]) as second:
            second.wait_for_notice("READY=1", within=30)
            output, error = client.communicate(timeout=30)
            assert output.startswith(b"250 2.0.0 Ok: queued as "), error
