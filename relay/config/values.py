"""config.values: how single values of relay.toml are written, and what all of its tables have in common.

Durations are written "90s", "10m", "4h", "5d" and become seconds (float), days "2026-12-01". Networks, addresses and
listen addresses are text, and one that cannot be meant is refused with what to write instead.
"""

import datetime as dt
import ipaddress
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)


def parse_duration(value: object) -> object:
    """"10m" → 600.0. A bare number is seconds. Raises ValueError for anything else."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError(f'"{value}" is no duration; write a number and a unit, such as "90s", "10m", "4h" or "5d"')
    return float(match[1]) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """600.0 → "10m": the largest unit that divides it."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds / _UNITS[unit])}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration), Field(ge=0)]


def parse_day(value: object) -> object:
    """"2026-12-01", or the same without quotes, which TOML takes for a day of its own."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    try:
        return dt.date.fromisoformat(value if isinstance(value, str) and _DAY.fullmatch(value) else "")
    except ValueError:
        raise ValueError(f'"{value}" is no day; write year, month and day, such as "2026-12-01"') from None


Day = Annotated[dt.date, BeforeValidator(parse_day)]


def parse_network(value: object) -> object:
    """"10.0.0.0/8" → its network. A bare number is none, although `ipaddress` would take it."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is no network; write it in quotes, as "10.0.0.0/8"')  # noqa: TRY004  pydantic wants it so
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'"{value}" is no network; write it as "10.0.0.0/8" or "2001:db8::/32"') from None
    if ipaddress.ip_interface(value).ip != network.network_address:
        raise ValueError(f'"{value}" has bits set after its prefix; write "{network}"')
    return network


def parse_address(value: object) -> object:
    """"203.0.113.10" → its address."""
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return value
    try:
        return ipaddress.ip_address(str(value))
    except ValueError:
        raise ValueError(f'"{value}" is no IP address; write it as "203.0.113.10" or "2001:db8::10"') from None


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(parse_network)]
Address = Annotated[ipaddress.IPv4Address | ipaddress.IPv6Address, BeforeValidator(parse_address)]


def parse_listen(value: object) -> object:
    """"127.0.0.1:2525" or "[::]:587"; the address must be literal, the port 0 to 65535."""
    if not isinstance(value, str):
        return value
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.ip_address(bare)
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise ValueError(f'"{value}" is no listen address; write ADDRESS:PORT, such as "0.0.0.0:587" or "[::]:587"') from None
    return value


Listen = Annotated[str, BeforeValidator(parse_listen)]


MOST = 10**15  # of any number: much larger ones fit into no column, and into no word between processes


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        """No key is a switch: one that is chosen by name can get a third choice. (pydantic would take true for 1.)"""
        if isinstance(value, bool):
            raise ValueError("no key takes true or false; write a number, or text in quotes")  # noqa: TRY004
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _no_huge_number(cls, value: object) -> object:
        if isinstance(value, int | float) and MOST < abs(value) < float("inf"):
            raise ValueError(f"no number is larger than {MOST}")
        return value
