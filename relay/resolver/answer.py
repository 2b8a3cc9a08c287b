"""resolver.answer: what DNS says, as values.

`NoDomain` and `NoRecords` are the domain owner's word and may end a recipient. `Failure` is nobody's word (SERVFAIL,
no answer in time, an answer that cannot be read): it never ends one. `NullMx` is the owner's refusal of all mail (RFC
7505).
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from relay.config.values import Address

Record_co = TypeVar("Record_co", covariant=True)


@dataclass(frozen=True, slots=True)
class MxHost:
    """One MX record (RFC 5321 5.1): the lower preference is tried first. name: lower-case, without the final dot."""

    preference: int
    name: str


@dataclass(frozen=True, slots=True)
class Found(Generic[Record_co]):
    """records: at least one. stale: past its TTL, served because the servers fail now (RFC 8767 4).

    missing: what could not be asked beside (of an A and AAAA pair), in words; "" when nothing is.
    """

    records: tuple[Record_co, ...]
    stale: bool = False
    missing: str = ""


@dataclass(frozen=True, slots=True)
class NoRecords:
    """The name exists and has no record of that type (RFC 2308 2.2)."""


@dataclass(frozen=True, slots=True)
class NoDomain:
    """The name does not exist (RFC 2308 2.1), or cannot."""


@dataclass(frozen=True, slots=True)
class NullMx:
    """RFC 7505 3: the domain takes no mail; its addresses are not to be tried."""


@dataclass(frozen=True, slots=True)
class Failure:
    """text: one line that names the question, the nameserver and what it did."""

    text: str


MxAnswer = Found[MxHost] | NullMx | NoRecords | NoDomain | Failure
AddressAnswer = Found[Address] | NoRecords | NoDomain | Failure
TextAnswer = Found[str] | NoRecords | NoDomain | Failure
