"""The image: its steps run in order on a bare Debian, and what comes out runs as Docker would run it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.container import Container
from tests.system.dockerfile import context_files, parse
from tests.system.image import BASE_IMAGE, Image, needs_an_image
from tests.system.installed import Application, command, make_application, wait_for_event, write_files

Started = tuple[Container, Application]

TOP = Path(__file__).parents[2]
DOCKERFILE = (TOP / "Dockerfile").read_text()


def test_both_stages_start_from_the_image_the_base_system_stands_for() -> None:
    assert [stage.base for stage in parse(DOCKERFILE)] == [BASE_IMAGE, BASE_IMAGE]


def test_what_the_build_needs_goes_to_the_builder() -> None:
    files = {str(file) for file in context_files(TOP)}
    assert {"requirements.lock", "requirements-build.lock", "pyproject.toml", "relay/errors.py", "LICENSE"} <= files
    assert [file for file in files if "__pycache__" in file] == []


def test_no_secret_and_nothing_of_a_quick_start_goes_to_the_builder(tmp_path: Path) -> None:
    shutil.copy(TOP / ".dockerignore", tmp_path)
    wanted = ["config/relay.service", "relay/__init__.py"]
    unwanted = ["config/relay.toml", "config/tls/ca.key", "spool/registry.db", ".git/config", ".venv/pyvenv.cfg"]
    for name in [*wanted, *unwanted]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(file) for file in context_files(tmp_path)] == wanted


@needs_an_image
@pytest.mark.system
@pytest.mark.xdist_group("image")
@pytest.mark.timeout(300)
class TestImage:
    def test_it_runs_as_a_user_that_is_not_root_and_owns_the_volume(self, image: Image) -> None:
        assert image.user == "relay"
        assert image.volumes == ["/var/lib/relay"]
        status = (image.root / "var/lib/relay").stat()
        assert (status.st_uid, status.st_gid) == (587, 587)
        assert status.st_mode & 0o007 == 0

    def test_it_says_its_ports_and_its_signal(self, image: Image) -> None:
        assert image.exposed == [587, 465]
        assert image.stop_signal == "SIGTERM"

    def test_it_has_neither_pip_nor_a_compiler_nor_the_sources_of_its_stage(self, image: Image) -> None:
        assert not (image.root / "opt/relay/bin/pip").exists()
        assert not (image.root / "src").exists()
        assert not (image.root / "build").exists()
        assert not (image.root / "usr/bin/cc").exists()

    def test_it_carries_the_rules_and_profiles_that_relay_reads(self, image: Image) -> None:
        package = next((image.root / "opt/relay/lib").glob("python3.*/site-packages/relay"))
        for name in ("bounce-rules.toml", "profiles.toml", "providers.toml"):
            assert (package / "config" / name).read_bytes() == (TOP / "config" / name).read_bytes()


@needs_an_image
@pytest.mark.system
@pytest.mark.xdist_group("image")
@pytest.mark.timeout(300)
class TestContainer:
    def test_without_a_configuration_it_ends_at_once_and_says_what_is_missing(
        self, image: Image, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        with Container(image, volumes={}, log=log) as container:
            assert container.wait(within=20) == os.EX_CONFIG
        assert "/etc/relay/relay.toml does not exist" in log.read_text()

    def test_it_serves_as_its_user_and_says_that_it_is_well(self, image: Image, started: Started) -> None:
        container, application = started
        status = Path(f"/proc/{container.main_process}/status").read_text()
        assert "\nUid:\t587\t587\t587\t587\n" in status
        assert "\nNSpid:" in status
        for port in image.exposed:
            reply = application.send(container, port=port, recipient=f"delivered+{port}@simulator.test")
            assert reply.startswith("250 2.0.0 Ok: queued as ")
            wait_for_event(container, status="delivered", recipient=f"delivered+{port}@simulator.test")

    def test_sigterm_finishes_the_message_under_way_and_the_volume_keeps_it(
        self, image: Image, started: Started, tmp_path: Path
    ) -> None:
        container, application = started
        client = application.start(container, port=587, recipient="defer@simulator.test", pause=True)
        assert client.stdout is not None
        assert client.stdout.readline() == b"before the dot\n"
        container.stop()
        output, _ = client.communicate(b"\n", timeout=20)
        reply = output.decode()
        assert reply.startswith("250 2.0.0 Ok: queued as ")
        assert container.wait(within=40) == 0
        message = reply.split()[-1]
        volumes = {application.files.state: "/var/lib/relay", application.files.configuration: "/etc/relay"}
        with Container(image, volumes=volumes, log=tmp_path / "second.log") as second:
            second.wait_until_healthy(within=20)
            (entry,) = command(second, "queue", "list")
            assert entry["id"] == message


@pytest.fixture
def started(image: Image, tmp_path: Path) -> Iterator[Started]:
    """A container that serves, with an application that may send through it."""
    files = write_files(tmp_path, tls_directory="/etc/relay/tls")
    files.tls.rename(files.configuration / "tls")
    volumes = {files.state: "/var/lib/relay", files.configuration: "/etc/relay"}
    with Container(image, volumes=volumes, log=tmp_path / "log") as container:
        container.wait_until_healthy(within=20)
        yield container, make_application(container, files)
