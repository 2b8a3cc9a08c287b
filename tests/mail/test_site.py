"""A site's name: one for one set of MX hosts, another for another."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.site import site_name


@pytest.mark.parametrize(
    ("hosts", "name"),
    [
        pytest.param(["mx.example.com"], "mx.example.com", id="one host is its own name"),
        pytest.param(["MX.Example.com."], "mx.example.com", id="in any case, with a final dot or without"),
        pytest.param(["mx.example.com", "mx.example.com."], "mx.example.com", id="the same host twice"),
        pytest.param(
            ["gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"],
            "gmail-smtp-in.l.google.com+2-7caedca8b2b8",
            id="what they have in common, their number, their digest",
        ),
        pytest.param(
            ["mx1.mail.com", "mx.other.org"], "mx.other.org+2-fde43f771bfc", id="nothing in common: the first by name"
        ),
    ],
)
def test_a_name_is_readable_and_the_same_in_every_release(hosts: list[str], name: str) -> None:
    assert site_name(hosts) == name


def test_no_hosts_are_no_site() -> None:
    with pytest.raises(ValueError, match="at least one"):
        site_name([])


labels = st.text("abcdef0123456789-", min_size=1, max_size=8)
hosts = st.lists(st.lists(labels, min_size=1, max_size=4).map(".".join), min_size=1, max_size=6)


@given(hosts)
def test_order_and_preference_do_not_count(names: list[str]) -> None:
    assert site_name(names[::-1]) == site_name(sorted(names)) == site_name(names)


@given(hosts, hosts)
def test_two_sets_have_two_names(one: list[str], other: list[str]) -> None:
    assert (site_name(one) == site_name(other)) is (set(one) == set(other))


@given(hosts)
def test_a_name_has_nothing_a_shell_or_a_label_minds(names: list[str]) -> None:
    assert re.fullmatch(r"[a-z0-9.+-]+", site_name(names))
