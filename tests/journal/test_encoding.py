"""An event as a row and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.journal.encoding import address_key, bare, decode, key_range, row
from relay.mail.event import Event, Kind
from tests.journal.stories import event

text = st.text(st.characters(codec="utf-8"))


@given(
    st.builds(Event, kind=st.sampled_from(Kind), **dict.fromkeys(["at", "next_attempt_at"], st.floats(allow_nan=False)))
)
def test_an_event_comes_back_equal(given_event: Event) -> None:
    assert decode(row(1, 1, given_event)[-1]) == given_event  # type: ignore[arg-type]


def test_an_event_of_an_older_relay_has_defaults_for_later_fields() -> None:
    octets = msgspec.msgpack.encode([1.5, "bounced", "m", "a@b", "c@d", "shop"])
    assert decode(octets) == Event(1.5, Kind.BOUNCED, "m", "a@b", "c@d", "shop")


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00", id="a number"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(msgspec.msgpack.encode([1.5, "eaten", "m", "a@b", "c@d", "shop"]), id="an unknown kind"),
        pytest.param(msgspec.msgpack.encode([1.5, "bounced"]), id="too few fields"),
        pytest.param(msgspec.msgpack.encode([1.5, "bounced", *range(40)]), id="too many fields"),
    ],
)
def test_what_is_no_event(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"no event|not a valid Kind"):
        decode(octets)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        pytest.param("Ann@Example.COM", "example.com@Ann", id="the domain's case does not matter"),
        pytest.param("a@bücher.example", "xn--bcher-kva.example@a", id="U-labels are A-labels"),
        pytest.param('"a@b"@example.com', 'example.com@"a@b"', id="the last @ divides"),
        pytest.param("", "", id="the null sender is empty"),
        pytest.param("postmaster", "postmaster@", id="what has no @ counts as a domain"),
        pytest.param("a@bü..cher", "bü..cher@a", id="a domain that is none stays as it is"),
    ],
)
def test_key(address: str, key: str) -> None:
    assert address_key(address) == key


@pytest.mark.parametrize(
    ("pattern", "address", "inside"),
    [
        pytest.param("ann@example.com", "ann@EXAMPLE.com", True, id="the address"),
        pytest.param("ann@example.com", "anna@example.com", False, id="not a longer one"),
        pytest.param("@example.com", "ann@example.com", True, id="any address of a domain"),
        pytest.param("@example.com", "@example.com", True, id="even an empty one"),
        pytest.param("@example.com", "ann@example.co", False, id="not a shorter domain"),
        pytest.param("@example.com", "ann@example.com.au", False, id="not a longer domain"),
        pytest.param("@example.com", "ann@a.example.com", False, id="not a subdomain"),
        pytest.param("@bücher.example", "a@xn--bcher-kva.example", True, id="an IDN in either spelling"),
    ],
)
def test_range(pattern: str, address: str, inside: bool) -> None:
    low, end = key_range(pattern)
    assert (low <= address_key(address) < end) is inside


def test_a_message_id_is_kept_for_accepted_messages_only() -> None:
    accepted = event(kind=Kind.ACCEPTED, header_message_id=" <a@b> ")
    assert row(1, 1, accepted)[9] == "a@b" == bare("a@b")
    assert row(1, 1, replace(accepted, kind=Kind.DELIVERED))[9] == ""
