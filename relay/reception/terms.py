"""reception.terms: what of the configuration reception goes by; one value, replaced as a whole when it is reloaded."""

from collections.abc import Mapping
from dataclasses import dataclass

from relay.config.models import Config, Retry, Stream, SubmissionLimits


@dataclass(frozen=True, slots=True)
class Terms:
    """What of the configuration reception needs; replaced as a whole on reload."""

    hostname: str
    retry: Retry
    streams: Mapping[str, Stream]
    limits: SubmissionLimits
    show_client: bool

    def expiry_of(self, stream: str) -> float:
        """Seconds."""
        named = self.streams.get(stream)
        return named.expire if named else self.retry.expire

    @classmethod
    def of(cls, config: Config) -> "Terms":
        return cls(
            hostname=config.server.hostname,
            retry=config.delivery.retry,
            streams=config.stream,
            limits=config.submission.limits,
            show_client=config.submission.received_client == "shown",
        )
