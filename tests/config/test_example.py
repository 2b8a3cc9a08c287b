"""config.example: the committed file is what the models say, and every line of it may be used."""

import re
from pathlib import Path

from relay.config import models
from relay.config.example import example
from relay.config.load import load
from relay.config.values import Table

COMMITTED = Path(__file__).parents[2] / "relay.toml.example"


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=\S)", "", example())


def test_the_committed_file_is_the_generated_one() -> None:
    assert COMMITTED.read_text() == example(), "run: python -m relay.config.example > relay.toml.example"


def test_as_it_stands_it_is_all_defaults() -> None:
    config = load(COMMITTED, environment={})
    assert config == models.Config(server=models.Server(hostname="relay.example.com"))


def test_with_every_line_taken_it_is_valid_and_the_defaults_are_the_true_ones(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(uncommented())
    config = load(path, environment={})
    assert config.submission.limits == models.SubmissionLimits()
    assert config.delivery.retry == models.Retry()
    assert config.delivery.timeouts == models.DeliveryTimeouts()
    assert config.dns == models.Dns()
    assert config.journal == models.Journal()
    assert config.stream == {"bulk": models.Stream()}
    assert config.route[0].login == "relay"


def test_every_key_of_every_table_is_in_it() -> None:
    tables = [value for value in vars(models).values() if isinstance(value, type) and issubclass(value, Table)]
    keys = {key for table in tables for key in table.model_fields}
    written = set(re.findall(r"(?m)^#?(\w+) = ", example())) | set(re.findall(r"(?m)^#?\[+([\w.]+)", example()))
    assert keys <= {part for name in written for part in name.split(".")}


def test_no_line_is_long() -> None:
    assert max(map(len, example().splitlines())) <= 100
