"""delivery.dialler: a session with one of a destination's hosts.

Hosts in order of preference, each at its addresses, until one gives a session: at most `delivery.addresses` addresses
and `delivery.sessions` that answered at all (RFC 5321 5.1, Postfix's smtp_mx_session_limit). A 5xx greeting is one
host's word, so the next is tried, and when all greet so the mail is deferred, never bounced. To MX hosts TLS is
opportunistic (RFC 7435): unverified TLS where STARTTLS is offered, clear text to the same address when TLS itself
fails. To a smarthost the route says what is required, and nothing weaker is tried.
"""

from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from relay.config.models import Delivery, Source
from relay.delivery.destination import Destination, Host
from relay.delivery.routing import Hop, Smarthost
from relay.delivery.site import Line
from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient import ConnectFailure, Connection, Endpoint, SessionOptions, TlsContexts, TlsMode, connect

_SMARTHOST_TLS = {"starttls": TlsMode.REQUIRED_STARTTLS, "tls": TlsMode.IMPLICIT, "none": TlsMode.NONE}


@dataclass(frozen=True, slots=True)
class Unreached:
    """No host gave a session. reply: the last that one gave, None when none did. detail: every address with its
    failure.
    """

    stage: Stage
    reply: Reply | None
    mx: str
    detail: str


class Dialler:
    """`hostname`: our EHLO name unless a source has its own."""

    def __init__(
        self, *, hostname: str, sources: tuple[Source, ...], settings: Delivery, contexts: TlsContexts, random: Random
    ) -> None:
        self._hostname = hostname
        self._contexts = contexts
        self._sources = sources
        self._settings = settings
        self._random = random

    def has_another(self, destination: Destination, tried: Collection[str]) -> bool:
        """Is there an address to try yet, and a session left of this attempt's?"""
        return len(tried) < self._settings.sessions and any(at not in tried for _, at in self._addresses(destination))

    async def open(self, destination: Destination, hop: Hop, tried: Collection[str]) -> Line | Unreached:
        """tried: addresses that a session of this attempt broke at; they are left out, as long as there are others."""
        smarthost = hop if isinstance(hop, Smarthost) else None
        if not self.has_another(destination, tried):
            tried = ()  # while the job waited DNS gave other addresses, or a reload allowed fewer sessions
        failures: list[tuple[Host, str, ConnectFailure]] = []
        answered = len(tried)
        for host, address in self._addresses(destination):
            if address in tried:
                continue
            if answered >= self._settings.sessions:
                break
            outcome = await self._session(smarthost, host, address)
            if isinstance(outcome, Connection):
                return Line(outcome, destination)
            failures.append((host, address, outcome))
            answered += outcome.reply is not None
        return _unreached(failures)

    def _addresses(self, destination: Destination) -> list[tuple[Host, str]]:
        pairs = [(host, address) for host in destination.hosts for address in host.addresses]
        return pairs[: self._settings.addresses]

    async def _session(self, smarthost: Smarthost | None, host: Host, address: str) -> Connection | ConnectFailure:
        endpoint = Endpoint(address=address, port=host.port, name=host.name)
        outcome = await connect(endpoint, self._options(smarthost, address, self._tls(smarthost)))
        if isinstance(outcome, ConnectFailure) and outcome.tls_failed and smarthost is None:
            return await connect(endpoint, self._options(None, address, TlsMode.NONE))
        return outcome

    def _tls(self, smarthost: Smarthost | None) -> TlsMode:
        if smarthost is not None:
            return _SMARTHOST_TLS[smarthost.security]
        return TlsMode.OPPORTUNISTIC if self._settings.tls == "opportunistic" else TlsMode.NONE

    def _options(self, smarthost: Smarthost | None, address: str, tls: TlsMode) -> SessionOptions:
        source = self._source(address)
        return SessionOptions(
            contexts=self._contexts,
            source=str(source.address) if source else "",
            ehlo=source.hostname if source else self._hostname,
            tls=tls,
            login=smarthost.login if smarthost else "",
            secret=smarthost.secret if smarthost else "",
            timeouts=self._settings.timeouts,
        )

    def _source(self, address: str) -> Source | None:
        version = 6 if ":" in address else 4
        fitting = [source for source in self._sources if source.address.version == version]
        return self._random.choice(fitting) if fitting else None


def _unreached(failures: list[tuple[Host, str, ConnectFailure]]) -> Unreached:
    detail = "; ".join(f"{host.name}[{address}]:{host.port}: {failure.text}" for host, address, failure in failures)
    host, address, last = next((each for each in reversed(failures) if each[2].reply is not None), failures[-1])
    return Unreached(last.stage, last.reply, f"{host.name}[{address}]:{host.port}", detail)
