"""Logging in: the exchange, who is let in, and that a refusal says nothing about its reason."""

import base64
import hashlib
import time
from ipaddress import ip_network
from typing import Any

import pytest

from relay.registry.credentials import State, StoredSecret
from relay.submission.auth import Denied, Failure, check
from relay.submission.client import Client, client_at
from relay.submission.sasl import LOGIN_LIMIT, Attempt, Exchange
from tests.submission.house import NOW, SECRET, House, credential
from tests.submission.talk import Talk

HERE = Client("192.0.2.7", "192.0.2.7")
INVALID = "535 5.7.8 Authentication credentials invalid\r\n"


def b64(text: str | bytes) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


def plain(login: str, secret: str, acting_for: str = "") -> bytes:
    return b64(f"{acting_for}\0{login}\0{secret}")


def exchange(house: House, *lines: bytes) -> str:
    """What is answered to each line, after EHLO."""
    talk = Talk(house)
    talk.say(b"EHLO client\r\n")
    return "".join(talk.say(line + b"\r\n").decode() for line in lines)


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        pytest.param([b"AUTH PLAIN " + plain("shop", SECRET)], "235 2.7.0", id="PLAIN with an initial response"),
        pytest.param([b"AUTH PLAIN", plain("shop", SECRET)], "334 \r\n235 2.7.0", id="PLAIN without"),
        pytest.param([b"auth plain " + plain("shop", SECRET)], "235 2.7.0", id="in lower case"),
        pytest.param([b"AUTH PLAIN " + plain("shop", SECRET, "shop")], "235 2.7.0", id="acting for oneself"),
        pytest.param([b"AUTH PLAIN " + plain("shop", SECRET, "boss")], INVALID, id="acting for another"),
        pytest.param(
            [b"AUTH LOGIN", b64("shop"), b64(SECRET)],
            "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n235 2.7.0",
            id="LOGIN",
        ),
        pytest.param([b"AUTH LOGIN " + b64("shop"), b64(SECRET)], "334 UGFzc3dvcmQ6\r\n235 2.7.0", id="LOGIN, initial"),
        pytest.param([b"AUTH PLAIN " + plain("shop", "wrong")], INVALID, id="a wrong secret"),
        pytest.param([b"AUTH PLAIN " + plain("nobody", SECRET)], INVALID, id="an unknown login"),
        pytest.param([b"AUTH PLAIN " + plain("", "")], INVALID, id="nothing at all"),
        pytest.param([b"AUTH PLAIN " + b64(b"\0shop\0\xff\xfe")], INVALID, id="octets that are no text"),
        pytest.param([b"AUTH PLAIN", b"*"], "334 \r\n501 5.7.0", id="taken back"),
        pytest.param([b"AUTH LOGIN", b64("shop"), b"*"], "334 VXNlcm5hbWU6\r\n334 UGFzc3dvcmQ6\r\n501", id="later"),
        pytest.param([b"AUTH PLAIN =", b""], "501 5.5.2", id="an empty initial response is no PLAIN"),
        pytest.param([b"AUTH PLAIN !!!"], "501 5.5.2", id="no base64"),
        pytest.param([b"AUTH PLAIN " + b64("shop")], "501 5.5.2", id="base64 of the wrong form"),
        pytest.param([b"AUTH PLAIN", b""], "334 \r\n501 5.5.2", id="an empty line"),
        pytest.param([b"AUTH CRAM-MD5"], "504 5.5.4", id="a mechanism that is not offered"),
        pytest.param([b"AUTH"], "501 5.5.4", id="no mechanism"),
        pytest.param([b"AUTH PLAIN " + b"A" * 13_000], "500 5.5.6", id="a line that is too long"),
        pytest.param([b"AUTH PLAIN", b"A" * 13_000], "334 \r\n500 5.5.6", id="... in the exchange"),
        pytest.param([b"AUTH PLAIN " + b"A" * 12_000], "501 5.5.2", id="a line as long as it may be"),
    ],
)
def test_exchanges(house: House, lines: list[bytes], answer: str) -> None:
    assert exchange(house, *lines).startswith(answer)


def test_the_exchange_ends_and_commands_go_on(house: House) -> None:
    answers = exchange(house, b"AUTH PLAIN", b"*", b"NOOP", b"AUTH PLAIN " + plain("shop", SECRET), b"NOOP")
    assert [line[:3] for line in answers.splitlines()] == ["334", "501", "250", "235", "250"]


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        pytest.param({}, Failure.WRONG, id="a wrong secret"),
        pytest.param({"state": State.REVOKED}, Failure.REVOKED, id="revoked"),
        pytest.param({"expires_at": NOW - 1}, Failure.EXPIRED, id="expired"),
        pytest.param(
            {"networks": (ip_network("198.51.100.0/24"),)}, Failure.NETWORK, id="from a network it may not use"
        ),
        pytest.param({"login": "another"}, Failure.UNKNOWN, id="an unknown login"),
    ],
)
def test_every_refusal_reads_the_same(house: House, fields: dict[str, Any], failure: Failure) -> None:
    house.grant(credential(**fields))
    secret = "wrong" if failure is Failure.WRONG else SECRET
    assert exchange(house, b"AUTH PLAIN " + plain("shop", secret)) == INVALID
    assert house.facts.words == [f"auth failed {failure.value}"]
    assert f'"reason":"{failure.value}"' in house.logged()
    assert SECRET not in house.logged() and 'wrong"' not in house.logged().replace("wrong_secret", "")


def test_either_of_two_secrets_logs_in_and_its_use_is_noted(house: House) -> None:
    secrets = tuple(StoredSecret(hashlib.sha256(text).hexdigest(), 0.0) for text in (b"new", b"old"))
    house.grant(credential(secrets=secrets))
    for text, stored in zip(("new", "old"), secrets, strict=True):
        assert exchange(house, b"AUTH PLAIN " + plain("shop", text)).startswith("235")
        use = house.uses.pop()
        assert (use.credential, use.at, use.address, use.sha256) == ("shop", NOW, "192.0.2.7", stored.sha256)


def test_a_trial_comes_from_anywhere_and_is_no_use_of_the_credential(house: House) -> None:
    trial = StoredSecret(hashlib.sha256(b"trial").hexdigest(), 0.0, valid_until=NOW + 600)
    house.grant(credential(networks=(ip_network("198.51.100.0/24"),), trials=(trial,)))
    talk = Talk(house)
    answers = talk.say(
        b"EHLO client\r\n", b"AUTH PLAIN " + plain("shop", "trial") + b"\r\nMAIL FROM:<a@example.com>\r\n"
    )
    assert [line[:3] for line in answers.splitlines()][-2:] == [b"235", b"250"]
    assert house.uses == []
    house.clock.time += 600
    assert talk.say(b"RSET\r\nMAIL FROM:<a@example.com>\r\n")[-80:].splitlines()[-1].startswith(b"421 4.7.0")


def test_three_failures_end_the_session(house: House) -> None:
    talk = Talk(house)
    talk.say(b"EHLO client\r\n")
    answers = [talk.say(b"AUTH PLAIN " + plain("shop", "wrong") + b"\r\n")[:9] for _ in range(3)]
    assert answers == [b"535 5.7.8", b"535 5.7.8", b"421 4.7.0"]
    assert talk.is_closed


def test_a_guesser_is_locked_out_at_once_and_an_application_at_its_own_address_is_not(house: House) -> None:
    services = house.services()
    for number in range(11):
        check(Attempt(f"guess{number}", "x"), HERE, services)
    locked = check(Attempt("shop", SECRET), HERE, services)
    assert isinstance(locked, Denied) and locked.failure is Failure.LOCKED and locked.reply.code == 421
    assert not isinstance(check(Attempt("shop", SECRET), Client("192.0.2.8", "192.0.2.8"), services), Denied)
    house.known["shop", "192.0.2.7"] = NOW - 29 * 86400
    assert not isinstance(check(Attempt("shop", SECRET), HERE, services), Denied), "it logged in from here this month"


def test_an_address_known_for_longer_than_30_days_is_known_no_more(house: House) -> None:
    services = house.services()
    for number in range(11):
        check(Attempt(f"guess{number}", "x"), HERE, services)
    house.known["shop", "192.0.2.7"] = NOW - 31 * 86400
    assert isinstance(check(Attempt("shop", SECRET), HERE, services), Denied)


def test_guessing_at_a_login_elsewhere_silences_nobody(house: House) -> None:
    services = house.services()
    for number in range(1000):
        there = client_at(f"198.51.100.{number % 250}")
        check(Attempt("shop", f"guess{number}"), there, services)
    assert not isinstance(check(Attempt("shop", SECRET), HERE, services), Denied)


def test_trouble_of_ours_is_454_and_no_failed_login(house: House) -> None:
    def broken() -> None:
        raise RuntimeError("registry unreadable")

    talk = Talk(house, services={"last_login_from": broken, "guard": None})
    talk.say(b"EHLO client\r\n")
    for _ in range(5):
        assert talk.say(b"AUTH PLAIN " + plain("shop", SECRET) + b"\r\n").startswith(b"454 4.7.0 ")
    assert "authentication broke" in house.logged()


def test_too_many_sessions_of_one_credential(house: House) -> None:
    talks = [Talk(house, limits={"sessions_per_credential": 2}) for _ in range(3)]
    answers = [talk.say(b"EHLO c\r\n", b"AUTH PLAIN " + plain("shop", SECRET) + b"\r\n") for talk in talks]
    assert [answer.splitlines()[-1][:9] for answer in answers] == [b"235 2.7.0", b"235 2.7.0", b"421 4.7.0"]


def test_the_time_taken_tells_no_login(house: House) -> None:
    """CPU time of hundreds of checks each, in turns: what else the machine does slows all of them alike. The hash
    dominates, so a factor would show a check that was left out.
    """
    services = house.services(guard=_NoGuard())
    house.grant(credential(), credential("old", state=State.REVOKED), credential("gone", expires_at=1.0))

    def cost(login: str) -> float:
        started = time.process_time()
        for _ in range(200):
            check(Attempt(login, "x" * 9000), HERE, services)
        return time.process_time() - started

    logins = ("shop", "nobody", "old", "gone")
    rounds = [{login: cost(login) for login in logins} for _ in range(20)]
    costs = {login: min(each[login] for each in rounds) for login in logins}
    assert max(costs.values()) < 1.5 * min(costs.values()), costs


class _NoGuard:
    """Never locks."""

    def locked(self, **_: object) -> float:
        return 0.0

    def locked_pair(self, **_: object) -> float:
        return 0.0

    def known_at(self, **_: object) -> float:
        return 0.0

    def failed(self, **_: object) -> None: ...

    def succeeded(self, **_: object) -> None: ...


@pytest.mark.parametrize(
    ("host", "address", "key"),
    [
        pytest.param("192.0.2.7", "192.0.2.7", "192.0.2.7", id="IPv4"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7", id="IPv4 through a dual-stack socket"),
        pytest.param("2001:db8::1", "2001:db8::1", "2001:db8::/64", id="IPv6 counts by its /64"),
        pytest.param("fe80::1%eth0", "fe80::1", "fe80::/64", id="a zone is left out"),
    ],
)
def test_clients(host: str, address: str, key: str) -> None:
    assert client_at(host) == Client(address, key)


def test_octets_that_are_no_text_make_a_login_that_can_be_logged_and_told() -> None:
    step = Exchange().begin(b"PLAIN " + b64(b"\0\xff\xfe\0\xff"))
    assert isinstance(step, Attempt)
    assert (step.login.encode(), step.secret.encode()) == (b"\\xff\\xfe", b"\\xff")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"PLAIN " + b64(b"\0" + b"\xff" * 9000 + b"\0x")], id="PLAIN, octets that are no text"),
        pytest.param([b"PLAIN " + b64(b"\0" + b"a" * 9000 + b"\0x")], id="PLAIN, letters"),
        pytest.param([b"LOGIN " + b64(b"\xff" * 9000), b64("x")], id="LOGIN"),
    ],
)
def test_a_login_longer_than_any_that_is_issued_is_cut_before_the_guard_keeps_it(lines: list[bytes]) -> None:
    exchange = Exchange()
    *_, step = [exchange.begin(lines[0]), *map(exchange.proceed, lines[1:])]
    assert isinstance(step, Attempt) and len(step.login) == LOGIN_LIMIT
