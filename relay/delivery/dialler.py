"""delivery.dialler: a session with one of a destination's hosts.

Hosts in order of preference, each at its addresses, until one gives a session: at most `delivery.addresses` addresses
and `delivery.sessions` that answered at all (RFC 5321 5.1, Postfix's smtp_mx_session_limit). A 5xx greeting is one
host's word, so the next is tried, and when all greet so the mail is deferred, never bounced.

To MX hosts TLS is opportunistic (RFC 7435) unless the site's limits say otherwise: unverified TLS where STARTTLS is
offered, clear text to the same address when TLS itself fails. Where it is required, or to be verified too, nothing
weaker is tried: the mail waits, and the journal says for what. To a smarthost relay.toml says what is required; where a
route has another, one that says nothing is not waited for as long as RFC 5321 would.

Direct mail leaves from the address that its hop names, and goes to addresses of the same family. A smarthost knows us
by our account, and has its mail from whichever address of the default pool fits, in turn; without one of the family the
system chooses. An address that cannot be bound rests (`delivery.sources`), and another is taken.

Where IPv6 is preferred and does not answer, IPv4 of the same host is tried beside it (RFC 8305), if both can be reached
from here. Never the other way round: IPv6 comes second where this machine has no PTR there, and mail that took it by
chance would be refused. Hosts keep their order. What did not answer comes second for a while (`delivery.known_hosts`).
"""

import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from random import Random

from relay.config.models import Delivery
from relay.delivery.destination import Destination, Host
from relay.delivery.known_hosts import KnownHosts
from relay.delivery.manner import AS_OFFERED, Manner
from relay.delivery.routing import Direct, Hop, Smarthost
from relay.delivery.site import Line
from relay.delivery.sources import Sources
from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient import (
    ConnectFailure,
    Connection,
    Endpoint,
    Fault,
    SessionOptions,
    TlsContexts,
    TlsMode,
    connect,
    dial_either,
)

OPENING = 30.0  # seconds for greeting, EHLO, TLS and AUTH each, where another smarthost is at hand
_SMARTHOST_TLS = {"starttls": TlsMode.VERIFIED, "tls": TlsMode.IMPLICIT, "none": TlsMode.NONE}

Place = tuple[Host, str]  # and one of its addresses


@dataclass(frozen=True, slots=True)
class Unreached:
    """No host gave a session. reply: the last that one gave, None when none did. detail: every address with its
    failure. fault: ours, where no host has heard of us.
    """

    stage: Stage
    reply: Reply | None
    mx: str
    detail: str
    fault: Fault = Fault.THEIRS

    @property
    def host(self) -> str:
        """By name."""
        return self.mx.partition("[")[0]


class Dialler:
    """`hostname`: our EHLO name unless a source has its own. pool: our addresses for mail to smarthosts. sources: which
    of ours rest. known: what was lately found of hosts.
    """

    def __init__(
        self,
        *,
        hostname: str,
        pool: tuple[Direct, ...],
        sources: Sources,
        known: KnownHosts,
        settings: Delivery,
        contexts: TlsContexts,
        random: Random,
    ) -> None:
        self.known = known
        self._hostname = hostname
        self._contexts = contexts
        self._pool = pool
        self._sources = sources
        self._settings = settings
        self._random = random

    def has_another(self, destination: Destination, hop: Hop, tried: Collection[str]) -> bool:
        """Is there an address to try yet, and a session left of this attempt's?"""
        addresses = self._addresses(destination, hop)
        return len(tried) < self._settings.sessions and any(at not in tried for _, at in addresses)

    async def open(
        self,
        destination: Destination,
        hop: Hop,
        tried: Collection[str],
        *,
        manner: Manner = AS_OFFERED,
    ) -> Line | Unreached:
        """tried: addresses that a session of this attempt broke at; they are left out, as long as there are others."""
        if not self.has_another(destination, hop, tried):
            tried = ()  # while the job waited DNS gave other addresses, or a reload allowed fewer sessions
        left = [place for place in self._addresses(destination, hop) if place[1] not in tried]
        failures: list[tuple[Host, str, ConnectFailure]] = []
        answered = len(tried)
        while left and answered < self._settings.sessions and not _is_unbound(failures):
            for place, outcome in await self._tried(left[0], self._rival(left, hop), hop, manner):
                if isinstance(outcome, Connection):
                    self.known.answered(place[1])
                    return Line(outcome, destination)
                left.remove(place)
                failures.append((*place, manner.explain(outcome)))
                answered += outcome.reply is not None
        return _unreached(failures) if failures else _of_no_family(destination, hop)

    def _addresses(self, destination: Destination, hop: Hop) -> list[Place]:
        pairs = [(host, address) for host in destination.hosts for address in host.addresses]
        if isinstance(hop, Direct) and hop.address:
            pairs = [(host, address) for host, address in pairs if hop.reaches(address)]
        return pairs[: self._settings.addresses]

    def _rival(self, left: Sequence[Place], hop: Hop) -> Place | None:
        """The IPv4 address to try beside an IPv6 one of the same host; none for a smarthost that has its mail from IPv6
        addresses of ours alone.
        """
        host, address = left[0]
        rival = next((place for place in left if place[0] is host and ":" not in place[1]), None)
        if rival is None or ":" not in address:
            return None
        is_fit = isinstance(hop, Direct) or not self._pool or any(each.reaches(rival[1]) for each in self._pool)
        return rival if is_fit else None

    async def _tried(
        self, first: Place, rival: Place | None, hop: Hop, manner: Manner
    ) -> list[tuple[Place, Connection | ConnectFailure]]:
        """What came of those that were tried to the end."""
        if rival is None:
            return [(first, await self._session(first, hop, manner))]
        places = (rival, first) if self.known.is_silent(first[1]) else (first, rival)
        sources = [self._sources_for(address, hop)[0] for _, address in places]
        ways = [self._way(place, hop, source, manner) for place, source in zip(places, sources, strict=True)]
        dialled = await dial_either(ways[0], ways[1])
        if dialled[0] is None:
            self.known.did_not_answer(places[0][1])
        outcomes: list[tuple[Place, Connection | ConnectFailure]] = []
        for place, source, each in zip(places, sources, dialled, strict=True):
            if isinstance(each, socket.socket):
                outcomes.append((place, await self._session_from(place, hop, source, manner, over=each)))
            elif each is not None and self._has_bound(source, each):
                outcomes.append((place, each))
            elif each is not None:
                outcomes.append((place, await self._session(place, hop, manner)))
        return outcomes

    async def _session(self, place: Place, hop: Hop, manner: Manner) -> Connection | ConnectFailure:
        """From the hop's address, or from one after the other of those that a smarthost may have its mail from."""
        sources = self._sources_for(place[1], hop)
        while True:
            source = sources.pop(0)
            outcome = await self._session_from(place, hop, source, manner)
            if self._has_bound(source, outcome) or not sources:
                return outcome

    async def _session_from(
        self, place: Place, hop: Hop, source: Direct, manner: Manner, *, over: socket.socket | None = None
    ) -> Connection | ConnectFailure:
        endpoint, options = self._way(place, hop, source, manner)
        outcome = await connect(endpoint, options, over=over)
        if isinstance(outcome, ConnectFailure) and outcome.tls_failed and options.tls is TlsMode.OPPORTUNISTIC:
            return await connect(endpoint, replace(options, tls=TlsMode.NONE))
        return outcome

    def _has_bound(self, source: Direct, outcome: Connection | ConnectFailure) -> bool:
        if isinstance(outcome, ConnectFailure) and outcome.fault is Fault.SOURCE:
            self._sources.failed(source.address, outcome.text)
            return False
        self._sources.worked(source.address)
        return True

    def _way(self, place: Place, hop: Hop, source: Direct, manner: Manner) -> tuple[Endpoint, SessionOptions]:
        host, address = place
        options = self._options(host, hop, source, manner)
        endpoint = Endpoint(address=address, port=host.port, name=host.name)
        return endpoint, _hastened(options) if manner.in_haste else options

    def _options(self, host: Host, hop: Hop, source: Direct, manner: Manner) -> SessionOptions:
        smarthost = hop if isinstance(hop, Smarthost) else None
        return SessionOptions(
            contexts=self._contexts,
            source=source.address,
            ehlo=source.hostname or self._hostname,
            tls=_SMARTHOST_TLS[smarthost.security] if smarthost else TlsMode(manner.tls),
            discarded=frozenset((*manner.discarded, *self.known.discarded(host.name))),
            ca=smarthost.ca if smarthost else None,
            login=smarthost.login if smarthost else "",
            secret=smarthost.secret if smarthost else "",
            timeouts=self._settings.timeouts,
        )

    def _sources_for(self, address: str, hop: Hop) -> list[Direct]:
        """The hop's own; else of the default pool, in any order; those that rest last, for somebody must find out when
        they can again.
        """
        if isinstance(hop, Direct):
            return [hop]
        fitting = [each for each in self._pool if each.reaches(address)]
        self._random.shuffle(fitting)
        return sorted(fitting, key=lambda each: self._sources.resumes_at(each.address)) or [Direct()]


def _hastened(options: SessionOptions) -> SessionOptions:
    times = options.timeouts
    shorter = {"greeting": min(times.greeting, OPENING), "ehlo": min(times.ehlo, OPENING)}
    return replace(options, timeouts=times.model_copy(update=shorter))


def _unreached(failures: list[tuple[Host, str, ConnectFailure]]) -> Unreached:
    detail = "; ".join(f"{host.name}[{address}]:{host.port}: {failure.text}" for host, address, failure in failures)
    host, address, last = next((each for each in reversed(failures) if each[2].reply is not None), failures[-1])
    return Unreached(last.stage, last.reply, f"{host.name}[{address}]:{host.port}", detail, _fault(failures))


def _is_unbound(failures: list[tuple[Host, str, ConnectFailure]]) -> bool:
    """No other host will do."""
    return bool(failures) and failures[-1][2].fault is Fault.SOURCE


def _fault(failures: list[tuple[Host, str, ConnectFailure]]) -> Fault:
    """Theirs, if any is."""
    faults = {failure.fault for _, _, failure in failures}
    return faults.pop() if len(faults) == 1 else Fault.THEIRS


def _of_no_family(destination: Destination, hop: Hop) -> Unreached:
    host, address = destination.hosts[0], destination.addresses[0]
    source = hop.address if isinstance(hop, Direct) else ""
    detail = f"{host.name} has no address that can be reached from {source}, which is of the other family"
    return Unreached(Stage.CONNECT, None, f"{host.name}[{address}]:{host.port}", detail, Fault.ROUTE)
