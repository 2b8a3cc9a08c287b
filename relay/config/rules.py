"""config.rules: reads the two files that say how others behave: bounce-rules.toml and profiles.toml.

Each is read from the path that relay.toml names, else from the copy in the installed package, else (a checkout that
is run in place) from the repository's config/. What comes out is values: `mail.rules.Rules`,
`config.profiles.Profiles`. What is wrong raises ConfigError, naming the file and the rule or profile, and what to do;
nothing is skipped, since a rule that silently never fits would suppress or block the wrong mail.
"""

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from relay.config.models import Suppressions
from relay.config.profiles import DEFAULT, Profile, Profiles
from relay.errors import ConfigError
from relay.mail.meaning import SuppressionTimes
from relay.mail.rules import Rules

__all__ = ["Profile", "Profiles", "load_profiles", "load_rules"]

RULES = "bounce-rules.toml"
PROFILES = "profiles.toml"


def load_rules(path: Path | None, suppressions: Suppressions) -> Rules:
    """path: None for the rules shipped. suppressions: the numbers of [suppression]. Raises ConfigError."""
    file = path or shipped(RULES)
    times = SuppressionTimes(
        bad_domain=suppressions.bad_domain,
        mailbox_full_messages=suppressions.mailbox_full_messages,
        mailbox_full_over=suppressions.mailbox_full_over,
        mailbox_full=suppressions.mailbox_full,
    )
    try:
        return Rules.parse(document(file), times=times)
    except ValueError as error:
        raise refusal(file, str(error)) from None


def load_profiles(path: Path | None) -> Profiles:
    """path: None for the profiles shipped. Raises ConfigError."""
    file = path or shipped(PROFILES)
    try:
        return _profiles(document(file))
    except ValueError as error:
        raise refusal(file, str(error)) from None


def shipped(name: str) -> Traversable:
    """The file of this name that comes with Relay."""
    packaged = resources.files("relay.config") / name
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "config" / name


def document(file: Traversable) -> dict[str, object]:
    """What it says. Raises ConfigError."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refusal(file, str(error)) from None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}.",
            remedy="Correct the path, or leave it out to use the file shipped.",
        ) from None


def refusal(
    file: Traversable,
    text: str,
    *,
    remedy: str = "Correct the file, or leave its path out of [delivery] to use the one shipped.",
) -> ConfigError:
    return ConfigError(f"{file}: {text}", remedy=remedy)


def _profiles(document: Mapping[str, object]) -> Profiles:
    unknown = sorted(set(document) - {"default", "profile"})
    if unknown:
        raise ValueError(f'"{unknown[0]}" is no table here; the file has [default] and [[profile]] tables')
    default, tables = document.get("default"), document.get("profile", [])
    if not isinstance(default, dict):
        raise ValueError("[default] is missing; it has what a profile does not name")  # noqa: TRY004 -- the file's
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError("write each profile as a table under [[profile]]")
    by_suffix: dict[str, Profile] = {}
    for table in tables:
        profile = _profile(table)
        for suffix in _suffixes(profile):
            other = by_suffix.setdefault(suffix, profile)
            if other is not profile:
                raise ValueError(f'profile "{profile.name}": ".{suffix}" belongs to profile "{other.name}" already')
    if default.get("scope", "site") != "site":
        raise ValueError('[default] is for sites that have nothing in common; leave its "scope" out')
    return Profiles(_profile({"name": DEFAULT, **default}), by_suffix)


def _profile(table: Mapping[str, object]) -> Profile:
    try:
        return Profile.model_validate(table)
    except ValidationError as error:
        raise ValueError(f'profile "{table.get("name", "")}": ' + "; ".join(_problems(error))) from None


def _problems(error: ValidationError) -> Iterator[str]:
    for details in error.errors(include_url=False):
        key = ".".join(str(step) for step in details["loc"])
        if details["type"] == "extra_forbidden":
            yield f'"{key}" is no key of a profile; known are {", ".join(Profile.model_fields)}'
        else:
            yield f'"{key}": {details["msg"]}'


def _suffixes(profile: Profile) -> Iterator[str]:
    if not profile.mx_suffixes:
        raise ValueError(f'profile "{profile.name}": "mx_suffixes" is missing; it would fit no host')
    for suffix in profile.mx_suffixes:
        bare = suffix.lower().strip(".")
        if not bare:
            raise ValueError(f'profile "{profile.name}": "{suffix}" is no suffix; write one such as ".example.com"')
        yield bare
