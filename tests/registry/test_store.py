"""Credentials in the registry: verbs, snapshots, and changes made by another process."""

import asyncio
import re
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from relay.errors import NotFound, SpoolError, UsageError
from relay.mail.address import Pattern
from relay.registry.credentials import Credential, OnSuppressed, Reports, State, digest_of
from relay.registry.database import schema
from relay.registry.snapshot import Login
from relay.registry.store import Registry
from relay.registry.usage import Use
from tests.registry.clock import NOW, Clock

ANY = (Pattern.parse("*@example.com"),)


def everything_set(credential: Credential) -> Credential:
    return replace(
        credential,
        networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        stream="bulk",
        limit_second=1,
        limit_hour=2,
        limit_day=3,
        limit_recipients=4,
        limit_first_time=5,
        expires_at=NOW + 5,
        null_sender=True,
        allow_unsigned=True,
        encode_8bit=True,
        reports=Reports.NONE,
        suppressed=OnSuppressed.ACCEPT,
    )


async def test_a_new_credential_can_log_in_at_once(registry: Registry) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    found = registry.snapshot().authenticate(issued.credential.login, issued.secret, now=NOW)
    assert found == Login(issued.credential, issued.credential.secrets[0])
    assert re.fullmatch(r"[0-9a-z]{26}", issued.secret) and re.fullmatch(r"shop-[0-9a-z]{5}", issued.credential.login)


async def test_every_setting_is_kept(registry: Registry, tmp_path: Path, clock: Clock) -> None:
    senders = (*ANY, Pattern.parse('"a b"@example.com'), Pattern.parse("*@*.bücher.example"))
    issued = await registry.add_credential("Shop", senders=senders, adjust=everything_set)
    other = await Registry.open(tmp_path, now=clock)
    assert other.snapshot().credentials == {"Shop": issued.credential}
    assert everything_set(issued.credential) == issued.credential and issued.credential.senders == senders
    await other.close()


def content_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def test_the_secret_is_nowhere_on_disk(registry: Registry, tmp_path: Path) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    assert issued.secret.encode() not in content_of(tmp_path)
    assert issued.secret not in repr(issued)


async def test_settings_change_one_by_one(registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY, adjust=everything_set)
    await asyncio.gather(
        registry.update_credential("shop", lambda credential: replace(credential, limit_day=30)),
        registry.update_credential("shop", lambda credential: replace(credential, limit_hour=20)),
    )
    shop = registry.snapshot().credentials["shop"]
    assert (shop.limit_day, shop.limit_hour, shop.limit_second) == (30, 20, 1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("shop", 'there is a credential "shop" already', id="a name that is taken"),
        pytest.param("SHOP", 'there is a credential "SHOP" already', id="in another case it is the same name"),
        pytest.param("my shop", "no name for a credential", id="a space in a name"),
        pytest.param("", "no name for a credential", id="no name"),
        pytest.param("-shop", "no name for a credential", id="what looks like an option"),
        pytest.param("x" * 64, "no name for a credential", id="a name too long"),
    ],
)
async def test_a_name_that_cannot_be_given(name: str, text: str, registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY)
    with pytest.raises(UsageError, match=text) as refused:
        await registry.add_credential(name, senders=ANY)
    assert refused.value.remedy and len(registry.snapshot().credentials) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param({"limit_day": -1}, "limit_day = -1 is negative", id="a negative limit"),
        pytest.param({"limit_first_time": -1}, "limit_first_time = -1 is negative", id="of first-time recipients too"),
        pytest.param({"senders": ()}, "may send as nobody", id="no sender"),
        pytest.param({"stream": "a b"}, "no name for a stream", id="a stream with a space"),
    ],
)
async def test_a_setting_that_makes_no_sense(change: dict[str, object], text: str, registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY)
    with pytest.raises(UsageError, match=text):
        await registry.update_credential("shop", lambda credential: replace(credential, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["name", "login", "secrets", "state", "created_at"])
async def test_what_an_adjustment_may_not_touch(name: str, registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY)
    with pytest.raises(ValueError, match=f"does not change {name}"):
        await registry.update_credential("shop", lambda credential: replace(credential, **{name: None}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verbs", "state"),
    [
        pytest.param(["hold"], State.HOLD, id="hold"),
        pytest.param(["hold", "hold"], State.HOLD, id="holding again changes nothing"),
        pytest.param(["hold", "release"], State.ACTIVE, id="release ends a hold"),
        pytest.param(["release"], State.ACTIVE, id="releasing what is active changes nothing"),
        pytest.param(["revoke"], State.REVOKED, id="revoke"),
        pytest.param(["hold", "revoke", "revoke"], State.REVOKED, id="what is held can be revoked, and again"),
    ],
)
async def test_states(verbs: list[str], state: State, registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY)
    for verb in verbs:
        await getattr(registry, verb)("SHOP")
    assert registry.snapshot().credentials["shop"].state is state


@pytest.mark.parametrize("verb", ["hold", "release", "rotate"])
async def test_revoked_is_for_good(verb: str, registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY)
    await registry.revoke("shop")
    with pytest.raises(UsageError, match="was revoked"):
        await getattr(registry, verb)("shop")


@pytest.mark.parametrize("verb", ["hold", "release", "revoke", "rotate", "finish_rotation", "remove_credential"])
async def test_an_unknown_name_suggests_the_nearest(verb: str, registry: Registry) -> None:
    await registry.add_credential("newsletter", senders=ANY)
    with pytest.raises(NotFound, match='no credential "newsleter"') as unknown:
        await getattr(registry, verb)("newsleter")
    assert unknown.value.remedy == 'Did you mean "newsletter"?'


async def test_rotation(registry: Registry, clock: Clock) -> None:
    first = await registry.add_credential("shop", senders=ANY)
    login = first.credential.login

    def valid(*secrets: str) -> list[bool]:
        return [registry.snapshot().authenticate(login, secret, now=clock()) is not None for secret in secrets]

    clock.time += 1
    second = await registry.rotate("shop")
    assert valid(first.secret, second.secret) == [True, True]
    with pytest.raises(UsageError, match="two valid secrets") as under_way:
        await registry.rotate("shop")
    assert "relay credential rotate shop --finish" in under_way.value.remedy
    assert valid(first.secret, second.secret) == [True, True]
    await registry.finish_rotation("shop")
    third = await registry.rotate("shop", keep_until=clock() + 10)
    assert valid(first.secret, second.secret, third.secret) == [False, True, True]
    clock.time += 10
    assert valid(second.secret, third.secret) == [False, True]
    fourth = await registry.rotate("shop")
    assert valid(third.secret, fourth.secret) == [True, True]
    assert await registry.finish_rotation("shop") == registry.snapshot().credentials["shop"]
    assert valid(third.secret, fourth.secret) == [False, True]


async def test_a_trial_logs_in_beside_the_secrets_until_it_ends(registry: Registry, clock: Clock) -> None:
    first = await registry.add_credential("shop", senders=ANY)
    second = await registry.rotate("shop")
    trial = await registry.add_trial("shop", valid_until=clock() + 600)

    def valid(*secrets: str) -> list[bool]:
        login = first.credential.login
        return [registry.snapshot().authenticate(login, secret, now=clock()) is not None for secret in secrets]

    assert valid(first.secret, second.secret, trial.secret) == [True, True, True]
    assert len(registry.snapshot().credentials["shop"].secrets) == 2
    await registry.finish_rotation("shop")
    assert valid(second.secret, trial.secret) == [True, True]
    await registry.end_trial(trial.secret)
    assert valid(second.secret, trial.secret) == [True, False]


async def test_a_trial_that_nobody_ended_ends_by_itself_and_is_forgotten_with_the_next(
    registry: Registry, clock: Clock
) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    left = await registry.add_trial("shop", valid_until=clock() + 600)
    clock.time += 600
    assert registry.snapshot().authenticate(issued.credential.login, left.secret, now=clock()) is None
    await registry.end_trial((await registry.add_trial("shop", valid_until=clock() + 600)).secret)
    assert registry.snapshot().credentials["shop"].trials == ()


async def test_what_cannot_send_gets_no_trial(registry: Registry, clock: Clock) -> None:
    await registry.add_credential("shop", senders=ANY)
    await registry.update_credential("shop", lambda shop: replace(shop, expires_at=clock() - 1))
    with pytest.raises(UsageError, match="has expired") as expired:
        await registry.add_trial("shop", valid_until=clock() + 600)
    assert "relay credential set shop --expires" in expired.value.remedy
    await registry.revoke("shop")
    with pytest.raises(UsageError, match="was revoked"):
        await registry.add_trial("shop", valid_until=clock() + 600)


@pytest.mark.parametrize("version", [pytest.param(1, id="the first release"), pytest.param(2, id="before first-time")])
async def test_a_registry_of_an_older_version_is_read(tmp_path: Path, clock: Clock, version: int) -> None:
    scripts = "".join(schema("registry")[:version])
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL;{scripts}PRAGMA user_version = {version};")
        connection.execute(
            "INSERT INTO credential VALUES (1, 'shop', 'shop-abcde', 0, '[\"*@example.com\"]', '[]', 'transactional',"
            " 0, 0, 0, 0, 0, 'active', 0, 0, 0, 'sender', 'refuse', 0, '')"
        )
        connection.execute("INSERT INTO secret VALUES (1, 1, ?, 0, 0, 0)", (digest_of("secret"),))
        connection.commit()
    registry = await Registry.open(tmp_path, now=clock)
    login = registry.snapshot().authenticate("shop-abcde", "secret", now=NOW)
    assert login is not None and login.credential.limit_first_time == 0
    changed = await registry.update_credential("shop", lambda credential: replace(credential, limit_first_time=20))
    assert changed.limit_first_time == registry.snapshot().credentials["shop"].limit_first_time == 20
    await registry.close()


async def test_removed_is_gone_with_its_secrets(registry: Registry, tmp_path: Path) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    assert await registry.remove_credential("shop") == issued.credential
    assert not registry.snapshot().credentials and not registry.snapshot().logins
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        assert connection.execute("SELECT count(*) FROM secret").fetchone() == (0,)
    again = await registry.add_credential("shop", senders=ANY)
    assert registry.snapshot().authenticate(again.credential.login, issued.secret, now=NOW) is None


async def test_a_snapshot_does_not_change(registry: Registry) -> None:
    before = registry.snapshot()
    await registry.add_credential("shop", senders=ANY)
    assert not before.credentials and registry.snapshot().revision > before.revision
    with pytest.raises(TypeError):
        registry.snapshot().credentials["other"] = next(iter(registry.snapshot().credentials.values()))  # type: ignore[index]


REVOKE = """
import asyncio, sys, time
from pathlib import Path
from relay.registry.store import Registry

async def main():
    registry = await Registry.open(Path(sys.argv[1]), now=time.time)
    await registry.revoke("shop")
    await registry.close()

asyncio.run(main())
"""


async def test_a_revocation_by_another_process_is_seen_by_the_next_refresh(registry: Registry, tmp_path: Path) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    session = Login(registry.snapshot().credentials["shop"])
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", REVOKE, str(tmp_path))
    assert await other.wait() == 0
    assert registry.snapshot().current(session, now=NOW) == session
    assert await registry.refresh() is True
    assert registry.snapshot().current(session, now=NOW) is None
    assert registry.snapshot().authenticate(issued.credential.login, issued.secret, now=NOW) is None
    assert await registry.refresh() is False


async def test_several_refreshes_at_once_agree(registry: Registry, tmp_path: Path, clock: Clock) -> None:
    other = await Registry.open(tmp_path, now=clock)
    await other.add_credential("shop", senders=ANY)
    assert sorted(await asyncio.gather(*(registry.refresh() for _ in range(5)))) == [False] * 4 + [True]
    assert "shop" in registry.snapshot().credentials
    await other.close()


async def test_last_use_wakes_nobody(registry: Registry, tmp_path: Path, clock: Clock) -> None:
    issued = await registry.add_credential("shop", senders=ANY)
    snapshot = registry.snapshot()
    other = await Registry.open(tmp_path, now=clock)
    use = Use("shop", NOW, "192.0.2.1", issued.credential.secrets[0].sha256)
    await other.record_use([use])
    assert await registry.refresh() is False and registry.snapshot() is snapshot
    await other.close()


async def test_a_row_that_cannot_be_read_leaves_the_snapshot_and_is_named(registry: Registry, tmp_path: Path) -> None:
    await registry.add_credential("shop", senders=ANY)
    snapshot = registry.snapshot()
    with closing(sqlite3.connect(tmp_path / "registry.db")) as connection:
        connection.execute("UPDATE credential SET senders = '[\"*\"]'")
        connection.execute("UPDATE revision SET number = number + 1")
        connection.commit()
    for _ in range(2):
        with pytest.raises(SpoolError, match=r'credential "shop" in registry\.db cannot be read'):
            await registry.refresh()
    assert registry.snapshot() is snapshot


async def test_a_refresh_that_finds_nothing_costs_microseconds(registry: Registry) -> None:
    await registry.add_credential("shop", senders=ANY)
    times = []
    for _ in range(200):
        began = time.perf_counter()
        await registry.refresh()
        times.append(time.perf_counter() - began)
    assert sorted(times)[len(times) // 2] < 50e-6


OPEN_AND_CLOSE = """
import asyncio, sys, time
from pathlib import Path
from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions

async def main():
    for _ in range(60):
        registry = await Registry.open(Path(sys.argv[1]), now=time.time)
        suppressions = await Suppressions.open(Path(sys.argv[1]), now=time.time)
        assert "shop" in registry.snapshot().credentials
        suppressions.lookup("a@example.net")
        await suppressions.close()
        await registry.close()

asyncio.run(main())
"""


async def test_processes_that_open_and_close_it_all_the_time_never_find_it_locked_or_empty(tmp_path: Path) -> None:
    """As the workers of one server do when they start together: who closes last has the file for itself a moment."""
    registry = await Registry.open(tmp_path, now=Clock())
    await registry.add_credential("shop", senders=[Pattern.parse("*@example.com")])
    await registry.close()
    arguments = (sys.executable, "-c", OPEN_AND_CLOSE, str(tmp_path))
    others = [await asyncio.create_subprocess_exec(*arguments) for _ in range(3)]
    assert [await other.wait() for other in others] == [0, 0, 0]
