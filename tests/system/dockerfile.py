"""Reads a Dockerfile and a .dockerignore, as far as ours go: what is not understood is refused, never skipped.

https://docs.docker.com/reference/dockerfile/
"""

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Instruction:
    """flags: ("--from=build", ...). value: the rest, continuation lines joined."""

    name: str
    flags: tuple[str, ...]
    value: str

    @property
    def words(self) -> list[str]:
        """The value in exec form, or split as a shell does."""
        if self.value.startswith("["):
            words: list[str] = json.loads(self.value)
            return words
        return shlex.split(self.value)

    @property
    def is_exec_form(self) -> bool:
        return self.value.startswith("[")

    def flag(self, name: str) -> str:
        """The value of --name=..., "" without it."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.startswith(f"--{name}=")), "")


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    instructions: tuple[Instruction, ...]


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile, in order."""
    stages: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.name == "FROM":
            base, _, name = instruction.value.partition(" AS ")
            stages.append(Stage(base, name, ()))
        else:
            last = stages[-1]
            stages[-1] = Stage(last.base, last.name, (*last.instructions, instruction))
    return stages


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [_instruction(line) for line in joined.splitlines()]


def _instruction(line: str) -> Instruction:
    name, _, rest = line.partition(" ")
    flags: list[str] = []
    while match := re.match(r"(--[a-z-]+=\S+)\s+", rest):
        flags.append(match[1])
        rest = rest[match.end() :]
    return Instruction(name, tuple(flags), rest.strip())


def context_files(top: Path) -> list[Path]:
    """The files below `top` that .dockerignore lets through, relative; the last pattern that matches decides."""
    patterns = [
        line.strip()
        for line in (top / ".dockerignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    let_through = {pattern[1:].split("/")[0] for pattern in patterns if pattern.startswith("!")}
    found = [file for name in sorted(let_through) if (top / name).exists() for file in _files(top / name)]
    return [file for file in (path.relative_to(top) for path in found) if not _is_ignored(file, patterns)]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _is_ignored(file: Path, patterns: list[str]) -> bool:
    ignored = False
    for pattern in patterns:
        if _matches(file, pattern.removeprefix("!")):
            ignored = not pattern.startswith("!")
    return ignored


def _matches(file: Path, pattern: str) -> bool:
    """A pattern means a path and all below it; "**/" any directory."""
    wherever = pattern.startswith("**/")
    pattern = pattern.removeprefix("**/")
    pure = PurePosixPath(file)
    paths = [str(path) for path in (pure, *pure.parents) if path.name]
    if wherever:
        return any(fnmatch.fnmatch(part, pattern) for part in pure.parts)
    return any(path.count("/") == pattern.count("/") and fnmatch.fnmatch(path, pattern) for path in paths)
