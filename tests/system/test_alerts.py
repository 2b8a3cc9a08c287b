"""The alert rules: sound by promtool, true to the metrics there are, and silent when all is well."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relay.metrics.declared import BY_NAME, Type

TOP = Path(__file__).parents[2]
PROMTOOL = TOP / ".peers" / "prometheus" / "usr" / "bin" / "promtool"
RULES = TOP / "config" / "alerts.yml"
SUFFIXES = {Type.COUNTER: ("_total",), Type.GAUGE: ("",), Type.HISTOGRAM: ("_bucket", "_sum", "_count")}
USE = re.compile(r"\b(relay_\w+)(?:\{([^}]*)\})?")

pytestmark = pytest.mark.system


def expressions() -> list[str]:
    """Each rule's expression, on one line."""
    text = RULES.read_text()
    folded = re.sub(r"expr: >\n((?: {10}.*\n)+)", lambda match: "expr: " + " ".join(match[1].split()) + "\n", text)
    return re.findall(r"expr: (.+)", folded)


def run(*arguments: str | Path) -> None:
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules() -> None:
    run("check", "rules", RULES)


def test_the_rules_fire_for_what_they_are_meant_for(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    run("test", "rules", tmp_path / "alerts_test.yml")


def test_every_metric_in_a_rule_exists_with_the_labels_asked_for() -> None:
    exposed = {metric.name + suffix: metric for metric in BY_NAME.values() for suffix in SUFFIXES[metric.type]}
    uses = [use for expression in expressions() for use in USE.findall(expression)]
    assert len(uses) > 20
    for name, matchers in uses:
        assert name in exposed
        labels = set(re.findall(r"(\w+)=", matchers))
        assert labels <= set(exposed[name].labels)
