import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail import queue_id
from relay.spool.numbering import Numbering, first_at, id_of, number_of, time_of
from tests.spool.letters import NOON, Clock

NUMBERS = st.integers(min_value=0, max_value=(1 << 63) - 1)
SHARDS = st.integers(min_value=0, max_value=queue_id.MAX_SHARDS - 1)


@given(NUMBERS, SHARDS)
def test_a_number_and_its_id_stand_for_each_other(number: int, shard: int) -> None:
    text = id_of(number, shard=shard)
    assert number_of(text, shard=shard) == number
    assert number_of(text, shard=(shard + 1) % queue_id.MAX_SHARDS) is None


@given(st.integers(min_value=0, max_value=4_000_000_000_000), SHARDS, st.integers(min_value=0, max_value=(1 << 20) - 1))
def test_an_id_is_the_one_mail_makes(milliseconds: int, shard: int, random: int) -> None:
    number = milliseconds << 20 | random
    text = id_of(number, shard=shard)
    assert text == queue_id.new(now=(milliseconds + 0.5) / 1000, shard=shard, random=random)
    assert queue_id.accepted_at(text) == time_of(number) and queue_id.shard_of(text) == shard


@given(st.text(max_size=20))
def test_only_valid_ids_have_a_number(text: str) -> None:
    if number_of(text, shard=0) is not None:
        assert queue_id.is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("01j0000000000i0", id="a letter the alphabet leaves out"),
        pytest.param("01J000000000000", id="an upper-case letter"),
        pytest.param("+1j000000000000", id="a sign"),
        pytest.param("0_1j00000000000", id="an underscore"),
        pytest.param(" 1j000000000000", id="a space"),
        pytest.param("٠1j000000000000", id="a digit that is not ASCII"),
        pytest.param("0000000000000000", id="one letter too many"),
        pytest.param("zzzzzzzzz000000", id="a time beyond what can be kept"),
    ],
)
def test_what_is_no_id_has_no_number(text: str) -> None:
    assert number_of(text, shard=0) is None


def test_ids_ascend_while_the_clock_stands_still() -> None:
    numbering = Numbering(shard=3, now=Clock(), random=lambda bits: (1 << bits) - 1, last=0)
    ids = [numbering.next_id() for _ in range(1000)]
    assert ids == sorted(set(ids))


def test_ids_never_repeat_when_the_clock_is_set_back_within_the_hour() -> None:
    clock = Clock()
    numbering = Numbering(shard=0, now=clock, random=lambda _: 7, last=0)
    before = {numbering.next_id() for _ in range(10)}
    clock.pass_by(-3000)
    assert before.isdisjoint(numbering.next_id() for _ in range(10))


def test_an_id_says_the_day_again_after_the_clock_was_set_back_by_a_day() -> None:
    clock = Clock(NOON + 86400)
    numbering = Numbering(shard=0, now=clock, random=lambda _: 7, last=0)
    numbering.next_id()
    clock.time = NOON
    assert queue_id.accepted_at(numbering.next_id()) == NOON


def test_ids_go_on_after_the_last_one_in_the_queue_and_not_where_others_did() -> None:
    """The clock was set back over a restart: what followed the last one is in the journal, and its id is taken."""
    before = Numbering(shard=0, now=Clock(), random=lambda _: 9, last=0)
    last, *gone = [number_of(before.next_id(), shard=0) for _ in range(10)]
    assert last is not None
    after = Numbering(shard=0, now=Clock(), random=lambda _: 7, last=last)
    following = [number_of(after.next_id(), shard=0) for _ in range(10)]
    assert min(filter(None, following)) > last
    assert set(following).isdisjoint(gone)


def test_the_first_number_of_a_moment_divides_before_from_after() -> None:
    number = number_of(Numbering(shard=0, now=Clock(), random=lambda _: 5, last=0).next_id(), shard=0)
    assert number is not None
    assert first_at(NOON) <= number < first_at(NOON + 0.001)
