"""Builds our Dockerfile without Docker: its instructions are run in order, each stage in its own copy of a bare Debian.

The bare Debian stands for python:3.11-slim-bookworm; tests/install-peers makes it. As a builder does, this lends a step
the machine's resolver and its way to the package index; nothing else of the machine is seen. Root is needed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.system.dockerfile import Instruction, Stage, context_files, parse

BASE_IMAGE = "python:3.11-slim-bookworm"
BASE_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
LENT = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
INDEX_VARIABLES = ("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "SSL_CERT_FILE")


def base_system() -> Path:
    directory = os.environ.get("RELAY_TESTS_CACHE", "/var/cache/relay-tests")
    return Path(directory) / "debian-12-python-3.11.tar"


needs_an_image = pytest.mark.skipif(
    os.geteuid() != 0 or not base_system().exists(),
    reason="needs root, and the bare Debian that tests/install-peers makes as root",
)


@dataclass(slots=True)
class Image:
    """A root file system and what the Dockerfile says of running it."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: dict(BASE_ENV))
    user: str = "root"
    workdir: str = "/"
    volumes: list[str] = field(default_factory=list)
    exposed: list[int] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"

    def inside(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The words that run `command` in this root: its user, its working directory, its environment and no other."""
        variables = [f"{name}={value}" for name, value in (self.env if env is None else env).items()]
        enter = ["chroot", f"--userspec={self.user}", str(self.root), "/usr/bin/env", "-i", *variables]
        return [*enter, "/bin/sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *command]


class BuildFailed(AssertionError):
    """A step ended with an error; the text has what it printed."""


def build(top: Path, *, work: Path) -> Image:
    """Run every stage of top/Dockerfile below `work`; the last one is the image."""
    context = work / "context"
    for file in context_files(top):
        (context / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(top / file, context / file)
    images: dict[str, Image] = {}
    image = Image(work)
    for number, stage in enumerate(parse((top / "Dockerfile").read_text())):
        image = _build_stage(stage, work / f"stage-{number}", context, images)
        images[stage.name] = image
    return image


def _build_stage(stage: Stage, root: Path, context: Path, images: dict[str, Image]) -> Image:
    assert stage.base == BASE_IMAGE, f"{stage.base} has no stand-in here"
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", base_system()], check=True)
    image = Image(root)
    for instruction in stage.instructions:
        _apply(instruction, image, context, images)
    return image


def _apply(instruction: Instruction, image: Image, context: Path, images: dict[str, Image]) -> None:
    match instruction.name:
        case "RUN":
            _run(instruction, image)
        case "COPY":
            origin = instruction.flag("from")
            _copy(instruction.words, image, images[origin].root if origin else context)
        case "ENV":
            image.env |= dict(word.split("=", 1) for word in instruction.words)
        case "USER":
            image.user = instruction.value
        case "WORKDIR":
            image.workdir = instruction.value
            (image.root / instruction.value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case _:
            _describe(instruction, image)


def _describe(instruction: Instruction, image: Image) -> None:
    """What changes no file, and only says how the image is run."""
    match instruction.name:
        case "VOLUME":
            image.volumes += instruction.words
        case "EXPOSE":
            image.exposed += map(int, instruction.words)
        case "HEALTHCHECK":
            assert instruction.value.startswith("CMD [")
            image.health = Instruction("CMD", (), instruction.value.removeprefix("CMD ")).words
        case "STOPSIGNAL":
            image.stop_signal = instruction.value
        case "ENTRYPOINT" | "CMD":
            assert instruction.is_exec_form, "a shell would stand between Relay and the signal"
            image.entrypoint += instruction.words if instruction.name == "ENTRYPOINT" else []
            image.command += instruction.words if instruction.name == "CMD" else []
        case unknown:
            raise BuildFailed(f"{unknown} is not understood here")


def _copy(words: list[str], image: Image, origin: Path) -> None:
    *sources, target = words
    destination = image.root / (Path(image.workdir) / target).relative_to("/")
    for source in sources:
        found = origin / source.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, destination, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(found, destination / found.name if target.endswith("/") else destination)


def _run(instruction: Instruction, image: Image) -> None:
    caches = [_cache(flag.partition("=")[2]) for flag in instruction.flags if flag.startswith("--mount=")]
    mounts = [*((path, path) for path in map(Path, LENT) if path.exists()), *_wheel_directories(), *caches]
    script = "\n".join(
        [
            "set -e",
            'mount -t proc proc "$1/proc"',
            'mount --rbind /dev "$1/dev"',
            *(line for source, target in mounts for line in _mount(source, target)),
            "shift",
            'exec "$@"',
        ]
    )
    lent = {name: os.environ[name] for name in INDEX_VARIABLES if name in os.environ}
    command = image.inside("/bin/sh", "-c", instruction.value, env=image.env | lent | {"HOME": "/root"})
    step = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script, "RUN", str(image.root), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if step.returncode != 0:
        raise BuildFailed(f"RUN {instruction.value}\n{step.stdout[-4000:]}\n{step.stderr[-4000:]}")


def _cache(specification: str) -> tuple[Path, Path]:
    """--mount=type=cache: a directory of this machine's, the same from build to build."""
    options = dict(option.split("=", 1) for option in specification.split(","))
    assert options["type"] == "cache"
    target = Path(options["target"])
    kept = base_system().parent / "pip"
    kept.mkdir(parents=True, exist_ok=True)
    return kept, target


def _wheel_directories() -> Iterator[tuple[Path, Path]]:
    """Directories of wheels that this machine's pip is told to look in, where it is."""
    listing = [sys.executable, "-m", "pip", "config", "list"]
    settings = subprocess.run(listing, capture_output=True, text=True, check=False).stdout
    for word in settings.replace("'", " ").replace("file://", " ").split():
        if word.startswith("/") and Path(word).is_dir():
            yield Path(word), Path(word)


def _mount(source: Path, target: Path) -> list[str]:
    make = "mkdir -p" if source.is_dir() else "touch"
    inside = f'"$1{target}"'
    return [f'mkdir -p "$1{target.parent}"', f"{make} {inside}", f"mount --bind {source} {inside}"]
