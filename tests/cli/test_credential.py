"""cli.credential: making, showing, changing and ending credentials."""

import asyncio
import os
import re
import shlex
import time
from dataclasses import replace
from typing import Any

import pytest

from relay.cli.applications import Settings, names, ready_settings
from relay.registry.store import Registry
from tests.cli.conftest import Relay

SHOP = ("credential", "add", "shop", "--from", "*@shop.example")


def test_add_gives_all_a_client_needs_and_the_secret_once(relay: Relay) -> None:
    made = relay.json(*SHOP)
    assert made["login"].startswith("shop-")
    assert len(made["secret"]) == 26
    assert made["host"] == "relay.example.com"
    assert made["ports"] == [{"port": 587, "security": "starttls"}, {"port": 465, "security": "tls"}]
    assert made["senders"] == ["*@shop.example"]
    shown = relay("credential", "show", "shop").out + relay("credential", "list", "--json").out
    assert made["secret"] not in shown
    assert made["login"] in shown


def test_add_for_people_has_the_same(relay: Relay) -> None:
    answer = relay(*SHOP)
    lines = dict(re.split(r" {2,}", line, maxsplit=1) for line in answer.out.splitlines())
    assert lines["host"] == "relay.example.com"
    assert (lines["port, STARTTLS"], lines["port, TLS"]) == ("587", "465")
    assert len(lines["secret, shown once"]) == 26
    assert "relay domain add shop.example" in answer.err  # it has no key yet


def test_where_only_loopback_is_listened_on_its_address_is_the_host(relay: Relay) -> None:
    relay.config.write_text(relay.config.read_text().replace("0.0.0.0", "127.0.0.1"))
    assert relay.json(*SHOP)["host"] == "127.0.0.1"


def test_a_ca_file_is_named(relay: Relay) -> None:
    relay.config.write_text(relay.config.read_text() + 'ca = "tls/ca.pem"\n')
    made = relay.json(*SHOP, "--show-settings", "curl")
    assert made["ca"] == str(relay.directory / "tls/ca.pem")
    assert f"--cacert {shlex.quote(str(relay.directory / 'tls/ca.pem'))}" in made["settings"]


@pytest.mark.parametrize("application", names())
@pytest.mark.parametrize(("port", "security"), [(2587, "starttls"), (2465, "tls")])
@pytest.mark.parametrize("ca", ["", "/etc/relay/ca.pem"], ids=["known CA", "own CA"])
def test_ready_settings_have_every_value(application: str, port: int, security: str, ca: str) -> None:
    values = Settings("mail.host.example", port, security, "shop-login", "theSecret", "from@shop.example", ca)
    text = ready_settings(application, values)
    for value in ("mail.host.example", str(port), "shop-login", "theSecret"):
        assert value in text, value
    assert "from@shop.example" in text or ("'from'" in text and "'shop.example'" in text)
    assert "{{" not in text
    assert not re.search(r"(?m)^\?", text)
    assert (ca in text) if ca else ("of a CA of its own" not in text)


def test_there_are_settings_for_what_people_use() -> None:
    wanted = "django wordpress rails laravel nodemailer phpmailer symfony spring dotnet msmtp postfix swaks curl"
    assert set(wanted.split()) <= set(names())


def test_django_settings_are_python(relay: Relay) -> None:
    made = relay.json(*SHOP, "--show-settings", "django")
    scope: dict[str, Any] = {}
    exec(made["settings"].partition("\n")[2], scope)
    assert (scope["EMAIL_HOST"], scope["EMAIL_PORT"]) == ("relay.example.com", 587)
    assert (scope["EMAIL_HOST_USER"], scope["EMAIL_HOST_PASSWORD"]) == (made["login"], made["secret"])
    assert scope["EMAIL_USE_TLS"] is True


def test_a_misspelt_application_costs_no_secret(relay: Relay) -> None:
    answer = relay(*SHOP, "--show-settings", "djnago")
    assert answer.code == os.EX_USAGE
    assert 'Did you mean "django"?' in answer.err
    assert relay.json("credential", "list") == []


NO_LIMITS = {"second": 0, "hour": 0, "day": 0, "recipients": 0, "first_time": 0}
PROPERTIES = [
    pytest.param(
        ("--from", "a@b.example", "--from", "*@*.c.example"), "senders", ["a@b.example", "*@*.c.example"], id="from"
    ),
    pytest.param(
        ("--network", "192.0.2.0/24", "--network", "::1"), "networks", ["192.0.2.0/24", "::1/128"], id="networks"
    ),
    pytest.param(("--stream", "bulk"), "stream", "bulk", id="stream"),
    pytest.param(("--limit-second", "5"), "limits", NO_LIMITS | {"second": 5}, id="a second"),
    pytest.param(("--limit-hour", "6"), "limits", NO_LIMITS | {"hour": 6}, id="an hour"),
    pytest.param(("--limit-day", "7"), "limits", NO_LIMITS | {"day": 7}, id="a day"),
    pytest.param(("--limit-recipients", "8"), "limits", NO_LIMITS | {"recipients": 8}, id="recipients"),
    pytest.param(("--limit-first-time", "9"), "limits", NO_LIMITS | {"first_time": 9}, id="first-time recipients"),
    pytest.param(("--expires", "2199-01-31"), "expires_at", "2199-01-31T00:00:00.000Z", id="expiry"),
    pytest.param(("--null-sender",), "null_sender", True, id="null sender"),
    pytest.param(("--allow-unsigned",), "allow_unsigned", True, id="unsigned"),
    pytest.param(("--encode-8bit",), "encode_8bit", True, id="8-bit"),
    pytest.param(("--reports", "none"), "reports", "none", id="reports"),
    pytest.param(("--suppressed", "accept"), "suppressed", "accept", id="suppressed"),
]


@pytest.mark.parametrize(("flags", "field", "value"), PROPERTIES)
def test_a_property_can_be_given_and_changed(relay: Relay, flags: tuple[str, ...], field: str, value: object) -> None:
    first = () if flags[0] == "--from" else ("--from", "*@shop.example")
    assert relay.json("credential", "add", "at-once", *first, *flags)[field] == value
    before = relay.json(*SHOP)
    changed = relay.json("credential", "set", "shop", *flags)
    assert changed[field] == value
    assert {name for name in changed if changed[name] != before[name]} == {field}
    assert relay.json("credential", "show", "shop") == changed
    assert relay("credential", "show", "shop").code == 0


def test_the_limits_are_shown_in_words(relay: Relay) -> None:
    relay.json(*SHOP, "--limit-hour", "100", "--limit-first-time", "20")
    assert "100 an hour, 20 first-time recipients a day" in relay("credential", "show", "shop").out
    relay.json("credential", "set", "shop", "--limit-first-time", "0")
    assert "first-time" not in relay("credential", "show", "shop").out


def test_a_property_can_be_taken_back(relay: Relay) -> None:
    relay.json(*SHOP, "--network", "10.0.0.0/8", "--expires", "30d", "--allow-unsigned")
    flags = ("--network", "any", "--expires", "never", "--no-allow-unsigned")
    changed = relay.json("credential", "set", "shop", *flags)
    assert (changed["networks"], changed["expires_at"], changed["allow_unsigned"]) == ([], None, False)


def test_an_expiry_may_be_so_long_from_now(relay: Relay) -> None:
    made = relay.json(*SHOP, "--expires", "30d")
    expires = time.strptime(made["expires_at"][:19], "%Y-%m-%dT%H:%M:%S")
    assert time.mktime(expires) - time.timezone == pytest.approx(time.time() + 30 * 86400, abs=60)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        pytest.param((), "may send as nobody", id="no sender"),
        pytest.param(("--from", "nonsense"), "write user@domain, *@domain or *@*.domain", id="no pattern"),
        pytest.param(("--from", "a@b.example", "--stream", "blk"), 'Did you mean "bulk"?', id="no stream"),
        pytest.param(("--from", "a@b.example", "--network", "10.0.0.1/8"), "is no network", id="no network"),
        pytest.param(("--from", "a@b.example", "--expires", "2001-01-01"), "is past", id="an expiry that is past"),
        pytest.param(("--from", "a@b.example", "--reports", "all"), 'Write "sender" or "none"', id="no word"),
        pytest.param(("--from", "a@b.example", "--limit-day", "-1"), "--limit-day", id="less than none"),
        pytest.param(("--from", "a@b.example", "--limit-first-time", "few"), "--limit-first-time", id="no number"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(relay: Relay, flags: tuple[str, ...], text: str) -> None:
    answer = relay("credential", "add", "shop", *flags)
    assert answer.code == os.EX_USAGE
    assert text in answer.err
    assert relay.json("credential", "list") == []


def test_a_name_that_is_taken_is_refused(relay: Relay) -> None:
    relay.json(*SHOP)
    answer = relay(*SHOP)
    assert answer.code == os.EX_USAGE
    assert 'there is a credential "shop" already' in answer.err


@pytest.mark.parametrize("verb", ["show", "set", "rotate", "revoke", "hold", "release"])
def test_an_unknown_name_suggests_the_nearest(relay: Relay, verb: str) -> None:
    relay.json(*SHOP)
    answer = relay("credential", verb, "shpo")
    assert answer.code == os.EX_NOUSER
    assert 'there is no credential "shpo"' in answer.err
    assert 'Did you mean "shop"?' in answer.err


def test_rotation_keeps_the_old_secret_until_it_is_finished(relay: Relay) -> None:
    first = relay.json(*SHOP)
    second = relay.json("credential", "rotate", "shop")
    assert second["secret"] != first["secret"]
    assert second["login"] == first["login"]
    assert len(second["secrets"]) == 2
    assert len(relay.json("credential", "rotate", "shop", "--finish")["secrets"]) == 1


def test_rotation_may_end_by_itself(relay: Relay) -> None:
    relay.json(*SHOP)
    rotated = relay.json("credential", "rotate", "shop", "--keep", "7d")
    assert [secret["valid_until"] is None for secret in rotated["secrets"]] == [True, False]
    relay.json("credential", "rotate", "shop", "--finish")
    answer = relay("credential", "rotate", "shop", "--keep", "2h")
    assert "The old secret stays valid for 2 h" in answer.err


def test_hold_release_revoke(relay: Relay) -> None:
    relay.json(*SHOP)
    assert relay.json("credential", "hold", "shop")["state"] == "hold"
    assert relay.json("credential", "release", "shop")["state"] == "active"
    assert relay.json("credential", "revoke", "shop")["state"] == "revoked"
    answer = relay("credential", "release", "shop")
    assert answer.code == os.EX_USAGE
    assert "revoked, which is for good" in answer.err


def test_one_that_has_expired_is_said_to_have(relay: Relay) -> None:
    relay.json(*SHOP)

    async def expire() -> None:
        registry = await Registry.open(relay.spool, now=time.time)
        await registry.update_credential("shop", lambda shop: replace(shop, expires_at=time.time() - 1))
        await registry.close()

    asyncio.run(expire())
    assert relay.json("credential", "show", "shop")["state"] == "expired"
    assert re.search(r"shop +shop-\w+ +expired", relay("credential", "list").out)
    assert relay.json("credential", "set", "shop", "--expires", "never")["state"] == "active"


def test_list_for_people(relay: Relay) -> None:
    assert "relay credential add NAME" in relay("credential", "list").out
    relay.json(*SHOP)
    assert re.search(r"shop +shop-\w+ +active +transactional +\*@shop\.example +never", relay("credential", "list").out)


def test_a_domain_with_a_key_brings_no_warning(relay: Relay) -> None:
    relay.json("domain", "add", "shop.example")
    assert relay(*SHOP).err == ""
    assert relay("credential", "set", "shop", "--from", "*@other.example", "--allow-unsigned").err == ""
