"""cli.applications: ready settings for what sends mail, filled with a credential's values.

One text file each in `applications/`: its first line says where the rest is pasted. `{{name}}` stands for a value as it
is, `{{name|php}}` for one with the quotes of that syntax (`quoting.SYNTAXES`), which every value has that may hold any
sign: an address, a path. A line that begins with `?name ` is there only under that condition: starttls or tls (which of
the two listeners the settings use), ca or noca (whether clients must be told of a CA file).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.cli.quoting import SYNTAXES
from relay.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_CONDITION = re.compile(r"\?(starttls|tls|ca|noca) ")
_VALUE = re.compile(r"\{\{(\w+)\|?(\w*)\}\}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What any client needs. ca: "" where the issuer is generally known. sender: an address it may send as."""

    host: str
    port: int
    security: str  # "starttls" or "tls"
    login: str
    secret: str
    sender: str
    ca: str = ""


def names() -> tuple[str, ...]:
    """All that settings are ready for, by name."""
    return tuple(sorted(file.name.removesuffix(".txt") for file in _directory().iterdir()))


def ready_settings(application: str, settings: Settings) -> str:
    """Where to paste, then what. Raises UsageError with the nearest name."""
    import difflib

    if application not in names():
        near = difflib.get_close_matches(application, names(), n=1)
        remedy = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(names())}."
        raise UsageError(f'there are no ready settings for "{application}"', remedy=remedy)
    text = (_directory() / f"{application}.txt").read_text(encoding="utf-8")
    conditions = {settings.security, "ca" if settings.ca else "noca"}
    lines = [_CONDITION.sub("", line) for line in text.splitlines() if _applies(line, conditions)]
    values = _values(settings)
    return _VALUE.sub(lambda match: SYNTAXES[match[2]](values[match[1]]), "\n".join(lines))


def _applies(line: str, conditions: set[str]) -> bool:
    match = _CONDITION.match(line)
    return match is None or match[1] in conditions


def _values(settings: Settings) -> Mapping[str, str]:
    local, _, domain = settings.sender.rpartition("@")
    return {
        "host": settings.host,
        "port": str(settings.port),
        "login": settings.login,
        "secret": settings.secret,
        "from": settings.sender,
        "from_local": local,
        "from_domain": domain,
        "ca": settings.ca,
    }


def _directory() -> "Traversable":
    from importlib.resources import files

    return files("relay.cli") / "applications"
