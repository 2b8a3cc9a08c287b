"""server.inquiries: what sessions and reception ask about credentials, domains and recipients, answered from memory
or by an index.
"""

from collections.abc import Callable

from relay.config.models import Config
from relay.delivery.destination import literal_address
from relay.mail.message import Header
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.registry.credentials import Credential
from relay.registry.domains import DkimKey
from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions
from relay.submission.policy import check_header


class Inquiries:
    """config: asked each time, so that a reload counts."""

    def __init__(self, registry: Registry, suppressions: Suppressions, config: Callable[[], Config]) -> None:
        self._registry = registry
        self._suppressions = suppressions
        self._config = config

    def authorize(self, credential: Credential, header: Header) -> Reply | None:
        """Why this header may not be sent with this credential, or None."""
        return check_header(credential, header, self._signs)

    def suppressed(self, recipient: str, credential: Credential) -> Suppression | None:
        """Raises SpoolError."""
        scopes = ("all", f"credential:{credential.name}/{credential.stream}")
        return self._suppressions.lookup(recipient, scopes=scopes)

    def literal_allowed(self, domain: str) -> bool:
        address = literal_address(domain)
        networks = self._config().delivery.allow_networks
        return any(address.version == network.version and address in network for network in networks)

    def signing_keys(self) -> list[DkimKey]:
        return [key for domain in self._registry.snapshot().domains.values() for key in domain.signing_keys]

    def _signs(self, domain: str) -> bool:
        return domain in self._registry.snapshot().signing
