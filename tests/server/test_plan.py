"""What relay.toml names, read before anything begins."""

from pathlib import Path
from typing import Any

import pytest

from relay.errors import ConfigError, PermissionRefused, RelayError, SpoolVersion
from relay.server.plan import read_plan
from relay.server.preflight import refuse_to_reload, refuse_to_start
from relay.spool.spool import Spool
from tests.peers.certificates import Authority
from tests.server.other_user import as_nobody, directory_of, needs_root
from tests.server.tables import config


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n", id="blank"),
        pytest.param("two words\n", id="two words"),
        pytest.param("schlüssel\n", id="what no header can carry"),
        pytest.param("a\x07b\n", id="a control character"),
    ],
)
def test_a_file_without_a_token_would_let_everybody_in_and_is_refused(tmp_path: Path, text: str) -> None:
    token = tmp_path / "token"
    token.write_text(text)
    with pytest.raises(ConfigError, match="holds no token") as refused:
        read_plan(config(tmp_path, http={"token_file": str(token)}), simulator_port=0)
    assert f"openssl rand -hex 16 > {token}" in refused.value.remedy


def test_a_token_is_a_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = config(tmp_path, http={"token_file": str(tmp_path / "token")})
    assert read_plan(settings, simulator_port=0).token == "s3cret"
    assert read_plan(config(tmp_path), simulator_port=0).token == ""


@needs_root
def test_a_token_that_may_not_be_read_is_told_as_that() -> None:
    with directory_of(0) as directory:
        directory.chmod(0o755)
        (directory / "token").write_text("s3cret\n")
        (directory / "token").chmod(0o600)
        settings = config(directory, http={"token_file": str(directory / "token")})
        with as_nobody(), pytest.raises(PermissionRefused, match="token cannot be read: Permission denied"):
            read_plan(settings, simulator_port=0)


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        pytest.param({"submission": {"tls": ["127.0.0.1:0"]}}, ConfigError, id="a certificate that is missing"),
        pytest.param({"delivery": {"rules": "/gone"}}, ConfigError, id="rules that are missing"),
        pytest.param({"delivery": {"profiles": "/gone"}}, ConfigError, id="profiles that are missing"),
    ],
)
def test_what_no_worker_could_run_with_is_found_before_there_is_one(
    tmp_path: Path, changed: dict[str, Any], kind: type[RelayError]
) -> None:
    certificate = {"certificate": str(tmp_path / "a.pem"), "key": str(tmp_path / "a.key")}
    settings = config(tmp_path / "spool", tls=certificate, **changed)
    for look in (refuse_to_start, refuse_to_reload):
        with pytest.raises(kind):
            look(settings)
    assert not (tmp_path / "spool").exists()


def test_certificates_are_looked_at_only_where_they_are_used(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("relay.example.com")
    other = Authority(tmp_path).issue("other.example")
    pair = {"certificate": str(issued.certificate), "key": str(other.key)}
    refuse_to_start(config(tmp_path / "spool", tls=pair))
    with pytest.raises(ConfigError, match="is not the key of the certificate"):
        refuse_to_start(config(tmp_path / "spool", tls=pair, submission={"tls": ["127.0.0.1:0"]}))


async def test_a_spool_of_a_newer_version_is_found_in_any_shard(tmp_path: Path) -> None:
    for shard in (0, 3):
        await (await Spool.open(tmp_path, shard=shard)).close()
    settings = config(tmp_path)
    refuse_to_start(settings)
    database = tmp_path / "shard-3" / "queue.db"
    octets = bytearray(database.read_bytes())
    octets[60:64] = (999).to_bytes(4, "big")  # user_version (SQLite's file format 1.3)
    database.write_bytes(octets)
    with pytest.raises(SpoolVersion, match=r"shard-3/queue\.db was written by a newer Relay"):
        refuse_to_start(settings)
