"""config.sources: the tables of relay.toml about our addresses: what they are, how a new one is made known to
providers, and the blocklists that any of them may get into.
"""

import re

from pydantic import Field, field_validator, model_validator

from relay.config.values import Address, Day, Duration, Table

DEFAULT_POOL = "default"
_POOL = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Source(Table):
    """An address to send from; without any, the system chooses."""

    address: Address = Field(examples=["203.0.113.10"], description="A local address to send from.")
    hostname: str = Field(
        examples=["mx1.relay.example.com"], description="The EHLO name; its A/AAAA and the address's PTR should agree."
    )
    pool: str = Field(
        default=DEFAULT_POOL,
        examples=["bulk"],
        description='A route may say by which pool its mail goes; all else, and mail to smarthosts, goes by "default".',
    )
    weight: int = Field(
        default=1,
        ge=0,
        le=1_000_000,
        description="Share of its pool's messages at each site; 0 is for when the others cannot send.",
    )
    warm_up: Day | None = Field(
        default=None,
        examples=["2026-12-01"],
        description="The day from which it is made known to providers, a little more each day, as [warm_up] has it; it "
        "sends nothing before.",
    )

    @field_validator("pool")
    @classmethod
    def _pool_is_a_name(cls, pool: str) -> str:
        return pool_name(pool)


class WarmUp(Table):
    """How much each provider gets from an address in its warm-up: so much on the first day, and each day more, until it
    is warm. What is over that goes by warm addresses of its pool; where there are none, it waits. Days are UTC's.
    """

    first: int = Field(default=50, ge=1, description="Messages to each provider on the first day.")
    growth: float = Field(
        default=1.4, gt=1, le=10, description="Each day's are so many times those of the day before ..."
    )
    until: int = Field(
        default=100_000, ge=2, description="... until they would be so many: then it is warm, and has no limit."
    )
    hours: int = Field(
        default=8,
        ge=1,
        le=24,
        description="A day's are spread over so many hours or more: no hour has more than its part.",
    )

    @model_validator(mode="after")
    def _begins_below_its_end(self) -> "WarmUp":
        if self.first >= self.until:
            raise ValueError(
                f"first = {self.first} is not below until = {self.until}, and there would be no warm-up; write less"
            )
        return self


class Blocklist(Table):
    """A DNS blocklist (RFC 5782) in which the addresses of [[source]] are looked up. One that is listed rests while a
    warm address of its pool can send instead.
    """

    zone: str = Field(
        examples=["zen.spamhaus.org"], description="Its DNS zone. Ask its terms: most refuse public resolvers."
    )
    every: Duration = Field(
        default=600.0, ge=60, description="How often it is looked at; an answer is believed for its TTL."
    )


def pool_name(name: str) -> str:
    """Raises ValueError."""
    if not _POOL.fullmatch(name):
        raise ValueError(f'"{name}" is no name of a pool; write small letters, digits, - and _')
    return name
