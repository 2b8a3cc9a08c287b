"""From nothing to what a server needs, and nothing more at the second start."""

import socket
import stat
import time
from pathlib import Path

import pytest

from relay.config.files import refuse_unsafe_files
from relay.config.load import load
from relay.errors import ConfigError, PermissionRefused, SpoolLocked
from relay.registry.store import Registry
from relay.server.quickstart import HTTP, UNPRIVILEGED, USUAL, Prepared, prepare_all
from relay.spool.lock import Lock

NOW = time.time()


async def prepared(directory: Path) -> Prepared:
    return await prepare_all(directory / "config" / "relay.toml", spool=directory / "spool", now=NOW)


def files(directory: Path) -> dict[Path, bytes]:
    """What an operator may have changed; databases change by being opened."""
    return {path: path.read_bytes() for path in sorted((directory / "config").rglob("*")) if path.is_file()}


async def test_a_first_start_makes_what_a_server_needs(tmp_path: Path) -> None:
    made = await prepared(tmp_path)
    refuse_unsafe_files(made.config)
    assert made.wrote_config
    assert made.config == load(tmp_path / "config" / "relay.toml")
    assert made.config.server.spool == tmp_path / "spool"
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert made.config.tls.ca == tmp_path / "config" / "tls" / "ca.pem"
    assert [(route.recipient_domain, route.via) for route in made.config.route] == [
        ("simulator.test", "simulator"),
        ("quickstart.test", "discard"),
    ]


async def test_the_credential_works_and_its_domain_signs(tmp_path: Path) -> None:
    made = await prepared(tmp_path)
    registry = await Registry.open(tmp_path / "spool", now=lambda: NOW)
    snapshot = registry.snapshot()
    await registry.close()
    found = snapshot.authenticate(made.login, made.secret, now=NOW)
    assert found is not None
    assert found.credential.name == "first"
    assert {key.algorithm for key in snapshot.domains["quickstart.test"].signing_keys} == {"rsa", "ed25519"}


async def test_a_second_start_keeps_everything_and_shows_no_secret(tmp_path: Path) -> None:
    first = await prepared(tmp_path)
    before = files(tmp_path)
    second = await prepared(tmp_path)
    assert files(tmp_path) == before
    assert (second.login, second.secret, second.wrote_config) == (first.login, "", False)
    assert second.config == first.config


async def test_what_an_interrupted_start_left_out_is_made_up_for(tmp_path: Path) -> None:
    await prepared(tmp_path)
    (tmp_path / "config" / "tls" / "fullchain.pem").unlink()
    second = await prepared(tmp_path)
    refuse_unsafe_files(second.config)


async def test_an_operators_own_certificate_is_never_made_up(tmp_path: Path) -> None:
    await prepared(tmp_path)
    path = tmp_path / "config" / "relay.toml"
    path.write_text(path.read_text().replace('"tls/fullchain.pem"', '"tls/real.pem"'))
    (tmp_path / "config" / "tls" / "privkey.pem").write_text("the operator's")
    await prepared(tmp_path)
    assert (tmp_path / "config" / "tls" / "privkey.pem").read_text() == "the operator's"
    assert not (tmp_path / "config" / "tls" / "real.pem").exists()


async def test_with_an_operators_own_ports_nothing_is_said_of_others(tmp_path: Path) -> None:
    await prepared(tmp_path)
    path = tmp_path / "config" / "relay.toml"
    text = path.read_text()
    starttls = next(line for line in text.splitlines() if line.startswith("starttls"))
    path.write_text(text.replace(starttls, 'starttls = ["127.0.0.1:12587"]'))
    assert (await prepared(tmp_path)).usual_ports


async def test_where_only_trusted_listeners_are_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "config" / "relay.toml"
    path.parent.mkdir()
    path.write_text(
        f'[server]\nhostname = "relay.example.com"\nspool = "{tmp_path / "spool"}"\n'
        "[submission]\nstarttls = []\ntls = []\n"
        '[[submission.trusted]]\nlisten = "127.0.0.1:2525"\nnetworks = ["127.0.0.0/8"]\ncredential = "printer"\n'
    )
    with pytest.raises(ConfigError, match="no listener for logins") as refused:
        await prepared(tmp_path)
    assert "relay serve" in refused.value.remedy
    assert not (tmp_path / "spool").exists()


async def test_a_server_that_runs_gets_no_credential_it_did_not_ask_for(tmp_path: Path) -> None:
    await prepared(tmp_path)
    registry = await Registry.open(tmp_path / "spool", now=lambda: NOW)
    await registry.remove_credential("first")
    lock = Lock(tmp_path / "spool" / "lock")
    with pytest.raises(SpoolLocked):
        await prepared(tmp_path)
    await registry.refresh()
    assert registry.snapshot().credentials == {}
    lock.release()
    await registry.close()


async def test_the_ports_are_the_usual_ones_or_those_that_anybody_may_bind(tmp_path: Path) -> None:
    """Whichever this machine lets us have: another program may listen on 587 here."""
    made = await prepared(tmp_path)
    submission = made.config.submission
    ports = tuple(int(each.rpartition(":")[2]) for each in (*submission.starttls, *submission.tls))
    assert ports == (USUAL if made.usual_ports else UNPRIVILEGED)
    assert all(each.startswith("127.0.0.1:") for each in (*submission.starttls, *submission.tls))


async def test_ports_that_are_taken_are_left_to_who_has_them(tmp_path: Path) -> None:
    with socket.socket() as taken, socket.socket() as http:
        for holder, port in ((taken, USUAL[1]), (http, HTTP[0])):
            try:
                holder.bind(("127.0.0.1", port))
                holder.listen()
            except OSError:
                continue  # somebody has it already
        made = await prepared(tmp_path)
    assert not made.usual_ports
    assert made.config.http.listen != f"127.0.0.1:{HTTP[0]}"


async def test_a_path_with_quotes_in_it_is_written_as_toml(tmp_path: Path) -> None:
    directory = tmp_path / 'the "new" \\ one'
    directory.mkdir()
    made = await prepared(directory)
    assert made.config.server.spool == directory / "spool"


async def test_where_nothing_can_be_written_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")
    with pytest.raises(PermissionRefused, match="config cannot be written: "):
        await prepared(tmp_path)
