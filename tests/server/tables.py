"""relay.toml as a value, with what a test does not care about filled in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relay.config.models import Config
from tests.system.relay_process import as_toml, merged

PLAIN: Mapping[str, Any] = {
    "server": {"hostname": "relay.example.com", "workers": 1, "drain": "2s"},
    "submission": {"starttls": [], "tls": [], "limits": {"disk_free_share": 0.0}},
    "dns": {"nameservers": ["127.0.0.1:9"], "timeout": "200ms"},
    "http": {"listen": "127.0.0.1:0"},
}


def tables(spool: Path, **changed: Any) -> dict[str, Any]:
    return merged(merged(PLAIN, {"server": {"spool": str(spool)}}), changed)


def config(spool: Path, **changed: Any) -> Config:
    return Config.model_validate(tables(spool, **changed))


def write(path: Path, spool: Path, **changed: Any) -> None:
    """relay.toml."""
    path.write_text(as_toml(tables(spool, **changed)), encoding="utf-8")
