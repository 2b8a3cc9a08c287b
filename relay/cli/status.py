"""cli.status: `relay status`: the one command at 3 a.m.

Whether the server runs, the queue by status with its oldest, the sites where most is waiting and why, sites in trouble,
disk, certificates, and what failed last. What waits is read from the disk, so it is there when no server is; only a
server knows the site of a domain, and without one each domain stands for itself.
"""

from typing import TYPE_CHECKING, Any

import typer

from relay.cli import invocation, options, printing, shards
from relay.cli.log import as_value as event_value
from relay.cli.site_facts import suspended_value

if TYPE_CHECKING:
    from relay.config.models import Certificate
    from relay.mail.event import Event

_MOST = 10
_DOMAINS = 10_000  # of a shard, those with most recipients: they are told by site
_FAILURES = 5


def status(context: typer.Context, as_json: options.Json = False) -> None:
    """Queue, oldest, where most is waiting and why, disk, certificates, last failures."""
    here = invocation.of(context)
    owners = invocation.run(shards.ask_owners(here, "status"))
    domains = _domains(here, owners)
    sites = _sites(domains)
    trouble, suspended = _trouble(owners, sites), _suspended(owners, sites)
    value = {
        "server": _server_word(owners),
        "queue": _queue(here),
        "domains": domains[:_MOST],
        "sites": _with_reasons(sites, trouble, suspended)[:_MOST],
        "trouble": trouble[:_MOST],
        "suspended": suspended,
        "our_addresses": _our_addresses(owners),
        "disk": _disk(here) | {"cures": sum(answer.get("cures", 0) for answer in owners.values() if answer)},
        "certificates": [_certificate(pair) for pair in _pairs(here)],
        "failures": [event_value(event) for event in _last_failures(here)],
    }
    if as_json:
        printing.as_json(value)
    else:
        _show(value)


def _server_word(owners: dict[int, Any]) -> str:
    if not owners or all(answer is None for answer in owners.values()):
        return "stopped"
    return "running" if all(owners.values()) else "partly running"


def _queue(here: invocation.Invocation) -> dict[str, dict[str, Any]]:
    totals = [reader.totals() for reader in shards.readers(here)]
    return {
        word: {
            "recipients": sum(getattr(each, word).count for each in totals),
            "oldest_at": printing.iso(
                min((getattr(each, word).oldest for each in totals if getattr(each, word).oldest), default=0.0)
            ),
        }
        for word in ("queued", "deferred", "held", "damaged")
    }


def _domains(here: invocation.Invocation, owners: dict[int, Any]) -> list[dict[str, Any]]:
    """Where most recipients wait, over all shards."""
    waiting: dict[str, dict[str, Any]] = {}
    for reader in shards.readers(here):
        site_of = (owners.get(reader.shard) or {}).get("site_of", {})
        for total in reader.domains(_DOMAINS):
            entry = waiting.setdefault(
                total.domain, {"domain": total.domain, "site": None, "recipients": 0, "last_reply": None}
            )
            entry["site"] = entry["site"] or site_of.get(total.domain)
            entry["recipients"] += total.count
            entry["last_reply"] = entry["last_reply"] or total.last_reply or None
    return sorted(waiting.values(), key=_most_recipients)


def _sites(domains: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    sites: dict[str, dict[str, Any]] = {}
    for domain in domains:
        name = domain["site"] or domain["domain"]
        site = sites.setdefault(name, {"site": name, "domains": 0, "recipients": 0, "why": None})
        site["domains"] += 1
        site["recipients"] += domain["recipients"]
        site["why"] = site["why"] or domain["last_reply"]
    return sites


def _most_recipients(entry: dict[str, Any]) -> int:
    return -int(entry["recipients"])


def _trouble(owners: dict[int, Any], waiting: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The sites none of whose hosts takes mail now, as the workers see them. That a provider has had what it gets from
    an address in its warm-up is as it should be, unless mail waits for it.
    """
    sites: dict[tuple[str, str], dict[str, Any]] = {}
    for answer in owners.values():
        for site in answer["sites"] if answer else ():
            recipients = waiting.get(site["name"], {}).get("recipients", 0)
            if site["in_trouble"] and (recipients or not site.get("waits_for_warm_up")):
                source = site.get("source", "")
                sites[site["name"], source] = {
                    "site": site["name"],
                    "source": source or None,
                    "waiting": recipients,
                    "next_probe_at": printing.iso(site["next_probe_at"]),
                    "last_error": site["last_error"] or None,
                }
    return sorted(sites.values(), key=lambda site: -int(site["waiting"]))


def _our_addresses(owners: dict[int, Any]) -> list[str]:
    """What keeps one from sending, or will, in words; each once, whichever worker says it."""
    told = (each for answer in owners.values() if answer for each in answer.get("our_addresses", ()))
    return list(dict.fromkeys(told))


def _suspended(owners: dict[int, Any], waiting: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The sites that an operator has suspended; told by the server, and all of them."""
    from relay.mail.site import place_parts

    told = {each["site"]: each for answer in owners.values() if answer for each in answer.get("suspended", ())}
    return [
        {
            "site": site,
            "source": source or None,
            "waiting": waiting.get(site, {}).get("recipients", 0),
            **suspended_value(each),
        }
        for (site, source), each in sorted((place_parts(where), each) for where, each in told.items())
    ]


def _with_reasons(
    sites: dict[str, dict[str, Any]], trouble: list[dict[str, Any]], suspended: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """An operator's order, else trouble, is why a site's mail waits, whatever was said to it before."""
    reasons = {each["site"]: each["last_error"] for each in trouble}
    reasons |= {each["site"]: f"suspended by {each['by']}" for each in suspended}
    told = ({**site, "why": reasons.get(site["site"]) or site["why"]} for site in sites.values())
    return sorted(told, key=_most_recipients)


def _disk(here: invocation.Invocation) -> dict[str, Any]:
    from relay.server.machine import disk_space

    space = disk_space(here.spool)
    return {
        "free": space.free,
        "total": space.total,
        "free_inodes": space.free_inodes if space.inodes else None,
        "low": space.is_low(here.config.submission.limits),
    }


def _pairs(here: invocation.Invocation) -> "list[Certificate]":
    from relay.config.models import Certificate

    tls = here.config.tls
    if not here.config.submission.starttls and not here.config.submission.tls:
        return []
    return [Certificate(certificate=tls.certificate, key=tls.key), *tls.additional]


def _certificate(pair: "Certificate") -> dict[str, Any]:
    from relay.config.files import CREDENTIALS_VARIABLE
    from relay.errors import RelayError
    from relay.submission.tls import load

    value: dict[str, Any] = {"path": str(pair.certificate), "expires_at": None, "error": None}
    if CREDENTIALS_VARIABLE in str(pair.certificate):
        return value | {"error": "handed over by systemd, which only the service sees"}
    try:
        return value | {"expires_at": printing.iso(load(pair).expires_at)}
    except RelayError as error:
        return value | {"error": error.text}


def _last_failures(here: invocation.Invocation) -> "list[Event]":
    """Newest first."""
    from relay.journal.query import Query
    from relay.journal.search import Search
    from relay.mail.event import Kind

    pending = shards.pending_events(here)
    search = Search(here.spool)

    async def work() -> "list[Event]":
        kinds = (Kind.BOUNCED, Kind.EXPIRED, Kind.UNKNOWN, Kind.DEFERRED, Kind.REJECTED)
        found = [await search.search(Query(status=kind, limit=_FAILURES), pending=pending) for kind in kinds]
        return sorted((event for each in found for event in each.events), key=lambda event: -event.at)

    return invocation.run(work())[:_FAILURES]


def _show(value: dict[str, Any]) -> None:
    printing.facts(
        [
            ("server", value["server"]),
            *((word, _queue_words(word, entry)) for word, entry in value["queue"].items() if _is_shown(word, entry)),
            ("disk", _disk_words(value["disk"])),
            *(("certificate", _certificate_words(each)) for each in value["certificates"]),
            *(("our addresses", each) for each in value["our_addresses"]),
        ]
    )
    if value["sites"]:
        printing.line()
        rows = (
            (each["recipients"], each["site"], each["domains"], each["why"] or "not tried yet")
            for each in value["sites"]
        )
        printing.table(("waiting", "site", "domains", "why"), rows, empty="")
    if value["trouble"]:
        printing.line()
        sites = (
            (each["waiting"], _place(each), each["next_probe_at"], each["last_error"]) for each in value["trouble"]
        )
        printing.table(("waiting", "site in trouble", "next probe", "why"), sites, empty="")
    if value["suspended"]:
        printing.line()
        suspended = (
            (each["waiting"], _place(each), each["since"], each["by"], each["until"] or "resumed", each["reason"] or "")
            for each in value["suspended"]
        )
        printing.table(("waiting", "suspended site", "since", "by", "until", "reason"), suspended, empty="")
    if value["failures"]:
        printing.line()
        columns = ("last failures", "status", "id", "recipient", "reply")
        failures = (
            (
                each["time"],
                each["status"],
                each["id"] or "",
                each["recipient"] or "",
                each["reply"] or each["detail"] or "",
            )
            for each in value["failures"]
        )
        printing.table(columns, failures, empty="")


def _place(value: dict[str, Any]) -> str:
    from relay.mail.site import place

    return place(value["site"], value["source"] or "")


def _queue_words(word: str, entry: dict[str, Any]) -> str:
    words = printing.count(entry["recipients"], "recipient")
    words += f", the oldest of {entry['oldest_at']}" if entry["oldest_at"] else ""
    return f"{words}: relay queue list --status damaged" if word == "damaged" else words


def _is_shown(word: str, entry: dict[str, Any]) -> bool:
    """What there should never be is told of only when there is."""
    return word != "damaged" or entry["recipients"] > 0


def _disk_words(disk: dict[str, Any]) -> str:
    share = disk["free"] / (disk["total"] or 1)
    low = "; too little: clients get 452" if disk["low"] else ""
    failed = f"; it failed {printing.count(disk['cures'], 'commit')} since the start" if disk["cures"] else ""
    return f"{printing.size(disk['free'])} free ({share:.0%}){low}{failed}"


def _certificate_words(certificate: dict[str, Any]) -> str:
    return f"{certificate['path']}: {certificate['error'] or 'expires ' + str(certificate['expires_at'])}"
