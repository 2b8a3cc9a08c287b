"""registry.domains: sender domains and their DKIM keys, as values.

The registry stores the keys it is given (`relay.dkim` makes them). A domain's first keys sign at once, because
nothing else could; a later key is `pending` until its record has been seen in DNS, then it signs and the one before
it is `retired`: kept, with its record still to be published, until mail signed with it has been delivered (RFC 6376
3.1: the selector exists for this).
"""

from dataclasses import dataclass
from enum import StrEnum


class KeyState(StrEnum):
    """A key's part in signing."""

    ACTIVE = "active"
    PENDING = "pending"  # does not sign until it is seen in DNS
    RETIRED = "retired"  # signs no more; its record stays published while mail it signed is in flight


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One key. algorithm: "rsa" or "ed25519". private_pem: PKCS #8. public_record: the TXT record's value, "v=DKIM1;
    ...".

    seen_at: when the record was last seen in DNS, 0 for never. retired_at: 0 while it is not.
    """

    domain: str
    selector: str
    algorithm: str
    private_pem: bytes
    public_record: str
    created_at: float
    state: KeyState = KeyState.ACTIVE
    seen_at: float = 0.0
    retired_at: float = 0.0

    @property
    def record_name(self) -> str:
        """RFC 6376 3.6.2.1."""
        return f"{self.selector}._domainkey.{self.domain}"

    def __repr__(self) -> str:
        """Without the private key: a repr ends in logs and tracebacks."""
        return f"DkimKey({self.record_name!r}, {self.algorithm}, {self.state})"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it comes from `relay.dkim`; the registry gives it a selector."""

    algorithm: str
    private_pem: bytes
    public_record: str

    def __repr__(self) -> str:
        return f"NewKey({self.algorithm})"


@dataclass(frozen=True, slots=True)
class SenderDomain:
    """A From domain. name: A-labels, lower case. keys: newest first, in every state."""

    name: str
    created_at: float
    keys: tuple[DkimKey, ...] = ()

    @property
    def signing_keys(self) -> tuple[DkimKey, ...]:
        """The keys that sign, RSA first: a verifier that gives up after one signature meets the one it knows."""
        active = [key for key in self.keys if key.state is KeyState.ACTIVE]
        return tuple(sorted(active, key=lambda key: key.algorithm != "rsa"))
