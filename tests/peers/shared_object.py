"""peers.shared_object: C beside these modules, compiled for LD_PRELOAD when it is newer than what was built."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
TOP = HERE.parents[1]
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result", "-shared", "-fPIC")


def shared_object(name: str) -> Path:
    """The one that NAME.c gives."""
    source, built = HERE / f"{name}.c", TOP / ".peers" / name
    library = built / f"{name}.so"
    built.mkdir(parents=True, exist_ok=True)
    with (built / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
            _compile(source, library)
    return library


def _compile(source: Path, library: Path) -> None:
    if shutil.which("gcc") is None:
        subprocess.run([TOP / "tests" / "install-peers", "gcc", "libc6-dev"], check=True)
    # Complete or not there: a process that is being started must not load half of it.
    half = library.with_suffix(f".{os.getpid()}")
    subprocess.run(["gcc", *FLAGS, "-o", half, source, "-ldl", "-pthread"], check=True)
    half.rename(library)
