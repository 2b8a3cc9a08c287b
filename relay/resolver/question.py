"""resolver.question: one question to the nameservers, by dnspython; its exceptions become answers here and nowhere
else.

The nameservers are recursive resolvers, asked in order over UDP with EDNS (1232 octets, what passes without
fragments), over TCP when the answer was truncated. `settings.timeout` bounds the whole question. A server that
answers SERVFAIL, REFUSED or what cannot be read is left out and the next one asked; when none is left, the failure
names each and what it did.

A name that cannot be put in a query (an empty or overlong label) cannot exist: NXDOMAIN, without asking.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.ttl

from relay.config.models import Dns
from relay.errors import ConfigError
from relay.resolver.answer import Failure, Found, MxHost, NoDomain, NoRecords, NullMx
from relay.resolver.cache import Answer

_EDNS_PAYLOAD = 1232
_TRY = 0.4  # one server's share of the time for a question


class _Referral(Exception):
    """The server points to others instead of asking them."""


class Nameservers:
    """The servers asked. Raises ConfigError when none is configured and the system has none either."""

    def __init__(self, settings: Dns) -> None:
        self._timeout = settings.timeout
        self._resolver = _resolver(settings)
        self._resolver.lifetime = settings.timeout
        self._resolver.timeout = settings.timeout * _TRY
        self._resolver.use_edns(0, 0, _EDNS_PAYLOAD)

    @property
    def names(self) -> str:
        return ", ".join(_shown(str(server)) for server in self._resolver.nameservers)

    async def ask(self, name: str, kind: str) -> tuple[Answer, float]:
        """The answer and its TTL in seconds (0 for a failure)."""
        try:
            async with asyncio.timeout(self._timeout):
                return _answer(await self._resolve(dns.name.from_text(name), kind), kind)
        except dns.resolver.NXDOMAIN as error:
            return NoDomain(), _negative_ttl(error)
        except (dns.name.NameTooLong, dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.BadEscape):
            return NoDomain(), float(dns.ttl.MAX_TTL)
        except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
            return Failure(f"{kind} of {name}: {self._what_failed(error)}"), 0.0
        except TimeoutError:
            return Failure(f"{kind} of {name}: no answer within {self._timeout:g} s from {self.names}"), 0.0
        except (_Referral, dns.exception.DNSException) as error:
            return Failure(f"{kind} of {name}: {error}"), 0.0

    async def _resolve(self, name: dns.name.Name, kind: str) -> dns.resolver.Answer:
        answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        if answer.rrset is None and _is_referral(answer.response):
            raise _Referral(f"{answer.nameserver}:{answer.port} answered with a referral; it does not resolve for us")
        return answer

    def _what_failed(self, error: dns.resolver.NoNameservers | dns.resolver.LifetimeTimeout) -> str:
        """Each server once, with the last that was heard of it."""
        last = {server: _symptom(symptom) for server, _, _, symptom, _ in error.kwargs["errors"] if server}
        told = "; ".join(f"{_shown(server)} {symptom}" for server, symptom in last.items())
        return told or f"no answer within {self._timeout:g} s from {self.names}"


def _resolver(settings: Dns) -> dns.asyncresolver.Resolver:
    if settings.nameservers:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [_nameserver(server) for server in settings.nameservers]
        return resolver
    try:
        return dns.asyncresolver.Resolver()
    except (dns.resolver.NoResolverConfiguration, OSError) as error:
        raise ConfigError(
            f"the system has no nameserver configured (/etc/resolv.conf): {error}",
            remedy='set nameservers in [dns] of relay.toml, such as ["127.0.0.1:53"]',
        ) from error


def _nameserver(listen: str) -> dns.nameserver.Do53Nameserver:
    host, _, port = listen.rpartition(":")
    return dns.nameserver.Do53Nameserver(host.strip("[]"), int(port))


def _shown(server: str) -> str:
    """What dnspython calls "Do53:127.0.0.1@53": "127.0.0.1:53"."""
    address, _, port = server.removeprefix("Do53:").rpartition("@")
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _symptom(symptom: Exception | str) -> str:
    if isinstance(symptom, dns.exception.Timeout):
        return "did not answer"
    if isinstance(symptom, str):  # an rcode
        return f"answered {symptom}"
    if isinstance(symptom, OSError):
        return f"cannot be reached ({symptom.strerror or symptom})"
    return f"sent what is no answer ({type(symptom).__name__}: {symptom})"


def _is_referral(response: dns.message.QueryMessage) -> bool:
    """RFC 2308 2.2: NS and no SOA in the authority section is a pointer to other servers, not the absence of
    records.
    """
    kinds = {rrset.rdtype for rrset in response.authority}
    return not response.answer and dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds


def _negative_ttl(error: dns.resolver.NXDOMAIN) -> float:
    responses = error.kwargs["responses"]
    return float(min(response.resolve_chaining().minimum_ttl for response in responses.values()))


def _answer(answer: dns.resolver.Answer, kind: str) -> tuple[Answer, float]:
    ttl = float(answer.chaining_result.minimum_ttl)
    if answer.rrset is None:
        return NoRecords(), ttl
    if kind == "MX":
        return _mail_hosts(answer.rrset), ttl
    return Found(tuple(_READERS[kind](record) for record in answer.rrset)), ttl


def _mail_hosts(records: Any) -> Answer:
    # RFC 7505 3: a single "." is a null MX; beside other hosts it is a mistake and names no host.
    named = [record for record in records if record.exchange != dns.name.root]
    hosts = sorted((record.preference, _name(record.exchange)) for record in named)
    return Found(tuple(MxHost(preference, name) for preference, name in hosts)) if hosts else NullMx()


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


_READERS: dict[str, Callable[[Any], object]] = {
    "A": lambda record: ipaddress.IPv4Address(record.address),
    "AAAA": lambda record: ipaddress.IPv6Address(record.address),
    # RFC 7208 3.3, RFC 6376 3.6.2.2: the strings of one record are joined without spaces.
    "TXT": lambda record: b"".join(record.strings).decode("utf-8", "backslashreplace"),
    "PTR": lambda record: _name(record.target),
}
