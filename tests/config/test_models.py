"""config.values and config.models: how values are written."""

import ipaddress
import tomllib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.config import models, sources, values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("250ms", 0.25, id="milliseconds"),
        pytest.param("90s", 90.0, id="seconds"),
        pytest.param("10m", 600.0, id="minutes"),
        pytest.param("1.5h", 5400.0, id="a fraction of hours"),
        pytest.param("5d", 432000.0, id="days"),
        pytest.param(" 5 m ", 300.0, id="spaces do no harm"),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert models.Dns(timeout=text).timeout == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "5", "m", "5 weeks", "-5m", "5m 3s", "1e3s", "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is no duration"):
        models.Dns(timeout=text)  # type: ignore[arg-type]


@given(seconds=st.integers(0, 10_000_000))
def test_a_duration_survives_being_written(seconds: int) -> None:
    assert values.parse_duration(values.format_duration(float(seconds))) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.25, "0.25s"), (60.0, "1m"), (90.0, "90s"), (7200.0, "2h"), (86400.0, "1d"), (432000.0, "5d")],
)
def test_a_duration_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert values.format_duration(seconds) == text


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:587", "[::]:465", "[::1]:65535"])
def test_a_listen_address_is_taken_as_it_is(listen: str) -> None:
    assert models.Http(listen=listen).listen == listen


@pytest.mark.parametrize("listen", ["", ":25", "localhost:25", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x", "[::1]"])
def test_what_is_no_listen_address_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError, match="is no listen address"):
        models.Http(listen=listen)


@pytest.mark.parametrize("day", ['"2026-12-01"', "2026-12-01"], ids=["in quotes", "as TOML has days"])
def test_a_day_is_written_either_way(day: str) -> None:
    table = tomllib.loads(f'address = "203.0.113.10"\nhostname = "mx1.example.com"\nwarm_up = {day}\n')
    assert sources.Source.model_validate(table).warm_up == date(2026, 12, 1)


@pytest.mark.parametrize("day", ["", "2026-13-01", "20261201", "2026-W01-1", "2026-12-01T00:00:00Z", 1796083200])
def test_what_is_no_day_is_refused(day: object) -> None:
    with pytest.raises(ValidationError, match="is no day"):
        sources.Source.model_validate({"address": "203.0.113.10", "hostname": "mx1.example.com", "warm_up": day})


def test_networks_may_be_given_as_text_or_as_networks() -> None:
    network = ipaddress.ip_network("10.0.0.0/8")
    assert models.Delivery(allow_networks=("10.0.0.0/8", network)).allow_networks == (network, network)  # type: ignore[arg-type]


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        models.Dns().timeout = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("table", [models.Submission, models.Delivery, models.Tls, models.Http, models.Retry])
def test_every_default_is_valid(table: type[values.Table]) -> None:
    assert table.model_validate(table().model_dump()) == table()


def test_every_key_says_what_it_is_for() -> None:
    tables = [value for value in vars(models).values() if isinstance(value, type) and issubclass(value, values.Table)]
    silent = [
        f"{table.__name__}.{key}"
        for table in tables
        if table not in (values.Table, models.Config)
        for key, field in table.model_fields.items()
        if not field.description
    ]
    assert silent == []
