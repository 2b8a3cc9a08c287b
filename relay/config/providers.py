"""config.providers: how simulated receiving servers behave: providers.toml, as frozen models.

Read from the path that is given, else from the copy in the installed package or the repository's config/. Each table of
a provider is one thing that it does when there is too much; what it has no table for it does not do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from relay.config.rules import document, refusal, shipped
from relay.config.values import Duration, Table
from relay.mail.reply import Reply, ReplyError, ReplyParser

PROVIDERS = "providers.toml"
MOST_SITES = 1000  # as many as are counted one by one (`delivery.outcomes`)
MANY = "%"  # in the names of a provider of several sites

_At = Literal["mail", "rcpt", "content"]


def parse_reply(text: str) -> Reply:
    """A refusal as it is written in the file. Raises ValueError."""
    try:
        (reply,) = ReplyParser().feed(text.encode("utf-8") + b"\r\n")
    except (ReplyError, ValueError):
        raise ValueError(f'"{text}" is no reply; write one such as "451 4.7.1 Come back later"') from None
    if reply.is_positive:
        raise ValueError(f'"{text}" is no refusal; it begins with a code from 400 to 599')
    return reply


def _checked(text: str) -> str:
    parse_reply(text)
    return text


class Refusal(Table):
    reply: Annotated[str, AfterValidator(_checked)]


class AtMost(Refusal):
    most: int = Field(ge=1)


class Rate(Refusal):
    """burst: messages that may be at once. penalty: all is refused so long, after one was."""

    per_second: float = Field(gt=0)
    burst: float = Field(default=1.0, ge=1)
    at: _At = "mail"
    penalty: Duration = 0.0


class Greylist(Refusal):
    wait: Duration


class Unknown(Refusal):
    share: float = Field(ge=0, le=1)


class Busy(Refusal):
    share: float = Field(ge=0, lt=1)
    at: _At = "content"


class Reputation(Refusal):
    """unknown: the share of the last `of` recipients."""

    unknown: float = Field(gt=0, le=1)
    of: int = Field(ge=1)
    lasts: Duration
    at: _At = "mail"


class Provider(Table):
    name: str = Field(min_length=1, pattern=r"^[a-z0-9][a-z0-9-]*$")
    domains: tuple[str, ...] = Field(min_length=1)
    mx: str = Field(min_length=1)
    sites: int = Field(default=1, ge=1, le=200)
    latency: Duration = 0.0
    takes: Duration = 0.0
    connections: AtMost | None = None
    messages: AtMost | None = None
    rate: Rate | None = None
    greylist: Greylist | None = None
    unknown: Unknown | None = None
    busy: Busy | None = None
    reputation: Reputation | None = None

    @model_validator(mode="after")
    def _names_are_as_many_as_sites(self) -> "Provider":
        if self.sites > 1 and not all(MANY in name for name in (*self.domains, self.mx)):
            raise ValueError(f'with several sites, "{MANY}" must be in every name of domains and in mx')
        return self


class _File(Table):
    provider: tuple[Provider, ...] = Field(min_length=1)


def load_providers(path: Path | None) -> Mapping[str, Provider]:
    """By name, in the order of the file. path: None for those shipped. Raises ConfigError."""
    file = path or shipped(PROVIDERS)
    try:
        found = _File.model_validate(document(file)).provider
    except ValidationError as error:
        raise refusal(file, "; ".join(_problems(error)), remedy=_REMEDY) from None
    names = [provider.name for provider in found]
    taken = [name for provider in found for name in (*provider.domains, provider.mx)]
    for each in (names, taken):
        twice = next((name for name in each if each.count(name) > 1), None)
        if twice is not None:
            raise refusal(file, f'"{twice}" is there twice', remedy=_REMEDY)
    if sum(provider.sites for provider in found) > MOST_SITES:
        raise refusal(file, f"it has more than {MOST_SITES} sites in all", remedy=_REMEDY)
    return {provider.name: provider for provider in found}


_REMEDY = "Correct the file; config/providers.toml, which is shipped, says what may be in it."


def _problems(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False)
    return [f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}" for each in details]
