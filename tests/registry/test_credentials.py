"""What a credential allows, and what it takes for a secret."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from relay.mail.address import Pattern
from relay.registry.credentials import TRANSITIONS, Credential, State, StoredSecret, Verb, digest_of
from relay.registry.secrets import new_login, new_secret, pasteable
from relay.registry.snapshot import Login, Snapshot

NOW = 1000.0
SHOP = Credential(
    name="shop",
    login="shop-abcde",
    secrets=(StoredSecret(digest_of("new"), 900.0), StoredSecret(digest_of("old"), 100.0, valid_until=2000.0)),
    senders=(Pattern.parse("shop@example.com"), Pattern.parse("*@news.example.com"), Pattern.parse("*@*.example.org")),
    created_at=100.0,
)


@pytest.mark.parametrize(
    ("secret", "now", "index"),
    [
        pytest.param("new", NOW, 0, id="the newest secret is taken"),
        pytest.param("old", NOW, 1, id="the one before it is taken until its time"),
        pytest.param("old", 2000.0, None, id="and no longer at its time"),
        pytest.param("", NOW, None, id="an empty secret is wrong"),
        pytest.param("New", NOW, None, id="case matters"),
        pytest.param("new ", NOW, None, id="white space matters"),
        pytest.param("\udcff", NOW, None, id="octets that are no text are wrong, not an error"),
    ],
)
def test_secret(secret: str, now: float, index: int | None) -> None:
    assert SHOP.verify(secret, now=now) is (None if index is None else SHOP.secrets[index])


@pytest.mark.parametrize(
    ("change", "login", "secret", "taken"),
    [
        pytest.param({}, "shop-abcde", "new", True, id="an active credential logs in"),
        pytest.param(
            {"state": State.HOLD}, "shop-abcde", "new", True, id="so does one on hold: its mail is held, not refused"
        ),
        pytest.param({"state": State.REVOKED}, "shop-abcde", "new", False, id="a revoked one does not"),
        pytest.param({"expires_at": NOW}, "shop-abcde", "new", False, id="nor an expired one"),
        pytest.param({"expires_at": NOW + 1}, "shop-abcde", "new", True, id="one that expires later does"),
        pytest.param({}, "shop-abcde", "wrong", False, id="a wrong secret is refused"),
        pytest.param({}, "nobody", "new", False, id="an unknown login is refused"),
        pytest.param({}, "nobody", "", False, id="an unknown login with the secret of nobody is refused"),
        pytest.param({}, "", "", False, id="an empty login is refused"),
        pytest.param({}, "SHOP-ABCDE", "new", False, id="the login's case matters"),
    ],
)
def test_authenticate(change: dict[str, object], login: str, secret: str, taken: bool) -> None:
    credential = replace(SHOP, **change)  # type: ignore[arg-type]
    found = Snapshot.of([credential], []).authenticate(login, secret, now=NOW)
    assert found == (Login(credential, credential.secrets[0]) if taken else None)


@pytest.mark.parametrize(
    ("networks", "client", "allowed"),
    [
        pytest.param((), "203.0.113.9", True, id="without networks a client comes from anywhere"),
        pytest.param(("10.0.0.0/8",), "10.1.2.3", True, id="inside"),
        pytest.param(("10.0.0.0/8",), "11.1.2.3", False, id="outside"),
        pytest.param(("10.0.0.0/8",), "::ffff:10.1.2.3", True, id="an IPv4-mapped address is the IPv4 one"),
        pytest.param(("10.0.0.0/8",), "2001:db8::1", False, id="IPv6 is in no IPv4 network"),
        pytest.param(("10.0.0.0/8", "2001:db8::/32"), "2001:db8::1", True, id="one of several"),
    ],
)
def test_client(networks: tuple[str, ...], client: str, allowed: bool) -> None:
    credential = replace(SHOP, networks=tuple(ip_network(text) for text in networks))
    assert credential.allows_client(client) is allowed


def test_every_state_and_verb_is_decided() -> None:
    refused = {(state, verb) for state in State for verb in Verb} - set(TRANSITIONS)
    assert refused == {(State.REVOKED, Verb.HOLD), (State.REVOKED, Verb.RELEASE)}


@pytest.mark.parametrize(
    ("current", "goes_on"),
    [
        pytest.param([SHOP], True, id="nothing changed"),
        pytest.param([replace(SHOP, secrets=SHOP.secrets[1:])], False, id="its secret is gone"),
        pytest.param([replace(SHOP, secrets=SHOP.secrets[:1])], True, id="another secret is gone"),
        pytest.param([replace(SHOP, secrets=(replace(SHOP.secrets[0], valid_until=NOW),))], False, id="it was ended"),
        pytest.param([replace(SHOP, stream="bulk")], True, id="another setting"),
        pytest.param([replace(SHOP, state=State.HOLD)], True, id="on hold"),
        pytest.param([replace(SHOP, state=State.REVOKED)], False, id="revoked"),
        pytest.param([replace(SHOP, expires_at=NOW)], False, id="expired"),
        pytest.param([], False, id="removed"),
        pytest.param([replace(SHOP, login="shop-other")], False, id="removed and made again under its name"),
    ],
)
def test_open_session_goes_on(current: list[Credential], goes_on: bool) -> None:
    session = Login(SHOP, SHOP.secrets[0])
    went_on = Snapshot.of(current, []).current(session, now=NOW)
    assert went_on == (Login(current[0], current[0].secrets[0]) if goes_on else None)


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(replace(SHOP, expires_at=NOW + 1), id="the credential expires"),
        pytest.param(replace(SHOP, secrets=(replace(SHOP.secrets[0], valid_until=NOW + 1),)), id="the secret ends"),
    ],
)
def test_time_ends_an_open_session_whose_credential_nobody_changed(credential: Credential) -> None:
    snapshot, session = Snapshot.of([credential], []), Login(credential, credential.secrets[0])
    assert snapshot.current(session, now=NOW) == session
    assert snapshot.current(session, now=NOW + 1) is None


def test_where_nobody_logs_in_no_secret_ends_a_session() -> None:
    assert Snapshot.of([replace(SHOP, secrets=())], []).current(Login(SHOP), now=NOW) is not None


def test_secrets_and_logins_paste_well() -> None:
    everything = new_secret(lambda count: b"\xff" * count)
    nothing = new_secret(lambda count: b"\0" * count)
    assert (len(everything), len(nothing)) == (26, 26) and everything != nothing
    assert new_login("Shop.2", lambda count: b"\0" * count) == "shop.2-00000"
    assert {pasteable(bytes([value])) for value in range(256)} >= {"00", "7z"}
    assert len({pasteable(bytes([value])) for value in range(256)}) == 256
