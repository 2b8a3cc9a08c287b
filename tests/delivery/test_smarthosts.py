"""Through smarthosts: which one a message goes to, what makes it go to the next, and what is no smarthost's fault."""

import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Config
from relay.mail.event import Kind
from relay.spool import Selection
from tests.delivery.outfit import Outfit, config, kinds, outfit
from tests.peers.certificates import Authority
from tests.peers.mx import Act, Answer, HesitantMx, Mx, ScriptedMx, until

NOT_NOW: dict[str, Any] = {"retry": {"ladder": ["1h"], "jitter": 0}}
EXTENSIONS = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "AUTH PLAIN LOGIN")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> ssl.SSLContext:
    return authority.issue("127.0.0.1").server_context()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Where nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@dataclass
class Provider:
    """A smarthost. table: what differs from a plain one in relay.toml."""

    mx: Mx = field(default_factory=Mx)
    table: dict[str, Any] = field(default_factory=dict)


@dataclass
class Clock:
    """Seconds that an outfit waits by; only a test makes them pass."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def through(
    tmp_path: Path, *providers: Provider, weights: Sequence[int] = (), delivery: dict[str, Any] = NOT_NOW, **more: Any
) -> AsyncIterator[Outfit]:
    """A relay whose mail goes through these: "first", "second", "third"."""
    async with AsyncExitStack() as stack:
        tables = {}
        for name, provider in zip(("first", "second", "third"), providers, strict=False):
            server = await stack.enter_async_context(ScriptedMx(provider.mx))
            tables[name] = {"host": "127.0.0.1", "port": server.port, "security": "none", **provider.table}
        settings = routed(tmp_path, tables, weights=weights, delivery=delivery)
        yield await stack.enter_async_context(outfit(settings, **more))


def routed(tmp_path: Path, tables: dict[str, Any], *, delivery: dict[str, Any], weights: Sequence[int] = ()) -> Config:
    route = {"via": list(tables), "weights": list(weights)}
    return config(tmp_path / "spool", smarthost=tables, route=[route], delivery=delivery)


def passed_over(relay: Outfit) -> int:
    return int(relay.metrics.snapshot()["values"]["relay_smarthost_passed_over"][0][1])


def site(relay: Outfit, name: str) -> Any:
    return next(each for each in relay.shard.couriers.sites.values() if each.name == name)


GO_ON = [
    pytest.param({"GREETING": Act.DROP}, "reset", id="a connection that is reset"),
    pytest.param({"GREETING": b"421 4.3.2 busy\r\n"}, "421 4.3.2 busy", id="421 for a greeting"),
    pytest.param({"GREETING": b"554 5.7.1 go away\r\n"}, "554 5.7.1 go away", id="5xx for a greeting"),
    pytest.param({"EHLO": b"421 4.7.0 not you\r\n"}, "421 4.7.0 not you", id="4xx to EHLO"),
    pytest.param({"MAIL": b"451 4.3.0 our trouble\r\n"}, "451 4.3.0 our trouble", id="4xx to MAIL"),
    pytest.param({"MAIL": b"530 5.7.0 Authentication required\r\n"}, "530 5.7.0", id="a login wanted at MAIL"),
    pytest.param({"MAIL": b"550 5.7.1 go away\r\n"}, "550 5.7.1 go away", id="5xx to MAIL"),
    pytest.param({"MAIL": Act.DROP}, "reset", id="a session that breaks"),
    pytest.param({"RCPT": b"550 5.7.1 Relaying denied\r\n"}, "Relaying denied", id="no relaying for us"),
    pytest.param({"RCPT": b"421 4.7.0 too fast\r\n"}, "421 4.7.0 too fast", id="421 to RCPT"),
    pytest.param(
        {"END": b"454 Throttling failure: Maximum sending rate exceeded.\r\n"}, "Throttling", id="a rate after the dot"
    ),
    pytest.param(
        {"END": b"554 Message rejected: Email address is not verified.\r\n"}, "not verified", id="an unverified sender"
    ),
    pytest.param({"END": b"451 4.3.0 our trouble\r\n"}, "451 4.3.0", id="4xx after the dot"),
]


@pytest.mark.parametrize(("answers", "why"), GO_ON)
async def test_what_the_first_cannot_take_goes_to_the_next_in_the_same_attempt(
    answers: dict[str, Answer], why: str, tmp_path: Path
) -> None:
    first, second = Provider(Mx(answers, extensions=("8BITMIME",))), Provider()
    async with through(tmp_path, first, second) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert kinds(await relay.of("x@dest.example")) == [Kind.DELIVERED]
        assert event.attempt == 1
        assert event.detail.startswith("passed over first: ")
        assert why in event.detail
        assert (len(first.mx.messages), len(second.mx.messages)) == (0, 1)
        assert passed_over(relay) == 1
        assert await relay.left() == 0


async def test_a_smarthost_that_is_not_there_is_passed_over(closed_port: int, tmp_path: Path) -> None:
    second = Provider()
    async with through(tmp_path, Provider(table={"port": closed_port}), second) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert "Connection refused" in event.detail
        for number in range(20):
            await relay.submit(f"x{number}@other{number}.example")
        await until(lambda: len(second.mx.messages) == 21, what="the others go straight to the second")
        assert passed_over(relay) == 1


async def test_a_smarthost_whose_name_does_not_resolve_is_passed_over(tmp_path: Path) -> None:
    async with through(tmp_path, Provider(table={"host": "smtp.provider.example"}), Provider()) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert event.detail.startswith("passed over first: ")
        assert "smtp.provider.example" in event.detail


async def test_one_that_says_nothing_is_not_waited_for_long(tmp_path: Path) -> None:
    first, second = Provider(Mx({"GREETING": Act.STALL})), Provider()
    times = {"timeouts": {"greeting": "100ms"}, **NOT_NOW}
    async with through(tmp_path, first, second, delivery=times) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert "no reply within 0.1 s" in event.detail


@pytest.mark.parametrize(
    ("answers", "kind", "suppresses"),
    [
        pytest.param({"RCPT": b"550 5.1.1 User unknown\r\n"}, Kind.BOUNCED, True, id="who does not exist"),
        pytest.param({"RCPT": b"452 4.2.2 Mailbox full\r\n"}, Kind.DEFERRED, False, id="whose mailbox is full"),
        pytest.param({"END": b"554 5.6.0 Message contains a virus\r\n"}, Kind.BOUNCED, False, id="content"),
        pytest.param({"END": Act.DROP}, Kind.UNKNOWN, False, id="what may have been taken"),
    ],
)
async def test_what_no_other_smarthost_can_better_ends_with_the_first(
    answers: dict[str, Answer], kind: Kind, suppresses: bool, tmp_path: Path
) -> None:
    second = Provider()
    async with through(tmp_path, Provider(Mx(answers)), second) as relay:
        await relay.submit("x@dest.example", sender="")
        await relay.until("x@dest.example", kind)
        assert bool(await relay.suppressions()) == suppresses
        assert second.mx.sessions == []


async def test_a_5xx_against_us_that_nobody_knows_is_tried_again_after_the_last(tmp_path: Path) -> None:
    first, second = (Provider(Mx({"MAIL": b"550 5.7.1 go away\r\n"})) for _ in range(2))
    async with through(tmp_path, first, second) as relay:
        await relay.submit("x@dest.example", sender="")
        await relay.until("x@dest.example", Kind.DEFERRED)
        assert kinds(await relay.of("x@dest.example")) == [Kind.DEFERRED]
        assert [entry.attempts for entry in await relay.spool.find(Selection(), limit=9)] == [1]


async def test_of_one_transaction_each_recipient_goes_its_own_way(tmp_path: Path) -> None:
    answers: list[Answer] = [b"250 ok\r\n", b"550 5.1.1 no such user\r\n", b"451 4.3.0 later\r\n"]
    first, second = Provider(Mx({"RCPT": answers})), Provider()
    async with through(tmp_path, first, second) as relay:
        await relay.submit("a@dest.example", "b@dest.example", "c@dest.example", sender="")
        await relay.until("a@dest.example", Kind.DELIVERED)
        await relay.until("b@dest.example", Kind.BOUNCED)
        event = await relay.until("c@dest.example", Kind.DELIVERED)
        assert event.detail == "passed over first: 451 4.3.0 later"
        (message,) = second.mx.messages
        assert message.recipients == [b"RCPT TO:<c@dest.example>"]


async def test_what_one_refuses_and_another_cannot_take_now_is_deferred_once(closed_port: int, tmp_path: Path) -> None:
    refusing = Mx({"END": b"554 Message rejected: Email address is not verified.\r\n"}, extensions=("8BITMIME",))
    first, second = Provider(refusing), Provider(table={"port": closed_port})
    async with through(tmp_path, first, second) as relay:
        for name in ("x", "y"):  # the second finds the other in trouble already
            await relay.submit(f"{name}@dest.example")
            event = await relay.until(f"{name}@dest.example", Kind.DEFERRED)
            assert "passed over first: 554 Message rejected: Email address is not verified." in event.detail
            assert "Connection refused" in event.detail
        await until(lambda: len(relay.shard.scheduler.window) == 0, what="both wait on disk")
        assert sum(session.verbs.count("MAIL") for session in refusing.sessions) == 2
        assert [entry.attempts for entry in await relay.spool.find(Selection(), limit=9)] == [1, 1]


async def test_when_none_takes_it_the_attempt_says_what_each_said(closed_port: int, tmp_path: Path) -> None:
    second = Provider(Mx({"GREETING": b"421 4.3.2 busy\r\n"}))
    async with through(tmp_path, Provider(table={"port": closed_port}), second) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DEFERRED)
        assert (event.attempt, event.reply) == (1, "421 4.3.2 busy")
        assert "passed over first: 127.0.0.1[127.0.0.1]" in event.detail
        await relay.submit("y@dest.example")
        await until(lambda: relay.shard.scheduler.sites_of_domains() != {}, what="the domain waits for a smarthost")
        assert [entry.attempts for entry in await relay.spool.find(Selection(), limit=9)] == [1, 0]


async def test_mail_goes_back_to_the_first_when_it_is_well_again(tmp_path: Path) -> None:
    clock = Clock()
    first, second = Provider(Mx({"GREETING": b"421 4.3.2 busy\r\n"})), Provider()
    async with through(tmp_path, first, second, steady=clock) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        first.mx.be_orderly("GREETING")
        await relay.submit("b@dest.example")
        await relay.until("b@dest.example", Kind.DELIVERED)
        assert (len(first.mx.messages), len(second.mx.messages)) == (0, 2)
        clock.seconds += 31
        await relay.submit("c@dest.example")
        event = await relay.until("c@dest.example", Kind.DELIVERED)
        assert event.detail == ""
        assert (len(first.mx.messages), len(second.mx.messages)) == (1, 2)


async def test_while_the_first_is_probed_the_others_do_not_wait_for_it(tmp_path: Path) -> None:
    clock = Clock()
    first, second = Provider(Mx({"GREETING": [b"421 4.3.2 busy\r\n", Act.STALL]})), Provider()
    async with through(tmp_path, first, second, steady=clock) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        clock.seconds += 31
        await relay.submit("probe@dest.example")
        await until(lambda: len(first.mx.sessions) == 2, what="one message probes the first")
        await relay.submit("b@dest.example")
        await relay.until("b@dest.example", Kind.DELIVERED)
        assert kinds(await relay.of("probe@dest.example")) == []


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        pytest.param((), [40, 0, 0], id="without weights all goes to the first"),
        pytest.param((3, 1, 0), [30, 10, 0], id="three to one, and none to the last"),
        pytest.param((1, 1, 2), [10, 10, 20], id="as the weights say, in any order"),
    ],
)
async def test_messages_are_shared_exactly_by_weight(weights: Sequence[int], counts: list[int], tmp_path: Path) -> None:
    providers = [Provider() for _ in range(3)]
    async with through(tmp_path, *providers, weights=weights) as relay:
        for number in range(40):
            await relay.submit(f"x@d{number}.example", f"y@e{number}.example")  # two transactions each, one choice
        await until(lambda: sum(len(each.mx.messages) for each in providers) == 80, what="all have arrived")
        assert [len(each.mx.messages) for each in providers] == [2 * count for count in counts]
        pairs = [Counter(message.wire for message in each.mx.messages) for each in providers]
        assert all(count % 2 == 0 for each in pairs for count in each.values())


async def test_the_share_of_one_that_is_away_goes_to_those_that_are_not(tmp_path: Path) -> None:
    clock = Clock()
    first, second, last = Provider(Mx({"GREETING": b"421 4.3.2 busy\r\n"})), Provider(), Provider()
    async with through(tmp_path, first, second, last, weights=(9, 1, 0), steady=clock) as relay:
        for number in range(10):
            await relay.submit(f"x{number}@dest.example")
        await until(lambda: len(second.mx.messages) == 10, what="all go to the one that is left")
        first.mx.be_orderly("GREETING")
        clock.seconds += 1000
        for number in range(20):
            await relay.submit(f"y{number}@dest.example")
            await relay.until(f"y{number}@dest.example", Kind.DELIVERED)
        assert (len(first.mx.messages), len(second.mx.messages), last.mx.sessions) == (18, 12, [])


# What a smarthost says of us.


def with_login(authority: Authority, secret: Path) -> dict[str, Any]:
    secret.write_text("s3cret\n")
    return {"security": "starttls", "ca": str(authority.root), "login": "me", "secret_file": str(secret)}


async def test_mail_goes_out_with_a_login_over_verified_tls(
    authority: Authority, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    provider = Provider(
        Mx({"AUTH": b"235 2.7.0 In\r\n"}, extensions=EXTENSIONS, context=certificate),
        with_login(authority, tmp_path / "secret"),
    )
    async with through(tmp_path, provider) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert event.tls == "TLSv1.3 verified"
        assert "AUTH" in provider.mx.sessions[0].verbs


async def test_a_certificate_that_does_not_verify_gets_no_login(
    authority: Authority, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    table = {**with_login(authority, tmp_path / "secret")}
    del table["ca"]
    provider = Provider(Mx(extensions=EXTENSIONS, context=certificate), table)
    async with through(tmp_path, provider) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DEFERRED)
        assert "the certificate does not verify" in event.detail
        assert all("AUTH" not in session.verbs for session in provider.mx.sessions)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"535 5.7.8 Username and Password not accepted\r\n", id="a wrong secret"),
        pytest.param(b"454 4.7.0 Temporary authentication failure\r\n", id="trouble over there"),
        pytest.param(b"534 5.7.9 Application-specific password required\r\n", id="another kind of secret"),
        pytest.param(b"525 5.7.13 Account disabled\r\n", id="a disabled account"),
    ],
)
async def test_a_login_that_is_refused_bounces_nobodys_mail(
    answer: bytes, authority: Authority, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    provider = Provider(
        Mx({"AUTH": answer}, extensions=EXTENSIONS, context=certificate), with_login(authority, tmp_path / "secret")
    )
    async with through(tmp_path, provider) as relay:
        await relay.submit("x@dest.example", credential="shop")
        event = await relay.until("x@dest.example", Kind.DEFERRED)
        assert event.reply == answer.decode().strip()
        for number in range(10):
            await relay.submit(f"x{number}@d{number}.example", credential="blog")
        await until(lambda: len(relay.shard.scheduler.window) == 0, what="the others wait on disk for one probe")
        assert len(provider.mx.sessions) <= 2
        entries = await relay.spool.find(Selection(), limit=99)
        assert sorted(entry.attempts for entry in entries) == [0] * 10 + [1]
        assert site(relay, "first").in_trouble
        assert relay.metrics.snapshot()["values"]["relay_connections_out_failed"][4] == [["auth"], 1]


async def test_a_login_that_is_put_right_brings_all_at_once(
    authority: Authority, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    mx = Mx({"AUTH": b"535 5.7.8 no\r\n"}, extensions=EXTENSIONS, context=certificate)
    async with ScriptedMx(mx) as server:
        table = {"host": "127.0.0.1", "port": server.port, **with_login(authority, tmp_path / "secret")}
        clock = Clock()
        async with outfit(routed(tmp_path, {"first": table}, delivery=NOT_NOW), steady=clock) as relay:
            await relay.submit("x@dest.example")
            await relay.until("x@dest.example", Kind.DEFERRED)
            await relay.submit("y@dest.example")
            await until(lambda: len(relay.shard.scheduler.window) == 0, what="the second waits on disk")
            assert relay.shard.couriers.trouble.smarthosts == {"first": False}
            mx.answer("AUTH", b"235 2.7.0 In\r\n")
            (tmp_path / "secret").write_text("right\n")
            relay.reload(routed(tmp_path, {"first": table}, delivery=NOT_NOW))
            await relay.until("y@dest.example", Kind.DELIVERED)
            await until(lambda: len(relay.shard.couriers.sites) == 1, what="what it was before is forgotten")
            assert relay.shard.couriers.trouble.smarthosts == {"first": True}


async def test_with_a_login_refused_the_next_smarthost_has_all(
    authority: Authority, certificate: ssl.SSLContext, tmp_path: Path
) -> None:
    first = Provider(
        Mx({"AUTH": b"535 5.7.8 no\r\n"}, extensions=EXTENSIONS, context=certificate),
        with_login(authority, tmp_path / "secret"),
    )
    second = Provider()
    async with through(tmp_path, first, second) as relay:
        await relay.submit("x@dest.example")
        event = await relay.until("x@dest.example", Kind.DELIVERED)
        assert "535 5.7.8 no" in event.detail


REFUSALS = [
    pytest.param({"MAIL": b"530 5.7.0 Authentication Required\r\n"}, id="no login"),
    pytest.param(
        {"END": b"554 Message rejected: Sending paused for this account. For more information, see your inbox.\r\n"},
        id="an account that is paused",
    ),
    pytest.param({"END": b"550 5.4.5 Daily user sending limit exceeded. See the help\r\n"}, id="a day's quota, as 5xx"),
    pytest.param({"END": b"454 Throttling failure: Daily message quota exceeded.\r\n"}, id="a day's quota, as 4xx"),
    pytest.param({"MAIL": b"502 5.7.0 Your SMTP account is not yet activated\r\n"}, id="an account not yet activated"),
]


@pytest.mark.parametrize("answers", REFUSALS)
async def test_what_is_said_of_our_account_bounces_nothing_and_holds_the_rest_back(
    answers: dict[str, Answer], tmp_path: Path
) -> None:
    provider, clock = Provider(Mx(answers, extensions=("8BITMIME",))), Clock()
    async with through(tmp_path, provider, steady=clock) as relay:
        await relay.submit("x@dest.example", sender="")
        await relay.until("x@dest.example", Kind.DEFERRED)
        await until(lambda: site(relay, "first").in_trouble, what="the smarthost is in trouble")
        seen = len(provider.mx.sessions[0].commands)
        for number in range(10):
            await relay.submit(f"x{number}@d{number}.example")
        await until(lambda: len(relay.shard.scheduler.window) == 0, what="they wait on disk")
        assert [len(session.commands) for session in provider.mx.sessions] == [seen]
        assert await relay.suppressions() == []
        for verb in answers:
            provider.mx.be_orderly(verb)
        clock.seconds += 31
        await relay.until("x9@d9.example", Kind.DELIVERED)
        await until(lambda: len(provider.mx.messages) == 10, what="after one that went well all go")


# Limits.


async def test_what_is_over_an_hours_quota_goes_to_the_next(tmp_path: Path) -> None:
    first, second = Provider(table={"messages_per_hour": 5}), Provider()
    async with through(tmp_path, first, second) as relay:
        for number in range(8):
            await relay.submit(f"x{number}@dest.example")
        await until(lambda: len(first.mx.messages) + len(second.mx.messages) == 8, what="all have arrived")
        assert (len(first.mx.messages), len(second.mx.messages)) == (5, 3)


async def test_what_is_over_the_quota_of_the_only_one_waits_and_climbs_no_ladder(tmp_path: Path) -> None:
    provider = Provider(table={"messages_per_hour": 6, "messages_per_day": 100})
    async with through(tmp_path, provider) as relay:
        await relay.submit("a@dest.example", "b@dest.example", "c@dest.example")
        for number in range(5):
            await relay.submit(f"x{number}@dest.example")
        await until(lambda: len(provider.mx.messages) == 4, what="a message counts once for each recipient")
        await until(lambda: len(relay.shard.scheduler.window) == 0, what="the others wait on disk")
        entries = await relay.spool.find(Selection(), limit=99)
        assert [entry.attempts for entry in entries] == [0, 0]
        waits_for = relay.shard.scheduler.site_waited_for(entries[0])
        assert waits_for is not None
        assert waits_for.last_error == "our quota there is used up: 6 messages per hour and 100 messages per day"
        assert not waits_for.in_trouble


async def test_the_last_of_a_quota_is_used_up(tmp_path: Path) -> None:
    provider = Provider(table={"messages_per_hour": 6})
    async with through(tmp_path, provider) as relay:
        for message in range(2):
            await relay.submit(*(f"{message}-{number}@dest.example" for number in range(4)))
        await until(lambda: sum(len(each.recipients) for each in provider.mx.messages) == 6, what="six have gone")
        await until(lambda: len(relay.shard.scheduler.window) == 0, what="two wait on disk")
        assert [len(each.recipients) for each in provider.mx.messages] == [4, 1, 1]
        assert await relay.left() == 2


async def test_what_was_not_taken_does_not_count(tmp_path: Path) -> None:
    provider = Provider(Mx({"RCPT": [b"550 5.1.1 User unknown\r\n"] * 4}), {"messages_per_day": 2})
    async with through(tmp_path, provider) as relay:
        for number in range(4):
            await relay.submit(f"gone{number}@dest.example", sender="")
            await relay.until(f"gone{number}@dest.example", Kind.BOUNCED)
        for number in range(2):
            await relay.submit(f"x{number}@dest.example")
            await relay.until(f"x{number}@dest.example", Kind.DELIVERED)


async def test_a_connection_found_dead_spends_no_quota(tmp_path: Path) -> None:
    provider = Provider(Mx(), {"messages_per_day": 3})
    async with through(tmp_path, provider) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        provider.mx.answer("MAIL", [Act.CLOSE])
        for name in ("b", "c"):
            await relay.submit(f"{name}@dest.example")
            await relay.until(f"{name}@dest.example", Kind.DELIVERED)
        assert len(provider.mx.sessions) == 2


async def test_more_recipients_than_an_hours_quota_go_in_parts(tmp_path: Path) -> None:
    provider = Provider(table={"messages_per_hour": 2})
    async with through(tmp_path, provider) as relay:
        await relay.submit(*(f"x{number}@dest.example" for number in range(3)))
        await until(lambda: len(provider.mx.messages) == 1, what="two of them go")
        assert len(provider.mx.messages[0].recipients) == 2


async def test_a_transaction_has_no_more_recipients_than_its_smarthost_takes(tmp_path: Path) -> None:
    provider = Provider(table={"recipients": 2})
    async with through(tmp_path, provider) as relay:
        await relay.submit(*(f"x{number}@dest.example" for number in range(5)))
        await until(lambda: len(provider.mx.messages) == 3, what="all have arrived")
        assert [len(message.recipients) for message in provider.mx.messages] == [2, 2, 1]


async def test_a_smarthost_has_no_more_connections_than_its_table_says(tmp_path: Path) -> None:
    provider = Provider(HesitantMx(), {"connections": 1})
    assert isinstance(provider.mx, HesitantMx)
    async with through(tmp_path, provider) as relay:
        for number in range(5):
            await relay.submit(f"x{number}@dest.example")
        await provider.mx.asked.wait()
        provider.mx.may_answer.set()
        await until(lambda: len(provider.mx.messages) == 5, what="all have arrived")
        assert len(provider.mx.sessions) == 1


# Suspended by an operator.


async def test_what_is_for_a_suspended_smarthost_goes_to_the_next(tmp_path: Path) -> None:
    first, second = Provider(), Provider()
    async with through(tmp_path, first, second) as relay:
        relay.suspend("first")  # there was no mail for it yet
        await relay.submit("a@dest.example")
        assert (await relay.until("a@dest.example", Kind.DELIVERED)).detail == ""
        assert (first.mx.sessions, len(second.mx.messages), passed_over(relay)) == ([], 1, 0)
        relay.suspend()
        await relay.submit("b@dest.example")
        await relay.until("b@dest.example", Kind.DELIVERED)
        assert len(first.mx.messages) == 1


async def test_where_all_are_suspended_mail_waits_and_goes_through_whichever_is_resumed(tmp_path: Path) -> None:
    first, second = Provider(), Provider()
    async with through(tmp_path, first, second) as relay:
        relay.suspend("first", "second")
        await relay.submit("a@dest.example")
        await until(lambda: len(relay.shard.scheduler.window) == 0, what="it waits on disk")
        (entry,) = await relay.spool.find(Selection(), limit=9)
        assert (entry.attempts, first.mx.sessions, second.mx.sessions) == (0, [], [])
        waited_for = relay.shard.scheduler.site_waited_for(entry)
        assert waited_for is not None
        assert waited_for.suspension is not None
        relay.suspend("first")
        assert (await relay.until("a@dest.example", Kind.DELIVERED)).attempt == 1
        assert (first.mx.sessions, len(second.mx.messages)) == ([], 1)


async def test_what_waits_at_a_smarthost_that_is_being_suspended_goes_to_the_next(tmp_path: Path) -> None:
    first, second = Provider(HesitantMx(), {"connections": 1}), Provider()
    assert isinstance(first.mx, HesitantMx)
    async with through(tmp_path, first, second) as relay:
        await relay.submit("a@dest.example")
        await first.mx.asked.wait()
        for number in range(3):
            await relay.submit(f"b{number}@dest.example")
        relay.suspend("first")
        for number in range(3):
            assert (await relay.until(f"b{number}@dest.example", Kind.DELIVERED)).attempt == 1
        first.mx.may_answer.set()
        await relay.until("a@dest.example", Kind.DELIVERED)  # what was under way is finished
        assert (len(first.mx.messages), len(second.mx.messages)) == (1, 3)


async def test_what_the_first_cannot_take_is_deferred_where_the_next_is_suspended(tmp_path: Path) -> None:
    first, second = Provider(Mx({"MAIL": b"451 4.3.0 our trouble\r\n"})), Provider()
    async with through(tmp_path, first, second) as relay:
        relay.suspend("second")
        await relay.submit("a@dest.example")
        event = await relay.until("a@dest.example", Kind.DEFERRED)
        assert event.detail == "second is suspended by operator; passed over first: 451 4.3.0 our trouble"
        assert second.mx.sessions == []


async def test_one_that_is_suspended_counts_neither_as_taking_mail_nor_as_taking_none(tmp_path: Path) -> None:
    async with through(tmp_path, Provider(Mx({"GREETING": b"421 4.3.2 busy\r\n"})), Provider()) as relay:
        await relay.submit("a@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        assert relay.shard.couriers.trouble.smarthosts == {"first": False, "second": True}
        relay.suspend("first")
        assert relay.shard.couriers.trouble.smarthosts == {"second": True}


# Limits that change.


async def test_a_larger_quota_holds_from_a_reload_on(tmp_path: Path) -> None:
    async with ScriptedMx(mx := Mx()) as server:
        table = {"host": "127.0.0.1", "port": server.port, "security": "none", "messages_per_hour": 1}
        async with outfit(routed(tmp_path, {"first": table}, delivery=NOT_NOW)) as relay:
            for name in ("a", "b"):
                await relay.submit(f"{name}@dest.example")
            await until(lambda: site(relay, "first").last_error != "", what="the quota is used up")
            await until(lambda: len(relay.shard.scheduler.window) == 0, what="the other waits on disk")
            relay.reload(routed(tmp_path, {"first": {**table, "messages_per_hour": 2}}, delivery=NOT_NOW))
            await until(lambda: len(mx.messages) == 2, what="both have arrived")


async def test_a_pace_of_a_minute_counts_recipients_and_keeps_mail_waiting(tmp_path: Path) -> None:
    first, second = Provider(table={"messages_per_minute": 3}), Provider()
    async with through(tmp_path, first, second) as relay:
        await relay.submit("a@dest.example", "b@dest.example")
        await relay.until("a@dest.example", Kind.DELIVERED)
        await relay.submit("c@dest.example", "d@dest.example")
        await until(lambda: site(relay, "first").next_turn_at > 0, what="the next waits for its turn")
        assert (len(first.mx.messages), second.mx.sessions) == (1, [])


async def test_while_a_breaker_holds_one_smarthost_all_goes_by_the_next(tmp_path: Path) -> None:
    listed = b"554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org\r\n"
    first, second = Provider(Mx({"RCPT": listed})), Provider()
    async with through(tmp_path, first, second) as relay:
        for number in range(5):
            await relay.submit(f"{number}@dest.example")
            await relay.until(f"{number}@dest.example", Kind.DELIVERED)
        assert site(relay, "first").breakers.open
        assert site(relay, "first").governor.allowance.changes == ()  # what is blocked is not too fast
        assert len(second.mx.messages) == 5
        assert passed_over(relay) == 1
        assert await relay.left() == 0
