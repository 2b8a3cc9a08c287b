"""resolver: DNS as delivery needs it; the one home of dnspython.

`resolver.resolver` is asked, `resolver.answer` says what the answers are, `resolver.cache` keeps them,
`resolver.question` puts one question to the nameservers.
"""

from relay.resolver.answer import (
    AddressAnswer,
    Failure,
    Found,
    MxAnswer,
    MxHost,
    NoDomain,
    NoRecords,
    NullMx,
    TextAnswer,
)
from relay.resolver.resolver import Resolver

__all__ = [
    "AddressAnswer",
    "Failure",
    "Found",
    "MxAnswer",
    "MxHost",
    "NoDomain",
    "NoRecords",
    "NullMx",
    "Resolver",
    "TextAnswer",
]
