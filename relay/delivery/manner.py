"""delivery.manner: how a site's sessions are to be, as its limits have it. Pure.

What TLS to MX hosts must be, what of a server's offers is not believed, and how patient to be. A failure of TLS where
TLS is needed is told with who needs it, since that is what the mail waits for.
"""

from dataclasses import dataclass, replace

from relay.config.models import TlsNeed
from relay.delivery.site import Site
from relay.smtpclient import ConnectFailure


@dataclass(frozen=True, slots=True)
class Manner:
    """tls: of MX hosts. origin: who says so, in an operator's words. discarded: EHLO keywords that are not believed.
    in_haste: another smarthost is at hand.
    """

    tls: TlsNeed = "opportunistic"
    origin: str = "default"
    discarded: tuple[str, ...] = ()
    in_haste: bool = False

    @classmethod
    def of(cls, site: Site, *, in_haste: bool) -> "Manner":
        limits = site.limits
        return cls(site.tls, limits.origins.get("tls", ""), limits.discard_ehlo_keywords, in_haste)

    def explain(self, failure: ConnectFailure) -> ConnectFailure:
        """With what it is that mail waits for (RFC 3463 3.8)."""
        if not failure.tls_failed or self.tls not in ("required", "verified"):
            return failure
        status = "4.7.5" if "certificate" in failure.text else "4.7.4"
        text = (
            f'{status} {failure.text}; mail waits, for tls = "{self.tls}" there ({self.origin}):'
            ' a [[site]] table with tls = "opportunistic" would let it go in clear text'
        )
        return replace(failure, text=text)


AS_OFFERED = Manner()
