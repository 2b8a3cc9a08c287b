"""Which of our addresses rest: by an operator's order, before their warm-up, in a blocklist."""

from datetime import UTC, datetime

import pytest

from relay.config.sources import Source, WarmUp
from relay.delivery.blocklists import Listing
from relay.delivery.resting import rests
from relay.delivery.routing import Direct
from relay.delivery.sources import UNTIL_ORDERED, Rest
from relay.delivery.warming import WarmUps
from relay.registry.suspensions import Suspension, from_source

NOW = datetime(2026, 12, 3, 12, tzinfo=UTC).timestamp()
ONE, TWO, SIX = "192.0.2.10", "192.0.2.11", "2001:db8::10"
LISTED = "192.0.2.10 is listed by list.test (127.0.0.2)"


def source(address: str, **keys: object) -> Source:
    return Source.model_validate({"address": address, "hostname": "mx.relay.example", **keys})


def resting(
    *sources: Source,
    listed: tuple[str, ...] = (),
    ordered: dict[str, Suspension] | None = None,
    failing: tuple[str, ...] = (),
) -> dict[str, Rest]:
    return rests(
        sources,
        orders=ordered or {},
        listings=lambda address: [Listing("list.test", ("127.0.0.2",))] if address in listed else [],
        warm_ups=WarmUps(WarmUp(), sources),
        fails=failing.__contains__,
        now=NOW,
    )


def order(address: str, *, until: float = 0.0, reason: str = "") -> dict[str, Suspension]:
    return {address: Suspension(from_source(address), (), NOW, until, "alice", reason)}


def test_nothing_rests_without_a_reason() -> None:
    assert resting(source(ONE), source(TWO), source(SIX)) == {}


def test_an_order_holds_until_its_time_is_over_or_it_is_resumed() -> None:
    found = resting(source(ONE), source(TWO), ordered=order(ONE, until=NOW + 60, reason="new cable"))
    assert found == {ONE: Rest(NOW + 60, "192.0.2.10 was put to rest by alice: new cable")}
    found = resting(source(ONE), ordered=order(ONE))
    assert found == {ONE: Rest(UNTIL_ORDERED, "192.0.2.10 was put to rest by alice")}


def test_a_listed_address_goes_on_where_the_other_cannot_be_bound() -> None:
    assert resting(source(ONE), source(TWO), listed=(ONE,), failing=(TWO,)) == {}
    found = resting(source(ONE), source(TWO), listed=(ONE,))
    assert found == {ONE: Rest(UNTIL_ORDERED, LISTED, (Direct(TWO, "mx.relay.example"),))}


def test_an_address_sends_nothing_before_its_warm_up_begins() -> None:
    midnight = datetime(2026, 12, 4, tzinfo=UTC).timestamp()
    found = resting(source(ONE, warm_up="2026-12-04"), source(TWO, warm_up="2026-12-03"))
    assert found == {ONE: Rest(midnight, "the warm-up of 192.0.2.10 begins on 2026-12-04")}


@pytest.mark.parametrize(
    ("sources", "listed", "ordered", "rest"),
    [
        pytest.param([source(ONE), source(TWO)], [ONE], None, {ONE: LISTED}, id="another of its pool sends instead"),
        pytest.param([source(ONE)], [ONE], None, {}, id="the only one goes on"),
        pytest.param([source(ONE), source(SIX)], [ONE], None, {}, id="one of the other family reaches not all"),
        pytest.param([source(ONE), source(TWO, pool="bulk")], [ONE], None, {}, id="one of another pool is not for it"),
        pytest.param([source(ONE), source(TWO)], [ONE, TWO], None, {}, id="all are listed"),
        pytest.param(
            [source(ONE), source(TWO)],
            [ONE],
            order(TWO),
            {TWO: "192.0.2.11 was put to rest by alice"},
            id="the other one rests",
        ),
        pytest.param([source(ONE), source(TWO, warm_up="2026-12-01")], [ONE], None, {}, id="the other one is warming"),
        pytest.param(
            [source(ONE), source(TWO, warm_up="2026-10-01")], [ONE], None, {ONE: LISTED}, id="... and is warm by now"
        ),
        pytest.param(
            [source(ONE, warm_up="2026-12-01"), source(TWO)], [ONE], None, {ONE: LISTED}, id="a warming one is listed"
        ),
        pytest.param(
            [source(ONE), source(TWO)],
            [ONE],
            order(ONE),
            {ONE: "192.0.2.10 was put to rest by alice"},
            id="an order comes before a list",
        ),
    ],
)
def test_a_listed_address_rests_while_another_can_send_instead(
    sources: list[Source], listed: list[str], ordered: dict[str, Suspension] | None, rest: dict[str, str]
) -> None:
    found = resting(*sources, listed=tuple(listed), ordered=ordered)
    assert {address: each.why for address, each in found.items()} == rest
