"""A backup made under load is put in place elsewhere, and a relay there delivers all that was still owed."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.mail.event import Kind
from tests.peers.mx import Mx
from tests.peers.receiving import receiving
from tests.peers.verifiers import by_opendkim
from tests.peers.waiting import eventually
from tests.system.relay_process import DOMAIN, SELECTORS, RelayProcess, letter
from tests.system.test_processes import Crowd

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Make = Callable[..., RelayProcess]

LARGE = letter("a large one") + b"0123456789abcdef\r\n" * 10_000
HERE = "someone@postfix.test"


def test_a_restored_backup_delivers_all_that_was_owed_signed_with_the_same_keys(
    relay: Make, tmp_path: Path, nameserver: str
) -> None:
    before, after = Mx(), Mx()
    with receiving(before) as receiver, receiving(after) as other:
        server = relay(server={"workers": 2}, delivery={"port": receiver.port})
        server.add_domain()
        login, held = server.add_credential(), server.add_credential("held")
        server.start()
        assert server.command("credential", "hold", "held").returncode == 0
        eventually(lambda: server.send(held, HERE) in ids(server, "--status", "held"), what="its mail is held")
        waiting = [server.send(held, HERE, HERE.replace("some", "any"), content=LARGE) for _ in range(6)]
        with Crowd(server, login, clients=4) as crowd:
            crowd.sends(60)
            acknowledged = list(crowd.acknowledged)
            value = backup(server, tmp_path / "backup")
            crowd.sends(60)
        delivered = {event.message for event in server.events(kind=Kind.DELIVERED)}
        server.stop()
        restored = relay(server={"workers": 2}, delivery={"port": other.port})
        shutil.copytree(tmp_path / "backup" / "spool", restored.spool)
        assert (tmp_path / "backup" / "relay.toml").read_bytes() == server.config_path.read_bytes()
        verified = restored.command("spool", "verify", "--json")
        assert verified.returncode == 0, verified.stdout
        owed = ids(restored)
        assert len(owed) == sum(each["messages"] for each in value["shards"].values())
        assert set(acknowledged) - delivered <= owed and set(waiting) <= owed
        restored.start()
        assert restored.command("queue", "release", "--all").returncode == 0
        fresh = restored.send(login, HERE)
        eventually(lambda: not ids(restored), what="all that the backup has is delivered")
        assert delivered_by(restored) >= {*owed, fresh}
        arrived = b"\n".join(message.wire for message in (*before.messages, *after.messages))
        assert [each for each in {*acknowledged, *waiting} if each.encode() not in arrived] == []
        contents = [message.content for message in after.messages if b"0123456789abcdef" in message.content]
        contents += [message.content for message in after.messages if fresh.encode() in message.wire]
        passed = dict.fromkeys(SELECTORS, "pass")
        assert by_opendkim(contents, nameserver=nameserver, domain=DOMAIN) == [passed] * len(contents) and contents


def backup(server: RelayProcess, directory: Path) -> dict[str, dict[str, dict[str, int]]]:
    """The manifest, once its sums are found right."""
    made = server.command("spool", "backup", str(directory), "--json")
    assert made.returncode == 0, made.stderr
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=directory, check=True)
    value: dict[str, dict[str, dict[str, int]]] = json.loads(made.stdout)
    return value


def ids(server: RelayProcess, *flags: str) -> set[str]:
    answer = server.command("queue", "list", "--limit", "100000", "--json", *flags)
    return {entry["id"] for entry in json.loads(answer.stdout)}


def delivered_by(server: RelayProcess) -> set[str]:
    return {event.message for event in server.events(kind=Kind.DELIVERED)}
