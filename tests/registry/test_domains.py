"""Sender domains: keys are given selectors, sign when they may, and leave in order."""

import re

import pytest

from relay.errors import NotFound, UsageError
from relay.registry.domains import KeyState, NewKey, SenderDomain
from relay.registry.store import Registry
from tests.registry.clock import NOW, Clock

DAY = 86400.0
KEYS = (
    NewKey("rsa", b"rsa private", "v=DKIM1; k=rsa; p=1"),
    NewKey("ed25519", b"ed private", "v=DKIM1; k=ed25519; p=2"),
)


def states(domain: SenderDomain) -> dict[str, KeyState]:
    return {key.selector: key.state for key in domain.keys}


async def test_first_keys_sign_at_once(registry: Registry) -> None:
    domain = await registry.add_domain("Example.COM", KEYS)
    assert domain == registry.snapshot().domains["example.com"]
    assert [key.record_name for key in domain.signing_keys] == [
        "r20270115._domainkey.example.com",
        "e20270115._domainkey.example.com",
    ]
    assert [key.private_pem for key in domain.signing_keys] == [b"rsa private", b"ed private"]
    assert {key.seen_at for key in domain.keys} == {0.0}


async def test_a_key_is_not_shown_where_values_are_shown(registry: Registry) -> None:
    domain = await registry.add_domain("example.com", KEYS)
    assert "private" not in repr(domain) and "private" not in repr(KEYS)


async def test_rotation_waits_for_dns(registry: Registry, clock: Clock) -> None:
    await registry.add_domain("example.com", KEYS)
    seen = await registry.mark_seen("example.com", ["r20270115"])
    assert {key.selector: key.seen_at for key in seen.keys} == {"r20270115": NOW, "e20270115": 0.0}
    clock.time += 3 * DAY
    rotated = await registry.rotate_domain("example.com", KEYS)
    assert [key.selector for key in rotated.signing_keys] == ["r20270115", "e20270115"]
    assert states(rotated)["r20270118"] is KeyState.PENDING
    half = await registry.mark_seen("example.com", ["r20270118", "r20270115", "unknown"])
    assert states(half) == {
        "r20270118": KeyState.ACTIVE,
        "e20270118": KeyState.PENDING,
        "r20270115": KeyState.RETIRED,
        "e20270115": KeyState.ACTIVE,
    }
    done = await registry.mark_seen("example.com", ["e20270118"])
    assert [key.selector for key in done.signing_keys] == ["r20270118", "e20270118"]


async def test_a_second_rotation_waits_for_the_first(registry: Registry) -> None:
    await registry.add_domain("example.com", KEYS)
    await registry.rotate_domain("example.com", KEYS)
    with pytest.raises(UsageError, match=re.escape("r20270115b._domainkey.example.com")):
        await registry.rotate_domain("example.com", KEYS)


async def test_retired_keys_are_dropped_when_their_mail_is_delivered(registry: Registry, clock: Clock) -> None:
    await registry.add_domain("example.com", KEYS)
    await registry.rotate_domain("example.com", KEYS)
    await registry.mark_seen("example.com", ["r20270115b", "e20270115b"])
    assert await registry.drop_retired(before=NOW) == ()
    dropped = await registry.drop_retired(before=NOW + 1)
    assert {key.selector for key in dropped} == {"r20270115", "e20270115"}
    assert len(registry.snapshot().domains["example.com"].keys) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("example.com", 'a domain "example.com" already', id="a name that is taken"),
        pytest.param("EXAMPLE.com", 'a domain "example.com" already', id="in another case it is the same domain"),
        pytest.param("exa mple.com", "is no domain", id="a space"),
        pytest.param("[192.0.2.1]", "is an address literal", id="a literal"),
        pytest.param("", "is no domain", id="no name"),
    ],
)
async def test_a_domain_that_cannot_be_added(name: str, text: str, registry: Registry) -> None:
    await registry.add_domain("example.com", KEYS)
    with pytest.raises(UsageError, match=text) as refused:
        await registry.add_domain(name, KEYS)
    assert refused.value.remedy


async def test_an_unknown_domain_suggests_the_nearest(registry: Registry) -> None:
    await registry.add_domain("bücher.example", KEYS)
    with pytest.raises(NotFound) as unknown:
        await registry.remove_domain("bucher.example")
    assert unknown.value.remedy == 'Did you mean "xn--bcher-kva.example"?'


async def test_a_removed_domain_signs_no_more(registry: Registry) -> None:
    added = await registry.add_domain("bücher.example", KEYS)
    assert await registry.remove_domain("xn--bcher-kva.example") == added
    assert not registry.snapshot().domains


@pytest.mark.parametrize(
    ("from_domain", "signing"),
    [
        pytest.param("example.com", "example.com", id="the From domain itself"),
        pytest.param("a.b.example.com", "example.com", id="a parent"),
        pytest.param("x.news.example.com", "news.example.com", id="the nearest parent"),
        pytest.param("empty.example.com", "example.com", id="a parent when the domain has no key"),
        pytest.param("com", None, id="never a child"),
        pytest.param("badexample.com", None, id="not a domain that ends alike"),
        pytest.param("", None, id="none for no domain"),
    ],
)
async def test_signing_domain(from_domain: str, signing: str | None, registry: Registry) -> None:
    for name in ("example.com", "news.example.com"):
        await registry.add_domain(name, KEYS)
    await registry.add_domain("empty.example.com", ())
    domain = registry.snapshot().signing_domain(from_domain)
    assert (domain and domain.name) == signing
