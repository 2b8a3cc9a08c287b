"""cli.check: what keeps a server from starting, or mail from moving, is found before it happens."""

import contextlib
import os
import resource
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Relay
from tests.cli.test_queue import fill, owner
from tests.peers.certificates import Authority
from tests.peers.dns import authoritative


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    directory = tmp_path / "ca"
    directory.mkdir()
    return Authority(directory)


@pytest.fixture
def ready(relay: Relay, authority: Authority, tmp_path: Path) -> Iterator[Relay]:
    """A machine on which everything is as it should be."""
    issued = authority.issue("relay.example.com")
    issued.key.chmod(0o600)
    dns = tmp_path / "dns"
    dns.mkdir()
    with authoritative(dns, {"relay.example.com": "@ A 192.0.2.1\n"}) as nameserver:
        relay.config.write_text(
            '[server]\nhostname = "relay.example.com"\nspool = "spool"\n'
            '[submission]\nstarttls = ["127.0.0.1:0"]\ntls = []\n'
            f'[tls]\ncertificate = "{issued.certificate}"\nkey = "{issued.key}"\n'
            f'[dns]\nnameservers = ["{nameserver}"]\ntimeout = "2s"\n'
            '[http]\nlisten = "127.0.0.1:0"\n'
        )
        relay.json("domain", "add", "shop.example")
        yield relay


def findings(relay: Relay, *, code: int = os.EX_CONFIG) -> dict[str, Any]:
    """The errors and warnings by subject."""
    answer = relay("check", "--json")
    assert answer.code == code, answer.out + answer.err
    assert answer.json["ok"] == (code == 0)
    return {each["subject"]: each for each in answer.json["findings"] if each["grade"] != "ok"}


def change(relay: Relay, before: str, after: str) -> None:
    text = relay.config.read_text()
    assert before in text
    relay.config.write_text(text.replace(before, after))


def test_a_machine_that_is_ready(ready: Relay) -> None:
    assert set(findings(ready, code=0)) == {"domain"}  # whose records nobody has looked up yet
    text = ready("check").out
    assert "is valid" in text
    assert "192.0.2.1" in text


def test_a_certificate_that_does_not_match_its_key(ready: Relay, authority: Authority) -> None:
    other = authority.issue("other.example.com")
    other.key.chmod(0o600)
    text = ready.config.read_text()
    key = next(line for line in text.splitlines() if line.startswith("key"))
    change(ready, key, f'key = "{other.key}"')
    found = findings(ready)["certificate"]
    assert "is not the key of the certificate" in found["text"]
    assert found["remedy"]


def test_a_certificate_that_has_expired(ready: Relay, authority: Authority) -> None:
    expired = authority.issue("relay.example.com", expired=True)
    lines = ready.config.read_text().splitlines()
    changed = {"certificate": f'certificate = "{expired.certificate}"', "key": f'key = "{expired.key}"'}
    ready.config.write_text("\n".join(changed.get(line.partition(" ")[0], line) for line in lines) + "\n")
    assert "expired" in findings(ready)["certificate"]["text"]


def test_a_certificate_for_another_name(ready: Relay) -> None:
    change(ready, 'hostname = "relay.example.com"', 'hostname = "mail.relay.example.com"')
    found = findings(ready, code=0)["certificate"]
    assert found["text"].endswith("is for relay.example.com")
    assert "mail.relay.example.com" in found["remedy"]


def test_a_certificate_that_is_not_there(relay: Relay) -> None:
    found = findings(relay)
    assert "does not exist" in found["files"]["text"]
    assert "certificate" in found


def test_a_secret_that_is_no_text(ready: Relay, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff\xfe")
    secret.chmod(0o600)
    change(
        ready,
        "[http]\n",
        f'[[route]]\nvia = "smtp://smarthost.example:587"\nlogin = "me"\nsecret_file = "{secret}"\n[http]\n',
    )
    assert f"{secret} holds no secret" in findings(ready)["routes"]["text"]


def test_a_secret_that_everyone_can_read(ready: Relay, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("x")
    secret.chmod(0o644)
    change(ready, "[http]\n", f'[http]\ntoken_file = "{secret}"\n')
    assert f"chmod o-rwx {secret}" in findings(ready)["files"]["text"]


def test_a_port_in_use(ready: Relay) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        change(ready, 'starttls = ["127.0.0.1:0"]', f'starttls = ["127.0.0.1:{port}"]')
        found = findings(ready)["listener"]
        assert found["text"] == f"127.0.0.1:{port} is in use by another program"
        assert f":{port}" in found["remedy"]


def test_a_running_server_has_its_ports(ready: Relay) -> None:
    fill(ready)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken, owner(ready):
        change(ready, 'starttls = ["127.0.0.1:0"]', f'starttls = ["127.0.0.1:{taken.getsockname()[1]}"]')
        assert "listener" not in findings(ready, code=0)


def test_an_address_that_is_not_this_machines(ready: Relay) -> None:
    change(ready, 'starttls = ["127.0.0.1:0"]', 'starttls = ["192.0.2.77:2587"]')
    found = findings(ready)
    assert "192.0.2.77:2587 is no address of this machine" in found["listener"]["text"]


def test_a_resolver_that_does_not_answer(ready: Relay) -> None:
    text = ready.config.read_text()
    nameservers = next(line for line in text.splitlines() if line.startswith("nameservers"))
    change(ready, nameservers, 'nameservers = ["127.0.0.1:9"]')
    change(ready, 'timeout = "2s"', 'timeout = "300ms"')
    assert "it does not answer" in findings(ready)["DNS"]["text"]


def test_a_host_name_that_nobody_can_look_up(ready: Relay) -> None:
    change(ready, 'hostname = "relay.example.com"', 'hostname = "absent.relay.example.com"')
    assert findings(ready, code=0)["DNS"]["grade"] == "warning"


def test_names_that_relay_toml_and_the_registry_do_not_share(ready: Relay) -> None:
    ready.json("credential", "add", "news", "--from", "*@shop.example", "--stream", "bulk")
    change(
        ready,
        "tls = []\n",
        'tls = []\n[[submission.trusted]]\nlisten = "127.0.0.1:0"\nnetworks = ["127.0.0.0/8"]\ncredential = "local"\n',
    )
    found = findings(ready)["credential"]
    assert 'names the credential "local", which does not exist' in found["text"]
    assert "relay credential add local" in found["remedy"]


def test_a_credential_of_a_stream_that_is_gone(ready: Relay) -> None:
    change(ready, "[http]\n", "[stream.invoices]\n[http]\n")
    ready.json("credential", "add", "books", "--from", "*@shop.example", "--stream", "invoices")
    change(ready, "[stream.invoices]\n", "")
    assert 'unknown stream "invoices"' in findings(ready)["credential"]["text"]


def test_no_sender_domain(ready: Relay) -> None:
    ready.json("domain", "remove", "shop.example")
    assert findings(ready, code=0)["domain"]["text"] == "there is no sender domain"


def test_rules_that_cannot_be_read(ready: Relay, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nnonsense = 1\n")
    change(ready, "[http]\n", f'[delivery]\nrules = "{rules}"\n[http]\n')
    assert str(rules) in findings(ready)["bounce rules"]["text"]


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        pytest.param("registry", "registry.db", id="credentials and domains"),
        pytest.param("suppressions", "suppression.db", id="suppressions"),
        pytest.param("spool", "shard-0/queue.db", id="the queue"),
        pytest.param("journal", "shard-0/journal-2026-11-20.db", id="a day of the journal"),
    ],
)
def test_a_database_of_a_newer_relay(ready: Relay, subject: str, name: str) -> None:
    fill(ready)
    with contextlib.closing(sqlite3.connect(ready.spool / name)) as connection:
        connection.execute("PRAGMA user_version = 99")
    found = findings(ready)[subject]
    assert name in found["text"] and "version 99" in found["text"]
    assert found["remedy"]


def test_nothing_is_made_where_nothing_is(relay: Relay) -> None:
    relay("check")
    assert list(relay.spool.iterdir()) == []


def test_a_registry_of_an_older_relay_is_told_and_left_as_it_is(ready: Relay) -> None:
    with contextlib.closing(sqlite3.connect(ready.spool / "registry.db")) as connection:
        connection.execute("PRAGMA user_version = 1")
        found = findings(ready, code=0)["registry"]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert "registry.db has version 1" in found["text"] and "relay spool backup" in found["remedy"]


def test_a_limit_of_open_files_too_low(ready: Relay) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = 1_000_000_000 if hard == resource.RLIM_INFINITY else hard
    change(ready, "[http]\n", f"[delivery]\nconnections = {connections}\n[http]\n")
    expected = {"open files"} if hard != resource.RLIM_INFINITY else set()
    assert {"open files"} & set(findings(ready, code=0)) == expected
    assert soft <= hard or hard == resource.RLIM_INFINITY


def test_a_systemd_credential_is_left_to_the_service(relay: Relay) -> None:
    change(relay, "tls/fullchain.pem", "${CREDENTIALS_DIRECTORY}/fullchain.pem")
    change(relay, "tls/privkey.pem", "${CREDENTIALS_DIRECTORY}/privkey.pem")
    answer = relay("check", "--json")
    (certificate,) = [each for each in answer.json["findings"] if each["subject"] == "certificate"]
    assert certificate["grade"] == "ok"
