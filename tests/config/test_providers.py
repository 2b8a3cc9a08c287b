"""providers.toml: what is in it, and that what its providers say is what the rules and profiles know."""

from pathlib import Path

import pytest

from relay.config.models import Suppressions
from relay.config.providers import MANY, Provider, load_providers, parse_reply
from relay.config.rules import load_profiles, load_rules
from relay.errors import ConfigError
from relay.mail.verdict import Blame, Stage, classify

SHIPPED = load_providers(None)
RULES = load_rules(None, Suppressions())
STAGES = {"mail": Stage.MAIL, "rcpt": Stage.RCPT, "content": Stage.FINAL}

# What the rules make of each part's words: who is to blame, and for good?
MEANT = {
    "connections": (Blame.SENDER, False),
    "messages": (Blame.TRANSIENT, False),
    "rate": (Blame.SENDER, False),
    "greylist": (Blame.TRANSIENT, False),
    "unknown": (Blame.RECIPIENT, True),
    "busy": (Blame.TRANSIENT, False),
    "reputation": (Blame.SENDER, True),
}
PARTS = [
    pytest.param(provider, part, id=f"{name}: {part}")
    for name, provider in SHIPPED.items()
    for part in MEANT
    if getattr(provider, part) is not None
]


@pytest.mark.parametrize(("provider", "part"), PARTS)
def test_what_a_shipped_provider_says_is_understood_as_it_is_meant(provider: Provider, part: str) -> None:
    table = getattr(provider, part)
    fixed = {"connections": Stage.GREETING, "messages": Stage.MAIL, "greylist": Stage.RCPT, "unknown": Stage.RCPT}
    stage = fixed[part] if part in fixed else STAGES[table.at]
    reply = parse_reply(table.reply.replace("%s", "192.0.2.1"))
    verdict = classify(reply, stage=stage, recipients=1, mx=provider.mx.replace(MANY, "1"), rules=RULES)
    assert (verdict.blame, verdict.permanent) == MEANT[part], verdict
    assert verdict.action != "block" or part == "reputation", verdict


@pytest.mark.parametrize("name", ["google", "microsoft", "yahoo"])
def test_a_shipped_provider_has_a_host_that_its_profile_knows(name: str) -> None:
    profiles = load_profiles(None)
    assert profiles.for_host(SHIPPED[name].mx) is not profiles.default


PLAIN = 'name = "a"\ndomains = ["a.example"]\nmx = "mx.a.example"\n'
WRONG = [
    pytest.param("", "provider: Field required", id="nothing"),
    pytest.param("[[provider]]\n" + PLAIN + "colour = 1", "provider.0.colour: Extra inputs", id="an unknown key"),
    pytest.param(
        "[[provider]]\n" + PLAIN + 'busy = { share = 0.1, reply = "later" }', '"later" is no reply', id="no reply"
    ),
    pytest.param(
        "[[provider]]\n" + PLAIN + 'busy = { share = 0.1, reply = "250 Ok" }',
        '"250 Ok" is no refusal',
        id="a positive one",
    ),
    pytest.param("[[provider]]\n" + PLAIN + "sites = 3", '"%" must be in every name', id="several sites of one name"),
    pytest.param(2 * ("[[provider]]\n" + PLAIN), '"a" is there twice', id="a name twice"),
    pytest.param(
        "".join(f'[[provider]]\nname = "p{n}"\ndomains = ["d%.p{n}"]\nmx = "m%.p{n}"\nsites = 200\n' for n in range(6)),
        "more than 1000 sites",
        id="too many sites",
    ),
    pytest.param("[[provider", "Expected", id="no TOML"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_said_with_the_file(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_providers(path)
    assert str(path) in raised.value.text
    assert said in raised.value.text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file"):
        load_providers(tmp_path / "none.toml")
