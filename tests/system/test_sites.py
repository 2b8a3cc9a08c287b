"""Sites as an operator sees and steers them: `relay site` beside a running relay, with one worker and with two."""

import getpass
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.mail.event import Kind
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.shifted_clock import ShiftedClock
from tests.peers.waiting import eventually
from tests.system.relay_process import Login, RelayProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

WORKERS = pytest.mark.parametrize("workers", [pytest.param(1, id="one worker"), pytest.param(2, id="two workers")])
BUSY = b"451 4.7.1 later\r\n"
OPERATOR = os.environ.get("SUDO_USER") or getpass.getuser()
HOST = '[[site]] 1 in relay.toml: mx_suffix = "127.0.0.1"'
PAIR = "mx.exim.test+2-2031ed7db529"  # the site of pair.test and of swapped.test


@contextmanager
def running(relay: Make, mx: Mx, *, workers: int, **tables: Any) -> Iterator[tuple[RelayProcess, Login]]:
    """A relay with a credential, whose mail `mx` gets."""
    with receiving(mx) as receiver:
        server = relay(server={"workers": workers}, delivery={"port": receiver.port}, **tables)
        server.add_domain()
        login = server.add_credential()
        server.start()
        yield server, login


@contextmanager
def through(relay: Make, *smarthosts: Mx, workers: int = 1, **limits: Any) -> Iterator[tuple[RelayProcess, Login]]:
    """A relay whose mail goes through smarthosts: "ses", with these limits, then "spare"."""
    with ExitStack() as stack:
        tables: dict[str, Any] = {}
        for name, mx in zip(("ses", "spare"), smarthosts, strict=False):
            port = stack.enter_context(receiving(mx)).port
            tables[name] = {"host": "127.0.0.1", "port": port, "security": "none"}
        tables["ses"] |= limits
        site = {"mx_suffix": "127.0.0.1", "connections": 7, "messages_per_minute": 90}
        route = {"via": list(tables)}
        yield stack.enter_context(running(relay, Mx(), workers=workers, smarthost=tables, route=[route], site=[site]))


def told(server: RelayProcess, *words: str) -> Any:
    """What a command says with --json."""
    done = server.command("site", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(server: RelayProcess, *words: str) -> tuple[int, str]:
    """The exit code, and what is wrong with what to do."""
    done = server.command("site", *words)
    return done.returncode, done.stderr


def reload(server: RelayProcess, **tables: Any) -> None:
    before = len(server.log("config reloaded"))
    server.configure(**tables)
    server.signal(signal.SIGHUP)
    server.logged("config reloaded", times=before + server.tables["server"]["workers"])


class TestLooking:
    @WORKERS
    def test_a_site_is_shown_with_the_origin_of_each_limit(self, relay: Make, workers: int) -> None:
        tables = {"site": [{"domain": "swapped.test", "connections": 3, "idle": "1m"}]}
        with running(relay, Mx({"RCPT": BUSY}), workers=workers, **tables) as (server, login):
            server.send(login, "a@pair.test", "b@pair.test")
            server.send(login, "c@swapped.test")
            eventually(lambda: told(server, "show", "pair.test")["last_error"], what="the server was busy")
            site = told(server, "show", "swapped.test")
            assert [each["site"] for each in told(server, "list")] == [PAIR]
            assert (site["site"], site["mx"], site["profile"]) == (PAIR, ["mx.exim.test", "mx.postfix.test"], "default")
            assert site["limits"]["connections"] == {
                "value": 3,
                "origin": '[[site]] 1 in relay.toml: domain = "swapped.test"',
            }
            assert site["limits"]["idle"]["value"] == 60.0
            assert site["limits"]["recipients"] == {"value": 100, "origin": "default"}
            assert (site["state"], site["queued"], site["last_error"]) == ("waiting", 3, "451 4.7.1 later")
            assert (sorted(site["domains"]), site["domain_count"]) == (["pair.test", "swapped.test"], 2)
            assert 0 < site["oldest_seconds"] < 60

    def test_mail_that_waits_for_tls_says_so_and_why(self, relay: Make) -> None:
        tables = {"site": [{"mx_suffix": "mx.exim.test", "tls": "required", "discard_ehlo_keywords": ["DSN"]}]}
        with running(relay, Mx(), workers=1, **tables) as (server, login):
            message = server.send(login, "a@pair.test")
            server.event(Kind.DEFERRED, message=message)
            origin = '[[site]] 1 in relay.toml: mx_suffix = "mx.exim.test"'
            limits = told(server, "show", PAIR)["limits"]
            assert limits["tls"] == {"value": "required", "origin": origin}
            assert limits["discard_ehlo_keywords"] == {"value": ["DSN"], "origin": origin}
            shown = " ".join(server.command("site", "show", PAIR).stdout.split())
            assert f"tls required {origin}" in shown
            assert f"discard_ehlo_keywords DSN {origin}" in shown
            why = " ".join(server.command("queue", "why", message).stdout.split())
            assert f"TLS needed required ({origin})" in why
            waits = f'4.7.4 the server does not offer STARTTLS; mail waits, for tls = "required" there ({origin})'
            assert why.count(waits) >= 2  # of the last try, and of the site
            server.configure(site=[])
            server.signal(signal.SIGHUP)
            server.logged("config reloaded")
            server.command("queue", "retry", message)
            server.event(Kind.DELIVERED, message=message)
            assert told(server, "show", PAIR)["limits"]["tls"] == {"value": "opportunistic", "origin": "default"}

    def test_a_name_is_a_sites_a_domains_or_a_hosts(self, relay: Make) -> None:
        with running(relay, Mx(), workers=1) as (server, login):
            for name in ("pair.test", "PAIR.test.", "swapped.test"):
                assert told(server, "show", name)["site"] == PAIR  # by DNS: there was no mail for it yet
            server.event(Kind.DELIVERED, message=server.send(login, "a@pair.test"))
            for name in (PAIR, "pair.test", "mx.exim.test", "mx.postfix.test"):
                assert told(server, "show", name)["site"] == PAIR
            assert told(server, "show", "bücher.test")["site"] == "mx.postfix.test"

    def test_a_smarthost_is_a_site_and_has_the_mail_that_a_route_sends_there(self, relay: Make) -> None:
        with receiving(Mx({"RCPT": BUSY})) as smarthost:
            via = {"via": f"smtp://LocalHost:{smarthost.port}", "security": "none"}
            with running(relay, Mx(), workers=1, route=[via]) as (server, login):
                server.event(Kind.DEFERRED, message=server.send(login, "a@pair.test"))
                site = told(server, "show", "pair.test")
                assert (site["site"], site["mx"]) == (f"LocalHost:{smarthost.port}", ["localhost"])
                assert (site["queued"], site["last_error"]) == (1, "451 4.7.1 later")
                assert told(server, "show", f"localhost:{smarthost.port}")["queued"] == 1
                assert "tls" not in site["limits"]  # its security says it
                told(server, "suspend", "localhost")
                assert told(server, "list")[0]["state"] == "suspended"
                assert refused(server, "show", "no..domain")[0] == os.EX_NOUSER

    def test_a_smarthost_is_shown_with_its_limits_its_state_and_its_quota(self, relay: Make) -> None:
        own = "[smarthost.ses] in relay.toml"
        with through(relay, Mx(), messages_per_day=2, connections=3) as (server, login):
            site = told(server, "show", "ses")  # there was no mail for it yet
            assert (site["site"], site["mx"], site["state"]) == ("ses", ["127.0.0.1"], "idle")
            assert site["limits"]["connections"] == {"value": 3, "origin": own}
            assert site["limits"]["recipients"] == {"value": 50, "origin": "default of smarthosts"}
            assert site["limits"]["messages_per_minute"] == {"value": 90, "origin": HOST}
            assert site["limits"]["messages_per_day"] == {"value": 2, "origin": own}
            for _ in range(2):
                server.event(Kind.DELIVERED, message=server.send(login, "a@pair.test"))
            message = server.send(login, "b@pair.test")
            eventually(lambda: told(server, "show", "ses")["state"] == "out_of_quota", what="the quota is used up")
            site = told(server, "show", "ses")
            assert (site["queued"], site["last_error"]) == (1, "our quota there is used up: 2 messages per day")
            assert site["next_probe_at"]
            assert (
                "state       our quota there is used up; the next message goes "
                in server.command("site", "show", "pair.test").stdout
            )
            text = server.command("queue", "why", message).stdout
            assert "held back by  our quota there is used up: 2 messages per day" in text

    def test_a_host_of_several_sites_is_no_one_site(self, relay: Make) -> None:
        with running(relay, Mx(), workers=1) as (server, login):
            server.event(Kind.DELIVERED, message=server.send(login, "a@pair.test"))
            server.event(Kind.DELIVERED, message=server.send(login, "a@spare.test"))
            code, said = refused(server, "show", "mx.exim.test")
            assert code == os.EX_USAGE
            assert '"mx.exim.test" is an MX host of 2 sites' in said
            assert PAIR in said

    def test_a_name_of_no_site_is_refused_with_the_reason(self, relay: Make) -> None:
        tables = {"route": [{"recipient_domain": "gone.test", "via": "discard"}]}
        with running(relay, Mx(), workers=1, **tables) as (server, _):
            for name, code, reason in (
                ("null.test", os.EX_NOUSER, "null.test does not accept mail (null MX)"),
                ("gone.test", os.EX_NOUSER, "a route of relay.toml discards its mail"),
                ("mx.gone.test+2-0123456789ab", os.EX_NOUSER, "the domain has a label that is not letters"),
                ("broken.test", os.EX_UNAVAILABLE, "Ask again later"),
            ):
                assert refused(server, "show", name)[0] == code
                assert reason in refused(server, "show", name)[1]

    def test_mail_whose_site_nobody_has_asked_for_since_the_start_is_told_besides(self, relay: Make) -> None:
        with running(relay, Mx({"RCPT": BUSY}), workers=2) as (server, login):
            server.event(Kind.DEFERRED, message=server.send(login, "a@pair.test"))
            server.stop()
            server.start()
            done = server.command("site", "list")
            assert done.stdout == "No mail waits for a known site, and none is connected to.\n"
            assert done.stderr.startswith("1 recipient of 1 domain besides")
            assert "relay site show pair.test" in done.stderr
            assert told(server, "show", "pair.test")["queued"] == 1

    def test_without_a_server_it_is_said_what_to_do(self, relay: Make) -> None:
        server = relay()
        server.add_domain()
        for words in (("list",), ("show", "pair.test")):
            code, said = refused(server, *words)
            assert code == os.EX_UNAVAILABLE
            assert "no relay runs on" in said
            assert "Start it." in said

    @WORKERS
    def test_a_reload_changes_what_is_shown_of_a_site_in_use(self, relay: Make, workers: int) -> None:
        with running(relay, Mx({"RCPT": BUSY}), workers=workers) as (server, login):
            server.send(login, "a@pair.test")
            eventually(lambda: told(server, "list"), what="there is mail for the site")
            assert told(server, "show", PAIR)["limits"]["connections"] == {"value": 10, "origin": "default"}
            reload(server, site=[{"mx_suffix": "exim.test", "connections": 1}])
            origin = '[[site]] 1 in relay.toml: mx_suffix = "exim.test"'
            assert told(server, "show", PAIR)["limits"]["connections"] == {"value": 1, "origin": origin}

    @WORKERS
    def test_a_pace_holds_for_all_workers_together_and_is_told_as_what_holds_mail_back(
        self, relay: Make, workers: int
    ) -> None:
        mx = Mx()
        tables = {"site": [{"mx_suffix": "exim.test", "messages_per_hour": 6}]}
        with running(relay, mx, workers=workers, **tables) as (server, login):
            ids = [server.send(login, f"{number}@pair.test") for number in range(12)]
            eventually(lambda: len(server.events(kind=Kind.DELIVERED)) == 6, what="as many as may are sent")
            eventually(lambda: told(server, "show", PAIR)["next_turn_at"], what="the others wait")
            site = told(server, "show", PAIR)
            assert (site["state"], site["queued"], len(mx.messages)) == ("waiting", 6, 6)
            assert server.events(kind=Kind.DEFERRED) == []
            late = next(each for each in ids if not server.events(message=each, kind=Kind.DELIVERED))
            (why,) = json.loads(server.command("queue", "why", late, "--json").stdout)
            assert (why["site"], why["mx_hosts"], why["attempts"]) == (PAIR, site["mx"], 0)
            text = server.command("queue", "why", late).stdout
            assert 'the site\'s pace: messages_per_hour = 6 ([[site]] 1 in relay.toml: mx_suffix = "exim.test")' in text
            reload(server, site=[])
            eventually(lambda: len(mx.messages) == 12, what="without the limit they are sent")


class TestSuspending:
    @WORKERS
    def test_nothing_is_sent_on_any_worker_until_it_is_resumed(self, relay: Make, workers: int) -> None:
        mx = Mx()
        with running(relay, mx, workers=workers) as (server, login):
            ids = [server.send(login, "a@pair.test") for _ in range(4)]
            for message in ids:
                server.event(Kind.DELIVERED, message=message)
            server.command(
                "site", "suspend", "swapped.test", "--for", "2h", "--reason", "they asked"
            ).check_returncode()
            connections, waiting = len(mx.sessions), [server.send(login, f"{n}@pair.test") for n in range(8)]
            other = server.send(login, "a@postfix.test")
            server.event(Kind.DELIVERED, message=other)
            server.command("queue", "retry", "--all").check_returncode()
            reload(server)
            site = told(server, "show", "pair.test")
            assert (site["state"], site["queued"], site["connections"]) == ("suspended", 8, 0)
            assert (site["suspended"]["by"], site["suspended"]["reason"]) == (OPERATOR, "they asked")
            assert len(mx.messages) == 5
            assert len(mx.sessions) == connections + 1  # the other site's
            done = server.command("site", "resume", PAIR)
            assert (done.returncode, done.stdout) == (0, f"{PAIR} is resumed\n")
            for message in waiting:
                assert server.event(Kind.DELIVERED, message=message).attempt == 1
            assert told(server, "show", "pair.test")["suspended"] is None

    @WORKERS
    def test_it_outlives_a_restart_and_a_killed_server(self, relay: Make, workers: int) -> None:
        mx = Mx()
        with running(relay, mx, workers=workers) as (server, login):
            server.command("site", "suspend", "pair.test").check_returncode()
            message = server.send(login, "a@pair.test", "b@swapped.test")
            server.stop()
            server.start()
            server.kill()
            server.start()
            server.send(login, "c@pair.test")
            eventually(lambda: told(server, "show", "pair.test")["queued"] == 3, what="it waits on disk")
            assert told(server, "list")[0]["mx"] == ["mx.exim.test", "mx.postfix.test"]
            assert mx.sessions == []
            server.stop()
            done = server.command(
                "site", "resume", "mx.exim.test"
            )  # without a server: by the hosts it was suspended with
            assert (done.returncode, done.stdout) == (0, f"{PAIR} is resumed\n")
            server.start()
            server.event(Kind.DELIVERED, message=message)

    @WORKERS
    def test_mail_for_a_suspended_smarthost_goes_to_the_next_or_waits(self, relay: Make, workers: int) -> None:
        first, second = Mx(), Mx()
        with through(relay, first, second, workers=workers) as (server, login):
            told(server, "suspend", "ses", "--reason", "their request")
            for _ in range(4):
                server.event(Kind.DELIVERED, message=server.send(login, "a@pair.test"))
            assert (first.sessions, len(second.messages)) == ([], 4)
            told(server, "suspend", "spare")
            message = server.send(login, "a@pair.test")
            eventually(lambda: sum(each["queued"] for each in told(server, "list")) == 1, what="it waits")
            (why,) = json.loads(server.command("queue", "why", message, "--json").stdout)
            assert why["site_suspended"]["site"] in ("ses", "spare")
            assert why["attempts"] == 0
            told(server, "resume", "ses")
            assert server.event(Kind.DELIVERED, message=message).attempt == 1
            assert (len(first.messages), len(second.messages)) == (1, 4)

    def test_it_is_told_where_an_operator_looks(self, relay: Make) -> None:
        with running(relay, Mx(), workers=2) as (server, login):
            server.command("site", "suspend", "pair.test", "--reason", "a test").check_returncode()
            message = server.send(login, "a@pair.test")
            (why,) = json.loads(server.command("queue", "why", message, "--json").stdout)
            assert why["attempts"] == 0
            assert (why["site_suspended"]["site"], why["site_suspended"]["until"]) == (PAIR, None)
            text = server.command("queue", "why", message).stdout
            assert "held back by  the site is suspended since " in text
            assert f"by {OPERATOR}, until it is resumed: a test" in text
            assert f"relay site resume {PAIR}" in text
            eventually(lambda: told(server, "list")[0]["queued"] == 1, what="it waits for the site")
            status = json.loads(server.command("status", "--json").stdout)
            assert [(each["site"], each["by"], each["reason"]) for each in status["suspended"]] == [
                (PAIR, OPERATOR, "a test")
            ]
            assert (status["sites"][0]["site"], status["sites"][0]["why"]) == (PAIR, f"suspended by {OPERATOR}")
            assert "a test" in server.command("status").stdout
            assert server.metric("relay_sites_suspended") == 1
            assert server.logged("site suspended", times=2)["reason"] == "a test"
            told(server, "resume", "pair.test")
            assert server.logged("site resumed", times=2)["by"] == OPERATOR
            server.event(Kind.DELIVERED, message=message)
            assert server.metric("relay_sites_suspended") == 0

    def test_one_whose_time_is_over_gets_its_mail(self, relay: Make) -> None:
        with running(relay, Mx(), workers=2) as (server, login):
            told(server, "suspend", "pair.test", "--for", "2s")
            message = server.send(login, "a@pair.test")
            assert server.event(Kind.DELIVERED, message=message).attempt == 1
            assert server.logged("site resumed", times=2)["by"] == "its time is over"

    def test_a_host_stands_for_all_its_sites(self, relay: Make) -> None:
        with running(relay, Mx(), workers=1) as (server, login):
            for domain in ("pair.test", "spare.test"):
                server.event(Kind.DELIVERED, message=server.send(login, f"a@{domain}"))
            suspended = told(server, "suspend", "mx.exim.test")
            assert len(suspended) == 2
            assert [each["in_force"] for each in suspended] == [True, True]
            assert [each["state"] for each in told(server, "list")] == ["suspended", "suspended"]
            assert len(told(server, "resume", "mx.exim.test")) == 2

    def test_what_cannot_be_is_refused(self, relay: Make) -> None:
        with running(relay, Mx(), workers=1) as (server, _):
            for words, code, said in (
                (("resume", "pair.test"), os.EX_NOUSER, '"pair.test" is not suspended'),
                (("suspend", "null.test"), os.EX_NOUSER, "does not accept mail"),
                (("suspend", "pair.test", "--for", "long"), os.EX_USAGE, '--for "long" is no duration'),
                (("suspend", "pair.test", "--for", "0s"), os.EX_USAGE, '--for "0s" is no time'),
            ):
                assert refused(server, *words)[0] == code
                assert said in refused(server, *words)[1]
            server.stop()
            code, words_said = refused(server, "suspend", "pair.test")
            assert (code, "queue hold" in words_said) == (os.EX_UNAVAILABLE, True)


def test_what_is_told_goes_by_the_clock_that_was_set_back(
    relay: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ShiftedClock(tmp_path)
    for name, value in clock.environment.items():
        monkeypatch.setenv(name, value)
    refused = b"550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact us. (S3150)\r\n"
    with running(relay, Mx({"RCPT": refused}), workers=1) as (server, login):
        server.send(login, "x@dead.test")
        server.event(Kind.DEFERRED, recipient="x@dead.test")
        server.send(login, "x@postfix.test")
        server.event(Kind.BOUNCED, recipient="x@postfix.test")
        clock.shift(days=-10)
        soon = (datetime.now(UTC) - timedelta(days=10) + timedelta(hours=1)).isoformat()
        assert told(server, "show", "dead.test")["next_probe_at"] < soon
        (breaker,) = told(server, "show", "postfix.test")["breakers"]
        assert breaker["probe_at"] < soon
