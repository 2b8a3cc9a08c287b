"""cli.domain_records: the DNS records of a sender domain: what should be published, and whether it is.

Expected are each key's DKIM record (RFC 6376 3.6.1), and as suggestions an SPF record that lets this machine send (RFC
7208), a DMARC record to begin with (RFC 7489 6.3). Found is judged by meaning, not by letters: a DKIM record by its
public key and by whether a sample signed with it verifies, SPF by whether it names this machine, DMARC by the tree walk
from the domain upwards.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from relay.cli import dkim_sample

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from relay.config.models import Config
    from relay.registry.domains import DkimKey, SenderDomain
    from relay.resolver import Resolver, TextAnswer


@dataclass(frozen=True, slots=True)
class Record:
    """One record to publish. purpose: "DKIM", "SPF" or "DMARC". required: mail is worse off without it."""

    purpose: str
    name: str
    type: str
    value: str
    note: str = ""


class Outcome(StrEnum):
    """What a look into DNS came to."""

    OK = "ok"
    WARNING = "warning"  # works, but receivers may trust it less
    WRONG = "wrong"
    UNKNOWN = "unknown"  # DNS did not answer


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. found: what DNS has, in words. advice: what to do, "" when nothing is."""

    purpose: str
    name: str
    outcome: Outcome
    found: str
    advice: str = ""
    selector: str = ""  # of the key whose record was found as expected


def expected(domain: "SenderDomain", config: "Config") -> list[Record]:
    """DKIM of every key, newest first within its state, then SPF and DMARC."""
    return [
        *(
            Record("DKIM", key.record_name, "TXT", key.public_record, _KEY_NOTES[key.state.value])
            for key in domain.keys
        ),
        Record("SPF", domain.name, "TXT", spf(config), "where there is an SPF record already, merge them into one"),
        Record("DMARC", f"_dmarc.{domain.name}", "TXT", dmarc(domain.name), "unless there is one already"),
    ]


_KEY_NOTES = {
    "active": "",
    "pending": "signs once it is published and `relay domain check` has seen it",
    "retired": "signs no more; leave it for a week",
}


def spf(config: "Config") -> str:
    """By address where [[source]] names them, else by the host name."""
    if config.source:
        parts = [f"ip{source.address.version}:{source.address}" for source in config.source]
        return f"v=spf1 {' '.join(parts)} ~all"
    return f"v=spf1 a:{config.server.hostname} ~all"


def dmarc(domain: str) -> str:
    return f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}"


def zone_file(record: Record) -> str:
    """As it stands in a zone file; a TXT string has at most 255 octets (RFC 1035 3.3.14)."""
    strings = [record.value[at : at + 255] for at in range(0, len(record.value), 255)]
    quoted = " ".join(f'"{each}"' for each in strings)
    return f"{record.name}. IN {record.type} {quoted}"


async def check(domain: "SenderDomain", config: "Config", resolver: "Resolver", *, now: float) -> list[Finding]:
    """Everything of a domain, and of the addresses mail is sent from. now: POSIX seconds.

    All is asked at once: a resolver that is dead takes one timeout, not one for each record.
    """
    import asyncio

    of_domain = (
        *(_dkim(key, resolver, now) for key in domain.keys),
        _spf(domain.name, resolver, config),
        _dmarc(domain.name, resolver),
        _return_path(domain.name, resolver),
    )
    findings, pointers = await asyncio.gather(asyncio.gather(*of_domain), _pointers(config, resolver))
    return [*findings, *pointers]


async def _dkim(key: "DkimKey", resolver: "Resolver", now: float) -> Finding:
    from relay.resolver import Failure, Found

    answer = await resolver.txt(key.record_name)
    if isinstance(answer, Failure):
        return Finding("DKIM", key.record_name, Outcome.UNKNOWN, answer.text, "Ask again later.")
    records = answer.records if isinstance(answer, Found) else ()
    ours = [text for text in records if _public_key(text) == _public_key(key.public_record)]
    if ours:
        return _verified(key, ours[0], now)
    if key.state.value == "retired":
        return Finding("DKIM", key.record_name, Outcome.WARNING, "not published", "Only mail still in flight needs it.")
    advice = f"Publish its record: relay domain show {key.domain}"
    found = "another key" if records else "not published"
    return Finding("DKIM", key.record_name, Outcome.WRONG, found, advice)


def _verified(key: "DkimKey", record: str, now: float) -> Finding:
    problem = dkim_sample.problem(key, record, now=now)
    if problem:
        found = f"our key, but mail does not verify with {record}: {problem}"
        advice = f"Publish the record as it is in: relay domain show {key.domain}"
        return Finding("DKIM", key.record_name, Outcome.WRONG, found, advice)
    return Finding("DKIM", key.record_name, Outcome.OK, "published", selector=key.selector)


def _public_key(record: str) -> str:
    """The p= tag; white space in it means nothing (RFC 6376 3.2)."""
    return _tags(record).get("p", "")


def _tags(record: str) -> Mapping[str, str]:
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip(): re.sub(r"\s", "", value) for name, _, value in pairs}


async def _spf(name: str, resolver: "Resolver", config: "Config") -> Finding:
    answer = await resolver.txt(name)
    records, unknown = _text_records(answer, lambda text: re.match(r"v=spf1(\s|$)", text, re.IGNORECASE) is not None)
    if unknown:
        return Finding("SPF", name, Outcome.UNKNOWN, unknown, "Ask again later.")
    if not records:
        return Finding("SPF", name, Outcome.WARNING, "not published", f'Publish "{spf(config)}".')
    if len(records) > 1:  # RFC 7208 4.5: permerror
        return Finding("SPF", name, Outcome.WRONG, f"{len(records)} records", "Merge them into one: two count as none.")
    terms = records[0].lower().split()
    missing = [term for term in spf(config).split()[1:-1] if term.lower() not in terms]
    if missing and not any(
        term.lstrip("+").startswith(("include:", "redirect=", "a", "mx", "exists:")) for term in terms[1:]
    ):
        return Finding(
            "SPF", name, Outcome.WRONG, records[0], f"Add {' '.join(missing)}: it does not let this machine send."
        )
    if missing:
        return Finding("SPF", name, Outcome.WARNING, records[0], f"See that it covers {' '.join(missing)}.")
    return Finding("SPF", name, Outcome.OK, records[0])


async def _dmarc(domain: str, resolver: "Resolver") -> Finding:
    """The nearest record from the domain upwards (the tree walk of DMARCbis 4.10)."""
    for parent in _upwards(domain):
        name = f"_dmarc.{parent}"
        records, unknown = _text_records(await resolver.txt(name), lambda text: text.lower().startswith("v=dmarc1"))
        if unknown:
            return Finding("DMARC", name, Outcome.UNKNOWN, unknown, "Ask again later.")
        if len(records) > 1:
            return Finding("DMARC", name, Outcome.WRONG, f"{len(records)} records", "Leave one: two count as none.")
        if records:
            return Finding("DMARC", name, Outcome.OK, records[0])
    advice = f'Publish "{dmarc(domain)}": large receivers ask for one.'
    return Finding("DMARC", f"_dmarc.{domain}", Outcome.WARNING, "not published", advice)


def _upwards(domain: str) -> Iterator[str]:
    """The domain and its parents, without the top-level domain."""
    labels = domain.split(".")
    for start in range(max(len(labels) - 1, 1)):
        yield ".".join(labels[start:])


async def _return_path(domain: str, resolver: "Resolver") -> Finding:
    """Where reports about mail from this domain would go."""
    from relay.resolver import Failure, Found, NullMx

    answer = await resolver.mx(domain)
    match answer:
        case Found():
            return Finding("MX", domain, Outcome.OK, ", ".join(host.name for host in answer.records))
        case NullMx():
            return Finding(
                "MX", domain, Outcome.WARNING, "takes no mail", "Reports to senders in this domain are lost."
            )
        case Failure():
            return Finding("MX", domain, Outcome.UNKNOWN, answer.text, "Ask again later.")
    advice = "Some receivers refuse mail from a domain that takes none; publish an MX record."
    return Finding("MX", domain, Outcome.WARNING, "none", advice)


async def _pointers(config: "Config", resolver: "Resolver") -> list[Finding]:
    """Of each [[source]]; without one, of the addresses that this machine's name has."""
    import asyncio

    from relay.resolver import Failure, Found

    if config.source:
        looks = [_ptr(source.address, source.hostname, resolver) for source in config.source]
        return await asyncio.gather(*looks)
    hostname = config.server.hostname
    answer = await resolver.addresses(hostname)
    if isinstance(answer, Failure):
        return [Finding("PTR", hostname, Outcome.UNKNOWN, answer.text, "Ask again later.")]
    if not isinstance(answer, Found):
        advice = "Publish an A or AAAA record for it; receivers look up who sends to them."
        return [Finding("PTR", hostname, Outcome.WARNING, "it has no address", advice)]
    return await asyncio.gather(*(_ptr(address, hostname, resolver) for address in answer.records))


async def _ptr(address: "IPv4Address | IPv6Address", hostname: str, resolver: "Resolver") -> Finding:
    from relay.resolver import Failure, Found

    answer = await resolver.ptr(address)
    if isinstance(answer, Failure):
        return Finding("PTR", str(address), Outcome.UNKNOWN, answer.text, "Ask again later.")
    names = [name.lower().rstrip(".") for name in answer.records] if isinstance(answer, Found) else []
    if hostname.lower() in names:
        return Finding("PTR", str(address), Outcome.OK, hostname)
    advice = f"Ask the provider of the address to make its PTR {hostname}; large receivers refuse mail otherwise."
    return Finding("PTR", str(address), Outcome.WRONG, ", ".join(names) or "none", advice)


def _text_records(answer: "TextAnswer", is_wanted: Callable[[str], bool]) -> tuple[list[str], str]:
    """(the records of that kind, why DNS could not say)."""
    from relay.resolver import Failure, Found

    if isinstance(answer, Failure):
        return [], answer.text
    return [text for text in answer.records if is_wanted(text)] if isinstance(answer, Found) else [], ""
