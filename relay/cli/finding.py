"""cli.finding: what a check found: how much it matters, in words, and what to do."""

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How much it matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """subject: what was looked at. remedy: what to do, "" when nothing is."""

    grade: Grade
    subject: str
    text: str
    remedy: str = ""
