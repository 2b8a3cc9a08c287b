"""config.files: what the files named in relay.toml must be before a server may start.

A certificate must be there wherever AUTH is offered, since AUTH is offered inside TLS only; a secret must not be
readable by other users. What is in the files is for those who use them. Raises ConfigError or PermissionRefused with
all that is wrong at once, each with what to do.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from relay.config.models import Config
from relay.errors import ConfigError, PermissionRefused, RelayError

CREDENTIALS_VARIABLE = "${CREDENTIALS_DIRECTORY}"


def refuse_unsafe_files(config: Config) -> None:
    """Raises PermissionRefused when all that is wrong is modes, else ConfigError."""
    exposed = list(_exposed(config))
    missing = list(_missing(config))
    if not exposed and not missing:
        return
    kind: type[RelayError] = ConfigError if missing else PermissionRefused
    raise kind("\n".join(missing + exposed), remedy="Correct this; `relay check` looks again.")


def _missing(config: Config) -> Iterator[str]:
    if config.submission.starttls or config.submission.tls:
        yield from _absent("[tls] certificate", config.tls.certificate)
        yield from _absent("[tls] key", config.tls.key)
    for pair in config.tls.additional:
        yield from _absent("[[tls.additional]] certificate", pair.certificate)
        yield from _absent("[[tls.additional]] key", pair.key)
    for name, path in _secrets(config):
        yield from _absent(name, path)
    for name, smarthost in config.smarthost.items():
        if smarthost.ca is not None:
            yield from _absent(f"[smarthost.{name}] ca", smarthost.ca)
    for name, optional in (("profiles", config.delivery.profiles), ("rules", config.delivery.rules)):
        if optional is not None:
            yield from _absent(f"[delivery] {name}", optional)


def _absent(name: str, path: Path) -> Iterator[str]:
    if CREDENTIALS_VARIABLE in str(path):
        yield (
            f"{name}: {path} is a systemd credential and CREDENTIALS_DIRECTORY is not set;"
            " start the unit that has its LoadCredential=, or write the file's path."
        )
    elif _mode(path) is None:
        needed = " AUTH is never offered without TLS." if name.startswith("[tls]") else ""
        yield f"{name}: {path} does not exist or cannot be reached.{needed}"


def _exposed(config: Config) -> Iterator[str]:
    keys = [("[tls] key", config.tls.key)]
    keys += [("[[tls.additional]] key", pair.key) for pair in config.tls.additional]
    for name, path in [*keys, *_secrets(config)]:
        mode = _mode(path) or 0
        if mode & (stat.S_IROTH | stat.S_IWOTH):
            yield (
                f"{name}: {path} can be read or written by every user (mode {mode & 0o777:o}); run: chmod o-rwx {path}"
            )


def _secrets(config: Config) -> Iterator[tuple[str, Path]]:
    if config.http.token_file is not None:
        yield "[http] token_file", config.http.token_file
    for name, smarthost in config.smarthost.items():
        if smarthost.secret_file is not None:
            yield f"[smarthost.{name}] secret_file", smarthost.secret_file
    for route in config.route:
        if route.secret_file is not None:
            yield "[[route]] secret_file", route.secret_file


def _mode(path: Path) -> int | None:
    """None when there is no such file, or none that we can see."""
    try:
        return path.stat().st_mode
    except OSError:
        return None
