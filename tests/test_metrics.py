"""metrics: what is counted is shown, for all workers together, and no counter ever goes back."""

import json
import shutil
import subprocess
import timeit
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from relay.mail.event import Kind
from relay.metrics import SOURCED, Metrics, merge, render, retired
from relay.metrics.counting import SITE_COUNTS_FROM, SITES
from relay.metrics.declared import (
    AUTH_FAILURES,
    BY_NAME,
    DECLARED,
    LISTENERS,
    REJECTION_CODES,
    REPORTS,
    SESSION_REFUSALS,
    STAGES,
    Type,
)
from relay.submission.admission import Reason
from relay.submission.auth import Failure

STREAMS = ("transactional", "bulk")
UNPACKED = Path(__file__).parents[1] / ".peers/prometheus/usr/bin/promtool"
PROMTOOL = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else "")


def metrics(**sources: Any) -> Metrics:
    return Metrics(streams=STREAMS, sources=sources)


def samples(*all_metrics: Metrics) -> dict[str, float]:
    """'relay_x{a="b"}' → value, of the text that /metrics shows."""
    return samples_of(merge(one.snapshot() for one in all_metrics))


def samples_of(snapshot: dict[str, Any]) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(render(snapshot).decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def deliver(one: Metrics, site: str, times: int = 1) -> None:
    for _ in range(times):
        one.outcome(Kind.DELIVERED, site=site, verdict="", seconds=0.7)


def full() -> Metrics:
    """Something of everything."""
    one = metrics(**{name: source_for(name) for name in SOURCED})
    one.accepted("bulk", recipients=3, octets=4000, commit_seconds=0.004)
    for kind in (
        Kind.DELIVERED,
        Kind.DEFERRED,
        Kind.BOUNCED,
        Kind.EXPIRED,
        Kind.SUPPRESSED,
        Kind.UNKNOWN,
        Kind.CANCELLED,
    ):
        one.outcome(kind, site="mx.example.com", verdict="recipient", seconds=1.0)
    one.session_opened("tls")
    one.session_refused("full")
    one.auth_failed("locked")
    one.connect_failed("greeting")
    one.message_refused(550)
    one.report_made("failed")
    return one


def source_for(name: str) -> Any:
    labels = len(BY_NAME[name].labels)
    return (lambda: 7.0) if labels == 0 else (lambda: {("word",) * labels: 7.0})


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (tests/install-peers)")
def test_promtool_has_nothing_to_say() -> None:
    check = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=render(full().snapshot()), capture_output=True, check=False
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, b"")


def test_every_declared_metric_is_shown() -> None:
    one = full()
    one._sources["relay_disk_free_bytes"] = lambda: 1 // 0
    one.snapshot()
    text = render(one.snapshot()).decode()
    missing = [each.name for each in DECLARED if f"# TYPE {each.name}" not in text]
    assert missing == ["relay_disk_free_bytes"]


def test_names_begin_with_relay_and_are_unique() -> None:
    assert len(BY_NAME) == len(DECLARED)
    assert all(name.startswith("relay_") for name in BY_NAME)
    assert all(each.help.endswith(".") for each in DECLARED)


def test_an_accepted_message_is_counted_with_its_recipients_octets_and_commit() -> None:
    one = metrics()
    one.accepted("bulk", recipients=3, octets=4000, commit_seconds=0.004)
    found = samples(one)
    assert found["relay_messages_accepted_total{stream=bulk}"] == 1
    assert found["relay_recipients_accepted_total{stream=bulk}"] == 3
    assert found["relay_accepted_bytes_total{stream=bulk}"] == 4000
    assert found["relay_accept_commit_seconds_count"] == 1
    assert found["relay_accept_commit_seconds_bucket{le=0.0025}"] == 0
    assert found["relay_accept_commit_seconds_bucket{le=0.005}"] == 1
    assert found["relay_accept_commit_seconds_sum"] == pytest.approx(0.004)


def test_what_is_settled_is_counted_by_how_long_it_took_to_the_disk() -> None:
    one = metrics()
    one.settled(commit_seconds=0.02)
    one.settled(commit_seconds=0.3)
    found = samples(one)
    assert found["relay_settle_commit_seconds_count"] == 2
    assert found["relay_settle_commit_seconds_bucket{le=0.05}"] == 1
    assert found["relay_settle_commit_seconds_sum"] == pytest.approx(0.32)


@pytest.mark.parametrize(
    ("seconds", "bucket", "count"),
    [
        pytest.param(0.1, "0.1", 1, id="a value on a bound belongs below it"),
        pytest.param(0.1001, "0.1", 0, id="a value above a bound does not"),
        pytest.param(1e9, "432000.0", 0, id="beyond the last bound"),
        pytest.param(1e9, "+Inf", 1, id="and in the infinite bucket"),
    ],
)
def test_the_time_to_delivery_is_in_its_bucket(seconds: float, bucket: str, count: int) -> None:
    one = metrics()
    one.outcome(Kind.DELIVERED, site="a.example", verdict="", seconds=seconds)
    assert samples(one)[f"relay_delivery_seconds_bucket{{le={bucket}}}"] == count


def test_only_a_delivery_has_a_time_to_delivery() -> None:
    one = metrics()
    one.outcome(Kind.BOUNCED, site="a.example", verdict="recipient", seconds=3.0)
    assert samples(one)["relay_delivery_seconds_count"] == 0


@pytest.mark.parametrize(
    ("count", "sample"),
    [
        pytest.param(lambda m: m.auth_failed("surprise"), "relay_auth_failures_total{reason=other}", id="a reason"),
        pytest.param(lambda m: m.message_refused(599), "relay_rejections_total{code=other}", id="a code"),
        pytest.param(lambda m: m.session_opened("x"), "relay_sessions_opened_total{listener=other}", id="a listener"),
        pytest.param(
            lambda m: m.accepted("removed", recipients=1, octets=1, commit_seconds=0.1),
            "relay_messages_accepted_total{stream=other}",
            id="a stream that relay.toml no longer has",
        ),
        pytest.param(
            lambda m: m.outcome(Kind.BOUNCED, site="", verdict="surprise", seconds=0.0),
            "relay_recipients_bounced_total{site=other,verdict=none}",
            id="a verdict",
        ),
    ],
)
def test_a_word_outside_its_closed_set_is_other(count: Any, sample: str) -> None:
    one = metrics()
    count(one)
    assert samples(one)[sample] == 1


def test_the_closed_sets_have_the_words_their_users_say() -> None:
    assert {failure.value for failure in Failure} == set(AUTH_FAILURES)
    assert {reason.value for reason in Reason} == set(SESSION_REFUSALS)


def test_a_site_gets_a_label_once_it_matters_and_keeps_its_count() -> None:
    one = metrics()
    deliver(one, "busy.example", SITE_COUNTS_FROM + 5)
    deliver(one, "quiet.example", SITE_COUNTS_FROM - 1)
    found = samples(one)
    assert found["relay_recipients_delivered_total{site=busy.example}"] == 6
    assert found["relay_recipients_delivered_total{site=other}"] == 2 * (SITE_COUNTS_FROM - 1)


def test_sites_with_labels_are_bounded_and_so_is_memory() -> None:
    one = metrics()
    for number in range(SITES + 30):
        deliver(one, f"mx{number}.example", SITE_COUNTS_FROM + 1)
    for number in range(20_000):
        deliver(one, f"spray{number}.example")
    labelled = [name for name in samples(one) if name.startswith("relay_recipients_delivered_total")]
    assert len(labelled) == SITES + 1
    assert len(one._sites._watched) <= 10_000


@given(st.lists(st.sampled_from([f"mx{number}.example" for number in range(80)]), max_size=400))
def test_no_counter_goes_back_whatever_the_order_of_sites(sites: list[str]) -> None:
    one = metrics()
    before: dict[Any, float] = {}
    for site in sites:
        deliver(one, site, 7)
        rows = {tuple(labels): value for labels, value in one.snapshot()["values"]["relay_recipients_delivered"]}
        assert all(rows[labels] >= value for labels, value in before.items())
        before = rows


def test_a_snapshot_survives_json() -> None:
    snapshot = full().snapshot()
    assert render(json.loads(json.dumps(snapshot))) == render(snapshot)
    assert samples_of(merge([json.loads(json.dumps(snapshot)), snapshot])) == samples_of(merge([snapshot, snapshot]))


def test_workers_counters_are_added_and_gauges_joined_as_they_should_be() -> None:
    ages, free = {"held": 50.0}, 10.0
    workers = [
        metrics(
            relay_queue_recipients=lambda: {"held": 5},
            relay_queue_oldest_age_seconds=lambda: ages,
            relay_disk_free_bytes=lambda: free,
            relay_spool_commits=lambda: 4,
        ),
        metrics(
            relay_queue_recipients=lambda: {"held": 7, "queued": 1},
            relay_queue_oldest_age_seconds=lambda: {"held": 20.0},
            relay_disk_free_bytes=lambda: 9.0,
            relay_spool_commits=lambda: 6,
        ),
    ]
    for worker in workers:
        worker.session_opened("tls")
    found = samples(*workers)
    assert found["relay_queue_recipients{status=held}"] == 12
    assert found["relay_queue_recipients{status=queued}"] == 1
    assert found["relay_queue_oldest_age_seconds{status=held}"] == 50
    assert found["relay_disk_free_bytes"] == 9
    assert found["relay_spool_commits_total"] == 10
    assert found["relay_sessions{listener=tls}"] == 2


def test_gauges_are_read_at_each_snapshot() -> None:
    depth = {"queued": 1}
    one = metrics(relay_queue_recipients=lambda: depth)
    assert samples(one)["relay_queue_recipients{status=queued}"] == 1
    depth["queued"] = 9
    assert samples(one)["relay_queue_recipients{status=queued}"] == 9


def test_a_dead_worker_leaves_what_it_counted_but_not_what_it_had() -> None:
    dead, living = full(), metrics()
    dead.connection_opened()
    left = retired(dead.snapshot())
    found = samples_of(merge([left, living.snapshot()]))
    assert found["relay_messages_accepted_total{stream=bulk}"] == 1
    assert found["relay_delivery_seconds_count"] == 1
    assert found["relay_connections_out_opened_total"] == 1
    assert found["relay_spool_commits_total"] == 7
    assert found["relay_connections_out"] == 0
    assert found["relay_sessions{listener=tls}"] == 0
    assert "relay_queue_recipients{status=word}" not in found
    assert all(BY_NAME[name].type is Type.COUNTER for name in left["values"])


def test_a_session_that_ends_is_no_longer_there() -> None:
    one = metrics()
    one.session_opened("starttls")
    one.session_opened("starttls")
    one.session_closed("starttls")
    found = samples(one)
    assert found["relay_sessions{listener=starttls}"] == 1
    assert found["relay_sessions_opened_total{listener=starttls}"] == 2


def test_a_source_that_fails_costs_only_its_own_metric() -> None:
    one = metrics(relay_disk_free_bytes=lambda: 1 // 0, relay_workers=lambda: 1)
    one.snapshot()
    found = samples(one)
    assert "relay_disk_free_bytes" not in found
    assert found["relay_workers"] == 1
    assert found["relay_metric_source_failures_total{metric=relay_disk_free_bytes}"] == 2


def test_a_source_for_no_metric_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="relay_made_up"):
        metrics(relay_made_up=lambda: 1)
    with pytest.raises(ValueError, match="relay_sessions"):
        metrics(relay_sessions=lambda: 1)  # counted here


def test_the_other_plain_counts() -> None:
    one = metrics()
    one.long_lines(3)
    one.tls_failed()
    one.auth_succeeded()
    one.worker_restarted()
    one.connection_opened()
    one.connection_opened()
    one.connection_closed()
    found = samples(one)
    assert found["relay_long_lines_total"] == 3
    assert found["relay_tls_handshake_failures_total"] == 1
    assert found["relay_auth_successes_total"] == 1
    assert found["relay_worker_restarts_total"] == 1
    assert found["relay_connections_out"] == 1


def test_closed_sets_are_small() -> None:
    assert max(map(len, (LISTENERS, SESSION_REFUSALS, AUTH_FAILURES, REJECTION_CODES, STAGES, REPORTS))) <= 16


def test_a_label_with_quotes_and_line_ends_is_escaped() -> None:
    one = metrics(relay_certificate_expiry_timestamp_seconds=lambda: {'/etc/"a"\n\\b.pem': 1.0})
    text = render(one.snapshot()).decode()
    assert '{certificate="/etc/\\"a\\"\\n\\\\b.pem"} 1.0' in text


def test_counting_is_cheap() -> None:
    one = metrics()
    seconds = min(timeit.repeat(lambda: one.auth_failed("locked"), number=20_000, repeat=3)) / 20_000
    assert seconds < 2e-6  # measured 0.1 µs; slack for a busy machine
