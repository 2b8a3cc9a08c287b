"""relay top: what is shown of two looks, and the command where no server runs. With one: tests/system/test_top.py."""

import os
from dataclasses import replace

import pytest

from relay.cli.site_facts import SiteFacts, Waiting
from relay.cli.top_looks import Look, Row, Sort, frame
from tests.cli.conftest import Relay
from tests.cli.test_queue import fill

NOW = 1_800_000_000.0


def site(name: str, *, queued: int = 0, oldest: float = 0.0, connections: int = 0, **fields: object) -> SiteFacts:
    plain = SiteFacts(
        name=name,
        source="",
        mx=[],
        profile="",
        counted_as="",
        limits={},
        waiting=Waiting(queued, oldest),
        connections=connections,
        sending=connections,
        in_turn=0,
        resting="",
        next_probe_at=0.0,
        out_of_quota=False,
        next_turn_at=0.0,
        last_error="",
        suspended=None,
        allowed={},
        changes=[],
        breakers=[],
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def at(
    seconds: float,
    *sites: SiteFacts,
    counts: dict[tuple[int, str], tuple[int, int, int]] | None = None,
    **fields: object,
) -> Look:
    told = {
        key: dict(zip(("delivered", "deferred", "failed"), each, strict=True)) for key, each in (counts or {}).items()
    }
    plain = Look(NOW + seconds, owners=2, shards=2, sites=list(sites), unknown=Waiting(), counts=told)
    return replace(plain, **fields)  # type: ignore[arg-type]


def only(before: Look, after: Look) -> Row:
    (row,) = frame(before, after, sort=Sort.QUEUED).rows
    return row


class TestRates:
    def test_are_what_came_between_two_looks_from_all_shards(self) -> None:
        before = at(0, counts={(0, "a"): (100, 10, 1), (1, "a"): (50, 0, 0)})
        after = at(2, site("a", queued=3), counts={(0, "a"): (120, 14, 1), (1, "a"): (70, 6, 2)})
        row = only(before, after)
        assert (row.delivered, row.deferred, row.failed) == (20.0, 5.0, 1.0)
        assert row.deferred_share == 5 / 26

    def test_a_worker_that_was_restarted_counts_from_nothing(self) -> None:
        before, after = at(0, counts={(0, "a"): (100, 10, 1)}), at(1, site("a"), counts={(0, "a"): (4, 0, 0)})
        assert (only(before, after).delivered, only(before, after).deferred) == (4.0, 0.0)

    def test_a_site_that_is_not_known_any_more_is_shown_while_it_has_a_rate(self) -> None:
        before, after = at(0, counts={(0, "a"): (1, 0, 0)}), at(1, counts={(0, "a"): (2, 0, 0)})
        assert (only(before, after).site, only(before, after).state) == ("a", "idle")
        assert frame(after, replace(after, at=after.at + 1), sort=Sort.QUEUED).rows == []

    def test_two_looks_that_are_one_have_no_rate(self) -> None:
        look = at(0, site("a", queued=1, oldest=NOW - 5), counts={(0, "a"): (1, 1, 1)})
        row = only(look, look)
        assert (row.delivered, row.deferred_share, row.oldest, row.state) == (0.0, 0.0, 5.0, "waiting")


def test_a_site_that_several_of_our_addresses_send_to_is_one_row() -> None:
    waits = site("a", queued=3, oldest=NOW - 5, source="192.0.2.1")
    sends = site("a", queued=3, oldest=NOW - 5, connections=2, source="192.0.2.2", last_error="451 later")
    row = only(at(0), at(1, waits, sends))
    assert (row.queued, row.connections, row.state, row.last_error) == (3, 2, "sending", "451 later")


def test_what_waits_for_domains_of_no_known_site_is_one_row() -> None:
    look = at(0, unknown=Waiting(7, NOW - 60, ("x.example",), 1))
    row = only(look, look)
    assert (row.site, row.queued, row.oldest, row.as_value()["site"]) == ("", 7, 60.0, None)


ORDERS = [
    pytest.param(Sort.QUEUED, "bac", id="most recipients first"),
    pytest.param(Sort.RATE, "cab", id="fastest first"),
    pytest.param(Sort.DEFERRED, "acb", id="largest share of deferrals first"),
    pytest.param(Sort.OLDEST, "abc", id="oldest first"),
    pytest.param(Sort.CONNECTIONS, "cba", id="most connections first"),
    pytest.param(Sort.NAME, "abc", id="by name"),
]


@pytest.mark.parametrize(("sort", "names"), ORDERS)
def test_sites_are_put_in_the_order_that_is_asked_for(sort: Sort, names: str) -> None:
    after = at(
        1,
        site("a", queued=2, oldest=NOW - 9, connections=1),
        site("b", queued=3, oldest=NOW - 8, connections=2),
        site("c", queued=1, oldest=NOW - 7, connections=3),
        counts={(0, "a"): (5, 5, 0), (0, "c"): (9, 1, 0)},
    )
    assert "".join(row.site for row in frame(at(0), after, sort=sort).rows) == names


class TestWithoutAServer:
    def test_the_queue_alone_is_shown_by_domain_and_it_is_said_so(self, relay: Relay) -> None:
        fill(relay)
        answer = relay("top", "--once")
        assert answer.code == os.EX_OK
        assert answer.out.startswith("no server runs: 3 recipients queued, by domain\n")
        assert [line.split()[:2] for line in answer.out.splitlines()[3:]] == [
            ["one.example", "2"],
            ["two.example", "1"],
        ]
        assert "\x1b" not in answer.out

    def test_as_json(self, relay: Relay) -> None:
        fill(relay)
        value = relay.json("top", "--once", "--limit", "1")
        assert (value["server"], value["queued"], value["connections"]) == ("stopped", 3, 0)
        (row,) = value["sites"]
        assert (row["site"], row["state"], row["queued"], row["deferred_share"]) == ("one.example", "waiting", 2, 0.0)
        assert 7000 < row["oldest_seconds"] < 8000

    def test_nothing_at_all(self, relay: Relay) -> None:
        assert relay("top", "--once").out.endswith("Nothing waits, and nothing is sent.\n")


def test_without_a_terminal_it_says_what_to_do(relay: Relay) -> None:
    answer = relay("top")
    assert (answer.code, answer.out) == (os.EX_USAGE, "")
    assert "relay top needs a terminal" in answer.err
    assert "relay top --once" in answer.err
