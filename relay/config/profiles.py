"""config.profiles: what a receiving site allows: connections, messages on each, rate, recipients.

A profile belongs to a provider and is found by the name of an MX host: the longest suffix wins, whole labels only, so
that ".mail.protection.outlook.com" is not what ".olc.protection.outlook.com" says, and "notgoogle.com" is not Google.
A host that no profile names has the default. `config.rules` reads them from profiles.toml.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from relay.config.models import Duration, Table


class Profile(Table):
    """One provider's limits, for one source address at one site, machine-wide."""

    name: str = Field(min_length=1)
    mx_suffixes: tuple[str, ...] = Field(default=())
    connections: int = Field(ge=1)
    messages_per_connection: int = Field(ge=1)
    messages_per_second: float = Field(default=0.0, ge=0, description="0 for no limit.")
    recipients: int = Field(default=100, ge=1, description="In one transaction.")
    idle: Duration = Field(default=30.0, description="How long a connection without work is kept.")


@dataclass(frozen=True, slots=True)
class Profiles:
    """by_suffix: "google.com" → its profile; suffixes without the leading dot, lower-case."""

    default: Profile
    by_suffix: Mapping[str, Profile]

    def for_host(self, mx_host: str) -> Profile:
        """The profile of an MX host by its name, in any case, with or without a final dot."""
        rest = mx_host.lower().rstrip(".")
        while rest:
            profile = self.by_suffix.get(rest)
            if profile is not None:
                return profile
            rest = rest.partition(".")[2]
        return self.default
