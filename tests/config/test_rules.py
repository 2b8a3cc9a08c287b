"""The rules and profiles files: found where they are, and every mistake told with the file and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.config.models import Suppressions
from relay.config.profiles import SiteRules
from relay.config.rules import load_profiles, load_rules
from relay.errors import ConfigError

RULE = """
[[rule]]
name = "a rule"
provider = "any"
text = ["go away"]
blame = "sender"
category = "policy"
why = "It says so."
samples = ["550 Go away"]
"""
PROFILES = """
[default]
connections = 10
messages_per_connection = 50
idle = "30s"

[[profile]]
name = "example"
mx_suffixes = [".example.com"]
connections = 3

[[profile]]
name = "slow"
mx_suffixes = [".slow.example.com", "mx.example.org"]
messages_per_second = 0.5
idle = "1m"
recipients = 5
"""


def load_rules_from(path: Path) -> object:
    return load_rules(path, Suppressions())


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "file.toml"
        path.write_text(text)
        return path

    return write


def test_the_rules_shipped_are_found() -> None:
    assert len(load_rules(None, Suppressions()).rules) > 100


def test_the_operators_rules_replace_them(written: Callable[[str], Path]) -> None:
    (rule,) = load_rules(written(RULE), Suppressions()).rules
    assert rule.name == "a rule"


def test_the_suppression_numbers_come_from_relay_toml() -> None:
    rules = load_rules(None, Suppressions(mailbox_full_messages=4))
    assert rules.times.mailbox_full_messages == 4
    assert rules.times.mailbox_full == Suppressions().mailbox_full


@pytest.mark.parametrize("load", [load_rules_from, load_profiles], ids=["rules", "profiles"])
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("[[rule]\n", "at line 1, column", id="no TOML"),
        pytest.param("[other]\n", "tables", id="another file"),
    ],
)
def test_a_file_that_is_no_such_file_is_named(
    load: Callable[[Path], object], text: str, sentence: str, written: Callable[[str], Path]
) -> None:
    path = written(text)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    assert str(path) in refusal.value.text
    assert sentence in refusal.value.text
    assert "[delivery]" in refusal.value.remedy


@pytest.mark.parametrize("load", [load_rules_from, load_profiles], ids=["rules", "profiles"])
def test_a_file_that_is_not_there_is_named(load: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path / "none.toml")
    assert refusal.value.text == f"{tmp_path}/none.toml cannot be read: No such file or directory."


@pytest.mark.parametrize("load", [load_rules_from, load_profiles], ids=["rules", "profiles"])
def test_a_file_that_is_not_utf8_is_refused(load: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xfc\n")
    with pytest.raises(ConfigError, match="utf-8"):
        load(path)


def test_a_wrong_rule_is_named(written: Callable[[str], Path]) -> None:
    path = written(RULE.replace('"sender"', '"nobody"'))
    with pytest.raises(ConfigError) as refusal:
        load_rules(path, Suppressions())
    assert refusal.value.text == f"{path}: rule \"a rule\": 'nobody' is not a valid Blame"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        pytest.param("mx1.example.com", "example", id="below a suffix"),
        pytest.param("example.com", "example", id="the suffix itself"),
        pytest.param("MX1.Example.COM.", "example", id="in any case, with a final dot"),
        pytest.param("mx.slow.example.com", "slow", id="the longest suffix wins"),
        pytest.param("mx.example.org", "slow", id="a whole host name"),
        pytest.param("notexample.com", "default", id="whole labels only"),
        pytest.param("mx.example.net", "default", id="nobody's"),
        pytest.param("192.0.2.1", "default", id="an address"),
        pytest.param("", "default", id="no name"),
    ],
)
def test_a_profile_is_found_by_the_hosts_name(host: str, name: str, written: Callable[[str], Path]) -> None:
    assert load_profiles(written(PROFILES)).for_host(host).name == name


def test_what_a_profile_does_not_name_comes_from_the_default(written: Callable[[str], Path]) -> None:
    rules = SiteRules(load_profiles(written(PROFILES)))
    example, slow = rules.limits(["mx.example.com"]), rules.limits(["mx.slow.example.com"])
    assert (example.connections, example.messages_per_connection, example.idle) == (3, 50, 30.0)
    assert (slow.connections, slow.messages_per_second, slow.idle, slow.recipients) == (10, 0.5, 60.0, 5)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        pytest.param(
            "connections = 3", "connection = 3", 'profile "example": "connection" is no key', id="a misspelt key"
        ),
        pytest.param("connections = 3", "connections = 0", 'profile "example": "connections"', id="a number too small"),
        pytest.param('idle = "1m"', 'idle = "soon"', 'profile "slow": "idle"', id="no duration"),
        pytest.param("[default]", "[defaults]", '"defaults" is no table here', id="a misspelt table"),
        pytest.param('[".example.com"]', "[]", 'profile "example": "mx_suffixes" is missing', id="no suffix"),
        pytest.param('[".example.com"]', '["."]', '"." is no suffix', id="an empty suffix"),
        pytest.param('"mx.example.org"', '"example.com"', 'belongs to profile "example" already', id="a suffix twice"),
    ],
)
def test_a_wrong_profile_is_named(old: str, new: str, sentence: str, written: Callable[[str], Path]) -> None:
    path = written(PROFILES.replace(old, new))
    with pytest.raises(ConfigError) as refusal:
        load_profiles(path)
    assert str(path) in refusal.value.text
    assert sentence in refusal.value.text


@pytest.mark.parametrize("profiles", ['["example"]', '"example"', "3"])
def test_profiles_that_are_no_tables_are_refused(profiles: str, written: Callable[[str], Path]) -> None:
    path = written(f"profile = {profiles}\n[default]\nconnections = 1\nmessages_per_connection = 1\n")
    with pytest.raises(ConfigError, match=r"under \[\[profile\]\]"):
        load_profiles(path)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("alt4.gmail-smtp-in.l.google.com", "google"),
        ("aspmx2.googlemail.com", "google"),
        ("outlook-com.olc.protection.outlook.com", "outlook.com"),
        ("example-org.mail.protection.outlook.com", "microsoft-365"),
        ("example-org.a-v1.mx.microsoft", "microsoft-365"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("mx01.mail.icloud.com", "apple"),
        ("mx1.comcast.net", "comcast"),
        ("mx00.emig.gmx.net", "gmx-web.de"),
        ("mx-ha02.web.de", "gmx-web.de"),
        ("smtp-in.orange.fr", "orange"),
        ("eu-smtp-inbound-1.mimecast.com", "mimecast"),
        ("mxa-00000000.gslb.pphosted.com", "proofpoint"),
        ("d1234.ess.barracudanetworks.com", "barracuda"),
        ("mx3.qq.com", "qq"),
        ("163mx01.mxmail.netease.com", "163"),
        ("mx.yandex.ru", "yandex"),
        ("mxs.mail.ru", "mail.ru"),
        ("mx1.mail.ovh.net", "ovh"),
        ("mx.example.net", "default"),
    ],
)
def test_the_great_receivers_have_profiles(host: str, name: str) -> None:
    limits = SiteRules(load_profiles(None)).limits([host])
    assert limits.profile == name
    assert limits.messages_per_second == 0.0


def test_the_default_profile_is_the_documented_one() -> None:
    profile = load_profiles(None).default
    assert (profile.connections, profile.messages_per_connection, profile.idle) == (10, 50, 30.0)
