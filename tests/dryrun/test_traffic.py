from collections import Counter
from random import Random

import pytest

from relay.config.providers import Provider
from relay.dryrun.traffic import Traffic, recipients
from relay.simulator.providers import sites

ONE = Provider(name="one", domains=("one.example",), mx="mx.one.example")
MANY = Provider(name="many", domains=("d-%.example",), mx="mx.d-%.example", sites=3)
SIMULATED = sites([ONE, MANY], first_address="127.0.0.2", clock=lambda: 0.0, seed=0)

MIXES = [
    pytest.param({"one": 60, "many": 40}, 100, {"one": 60, "many": 40}, id="percents"),
    pytest.param({"one": 2, "many": 1}, 100, {"one": 67, "many": 33}, id="any numbers, and rounding"),
    pytest.param({"one": 1, "many": 1}, 3, {"one": 2, "many": 1}, id="none is lost"),
]


@pytest.mark.parametrize(("mix", "messages", "counts"), MIXES)
def test_the_mix_is_kept_to_the_message(mix: dict[str, float], messages: int, counts: dict[str, int]) -> None:
    assert Traffic(messages, mix).counts == counts


def test_recipients_are_mixed_all_different_and_the_same_for_a_seed() -> None:
    traffic = Traffic(1000, {"one": 60, "many": 40})
    first, again, other = (list(recipients(traffic, SIMULATED, Random(seed))) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 1000
    domains = Counter(address.partition("@")[2] for address in first)
    assert domains["one.example"] == 600
    assert set(domains) == {"one.example", "d-1.example", "d-2.example", "d-3.example"}
    assert 0 < sum(address.endswith("@one.example") for address in first[:100]) < 100
