"""metrics.declared: every metric Relay has: its name, kind, labels, and how several workers' values become one.

Labels are closed sets of words, listed here; what is in none of them is counted as "other". Sites are bounded otherwise
(`metrics.counting`). docs/operations.md says which of these to alert on.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from relay.mail.event import Kind
from relay.mail.meaning import Blame, Stage

OTHER = "other"

LISTENERS = ("starttls", "tls", "trusted")
SESSION_REFUSALS = ("address", "full", "network", "draining")
AUTH_FAILURES = ("unknown_login", "wrong_secret", "revoked", "expired", "network", "locked", "trouble")
REJECTION_CODES = (
    *("421", "450", "451", "452", "454", "501", "503", "504"),
    *("550", "551", "552", "553", "554", "555", "556"),
)
STAGES = tuple(stage.value for stage in Stage)
REPORTS = ("failed", "delayed", "delivered", "relayed", "expanded")
VERDICTS = tuple(blame.value for blame in Blame)
NO_VERDICT = "none"
OUTCOMES = {
    Kind.DELIVERED: "relay_recipients_delivered",
    Kind.DEFERRED: "relay_recipients_deferred",
    Kind.BOUNCED: "relay_recipients_bounced",
    Kind.EXPIRED: "relay_recipients_expired",
    Kind.SUPPRESSED: "relay_recipients_suppressed",
    Kind.UNKNOWN: "relay_recipients_unknown",
    Kind.CANCELLED: "relay_recipients_cancelled",
}

COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
DELIVERY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 432000.0)


Labels = tuple[str, ...]


class Type(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric. name: a counter's without "_total". together: how the values of several workers become one."""

    name: str
    type: Type
    help: str
    labels: Labels = ()
    together: Callable[[Iterable[float]], float] = sum


def _counter(name: str, text: str, *labels: str) -> Declared:
    return Declared(name, Type.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str, together: Callable[[Iterable[float]], float] = sum) -> Declared:
    return Declared(name, Type.GAUGE, text, labels, together)


DECLARED = (
    # What came in.
    _counter("relay_messages_accepted", "Messages answered 250, durably spooled.", "stream"),
    _counter("relay_recipients_accepted", "Recipients of the messages accepted.", "stream"),
    _counter("relay_accepted_bytes", "Octets of the messages accepted.", "stream"),
    _counter("relay_rejections", "Replies that refused a sender, a recipient or content after AUTH, by code.", "code"),
    _counter("relay_long_lines", "Lines over 998 octets in accepted content (RFC 5322 2.1.1)."),
    Declared("relay_accept_commit_seconds", Type.HISTOGRAM, "From a message's last octet until it is on disk."),
    # What became of it.
    _counter("relay_recipients_delivered", "Recipients taken over by the receiving server.", "site"),
    _counter(
        "relay_recipients_deferred",
        "Attempts that will be repeated, by whom was blamed.",
        "site",
        "verdict",
    ),
    _counter("relay_recipients_bounced", "Recipients that failed for good, by whom was blamed.", "site", "verdict"),
    _counter("relay_recipients_expired", "Recipients that ended undelivered at their expiry.", "site", "verdict"),
    _counter(
        "relay_recipients_suppressed", "Recipients accepted and not sent to, being suppressed.", "site", "verdict"
    ),
    _counter("relay_recipients_unknown", "Recipients whose outcome a lost connection left unknown.", "site"),
    _counter("relay_recipients_cancelled", "Recipients ended by an operator.", "site"),
    Declared("relay_delivery_seconds", Type.HISTOGRAM, "From acceptance of a message to delivery of a recipient."),
    Declared("relay_settle_commit_seconds", Type.HISTOGRAM, "From an attempt's outcome until it is on disk."),
    _counter("relay_reports", "Delivery status notifications made (RFC 3464).", "action"),
    _counter("relay_smarthost_passed_over", "Transactions that a smarthost could not take and the next one was given."),
    _counter(
        "relay_source_passed_over", "Transactions that could not go from one of our addresses and went from another."
    ),
    _gauge(
        "relay_smarthost_takes_mail",
        "1, or 0 while it gives no session, refuses our login or account, or has had its quota; none while suspended.",
        "smarthost",
        together=min,
    ),
    _gauge(
        "relay_source_can_send",
        "1, or 0 while one of our addresses cannot be bound; none while it is to rest, whatever sites refuse.",
        "source",
        together=min,
    ),
    _gauge("relay_source_listed", "1 while a blocklist has one of our addresses.", "source", "blocklist", together=max),
    _gauge("relay_blocklist_answers", "1, or 0 while a blocklist says nothing.", "blocklist", together=min),
    _gauge(
        "relay_source_warm_up_day", "The day of an address's warm-up; none once it is warm.", "source", together=max
    ),
    _gauge(
        "relay_source_warm_up_used_ratio",
        "Share of what its warm-up gives an address in a day that was used, with the provider that got most of it.",
        "source",
        together=max,
    ),
    _gauge("relay_warm_up_waiting_domains", "Domains whose mail waits for room in the warm-up of our address."),
    # The queue, as it is.
    _gauge("relay_queue_recipients", "Recipients owed a delivery or a report.", "status"),
    _gauge("relay_queue_oldest_age_seconds", "Age of the oldest message in this status.", "status", together=max),
    # Sessions and logins.
    _counter("relay_sessions_opened", "Submission sessions begun.", "listener"),
    _gauge("relay_sessions", "Submission sessions now.", "listener"),
    _gauge("relay_sessions_unauthenticated", "Submission sessions now that have not logged in."),
    _counter("relay_sessions_refused", "Connections turned away at the door.", "reason"),
    _counter("relay_tls_handshake_failures", "TLS handshakes of submission clients that failed."),
    _counter("relay_auth_successes", "Logins."),
    _counter("relay_auth_failures", "Logins refused.", "reason"),
    # The way out.
    _gauge("relay_connections_out", "Connections to receiving servers now."),
    _counter("relay_connections_out_opened", "Sessions with receiving servers that came about."),
    _counter("relay_connections_out_failed", "Sessions with receiving servers that failed, by stage.", "stage"),
    _gauge("relay_sites_suspended", "Sites that an operator or a rule has suspended.", together=max),
    _gauge("relay_breakers_open", "Breakers that hold mail back: a site refuses our address or a sender domain."),
    _counter("relay_dns_questions", "Questions put to nameservers."),
    _counter("relay_dns_cache_hits", "Answers from memory."),
    _counter("relay_dns_failures", "Questions no nameserver answered."),
    # The machine.
    _counter("relay_spool_commits", "Commits of the shards."),
    _counter("relay_spool_operations", "Operations committed; by commits, the size of a group."),
    _counter("relay_spool_commit_seconds", "Time spent in commits."),
    _counter("relay_spool_refusals", "Operations that failed for lack of room or a broken disk."),
    _counter("relay_spool_cures", "Commits that the disk failed, after which the shard's log was written anew."),
    _gauge("relay_spool_wal_bytes", "Size of the shards' write-ahead logs."),
    _gauge("relay_disk_free_bytes", "Octets free on the spool's file system.", together=min),
    _gauge("relay_disk_free_ratio", "Share of the spool's file system that is free.", together=min),
    _gauge("relay_disk_free_inodes_ratio", "Share of its inodes that is free; absent if not counted.", together=min),
    _gauge("relay_certificate_expiry_timestamp_seconds", "When a certificate expires.", "certificate", together=min),
    _counter("relay_worker_restarts", "Workers started again after one had died."),
    _gauge("relay_workers", "Workers that answer."),
    _counter("relay_metric_source_failures", "Metrics that could not be read at a scrape, by name.", "metric"),
    _gauge("relay_build_info", "Always 1; the labels say what runs.", "version", "python", together=max),
)
BY_NAME = {declared.name: declared for declared in DECLARED}
BOUNDS = {
    "relay_accept_commit_seconds": COMMIT_SECONDS,
    "relay_settle_commit_seconds": COMMIT_SECONDS,
    "relay_delivery_seconds": DELIVERY_SECONDS,
}

# Counted here without a label.
PLAIN = (
    "relay_long_lines",
    "relay_tls_handshake_failures",
    "relay_auth_successes",
    "relay_connections_out",
    "relay_connections_out_opened",
    "relay_smarthost_passed_over",
    "relay_source_passed_over",
    "relay_worker_restarts",
)
# Read from whoever knows.
SOURCED = frozenset(
    {
        "relay_queue_recipients",
        "relay_queue_oldest_age_seconds",
        "relay_sessions_unauthenticated",
        "relay_smarthost_takes_mail",
        "relay_source_can_send",
        "relay_source_listed",
        "relay_source_warm_up_day",
        "relay_source_warm_up_used_ratio",
        "relay_warm_up_waiting_domains",
        "relay_blocklist_answers",
        "relay_sites_suspended",
        "relay_breakers_open",
        "relay_dns_questions",
        "relay_dns_cache_hits",
        "relay_dns_failures",
        "relay_spool_commits",
        "relay_spool_operations",
        "relay_spool_commit_seconds",
        "relay_spool_refusals",
        "relay_spool_cures",
        "relay_spool_wal_bytes",
        "relay_disk_free_bytes",
        "relay_disk_free_ratio",
        "relay_disk_free_inodes_ratio",
        "relay_certificate_expiry_timestamp_seconds",
        "relay_workers",
    }
)
