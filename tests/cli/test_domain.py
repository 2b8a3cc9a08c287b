"""cli.domain: keys and records, and what DNS says about them, asked of a real nameserver."""

import asyncio
import base64
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dns.message
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.cli.conftest import Relay
from tests.peers.dns import FakeDns, authoritative

DOMAIN = "shop.example"
ROOT = Path(__file__).parents[2]
SILENT = "127.0.0.1:9"


def test_add_gives_the_records_to_publish(relay: Relay) -> None:
    added = relay.json("domain", "add", DOMAIN)
    records = {record["name"]: record for record in added["records"]}
    assert {record["type"] for record in records.values()} == {"TXT"}
    selectors = [key["selector"] for key in added["keys"]]
    rsa, ed25519 = (records[f"{selector}._domainkey.{DOMAIN}"]["value"] for selector in selectors)
    assert rsa.startswith("v=DKIM1; k=rsa; p=")
    assert ed25519.startswith("v=DKIM1; k=ed25519; p=")
    public = serialization.load_der_public_key(base64.b64decode(rsa.partition("p=")[2]))
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 2048
    assert records[DOMAIN]["value"] == "v=spf1 a:relay.example.com ~all"
    assert records[f"_dmarc.{DOMAIN}"]["value"].startswith("v=DMARC1; p=none")
    assert [key["state"] for key in added["keys"]] == ["active", "active"]


def test_no_private_key_is_ever_shown(relay: Relay) -> None:
    relay.json("domain", "add", DOMAIN)
    for command in ("show", "list", "remove"):
        arguments = ("domain", command, *(() if command == "list" else (DOMAIN,)))
        assert "PRIVATE" not in relay(*arguments, "--json").out


def test_the_records_for_people_are_a_zone_file(relay: Relay, tmp_path: Path) -> None:
    out = relay("domain", "add", DOMAIN).out
    strings = re.findall(r'"([^"]*)"', out)
    assert max(map(len, strings)) <= 255
    relay("domain", "show", DOMAIN)
    with authoritative(tmp_path, MACHINE | {DOMAIN: out}) as nameserver:
        assert check(relay, nameserver)["ok"]


def test_sources_are_named_in_spf(relay: Relay) -> None:
    relay.configure('[[source]]\naddress = "203.0.113.10"\nhostname = "mx1.relay.example.com"\n')
    records = {record["purpose"]: record["value"] for record in relay.json("domain", "add", DOMAIN)["records"]}
    assert records["SPF"] == "v=spf1 ip4:203.0.113.10 ~all"


@pytest.mark.parametrize("verb", ["show", "check", "rotate", "remove"])
def test_an_unknown_domain_suggests_the_nearest(relay: Relay, verb: str) -> None:
    relay.json("domain", "add", DOMAIN)
    answer = relay("domain", verb, "shop.exmaple")
    assert answer.code == os.EX_NOUSER
    assert f'Did you mean "{DOMAIN}"?' in answer.err


@pytest.mark.parametrize("name", ["no domain", "", "[192.0.2.1]", "a..b"])
def test_what_is_no_domain_is_refused(relay: Relay, name: str) -> None:
    assert relay("domain", "add", name).code == os.EX_USAGE
    assert relay.json("domain", "list") == []


def test_an_idn_is_one_domain_in_both_forms(relay: Relay) -> None:
    assert relay.json("domain", "add", "Bücher.example")["domain"] == "xn--bcher-kva.example"
    assert relay.json("domain", "show", "bücher.example")["domain"] == "xn--bcher-kva.example"


# --- check


def txt(value: str) -> str:
    return " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))


MACHINE = {"relay.example.com": "@ A 203.0.113.10\n", "113.0.203.in-addr.arpa": "10 PTR relay.example.com.\n"}


def zone_of(records: list[dict[str, str]], **changed: str) -> dict[str, str]:
    """A zone with the records as they should be; `changed` says what a purpose's records are instead."""
    lines = []
    for record in records:
        name = record["name"].removesuffix(DOMAIN).removesuffix(".") or "@"
        value = changed.get(record["purpose"], record["value"])
        lines += [f"{name} TXT {txt(each)}" for each in value.split("\n") if each]
    return MACHINE | {DOMAIN: "\n".join([*lines, changed.get("MX", "@ MX 10 mail")])}


def check(relay: Relay, nameserver: str, *, domain: str = DOMAIN, more: str = "", code: int = 0) -> Any:
    timeout = "2s" if nameserver != SILENT else "300ms"
    relay.configure(f'{more}[dns]\nnameservers = ["{nameserver}"]\ntimeout = "{timeout}"\n')
    answer = relay("domain", "check", domain, "--json")
    assert answer.code == code, answer.out + answer.err
    return answer.json


def outcome(checked: Any, record: str) -> tuple[str, str]:
    finding = next(each for each in checked["findings"] if each["record"] == record)
    return finding["outcome"], finding["advice"] or ""


def test_all_is_well_when_everything_is_published(relay: Relay, tmp_path: Path) -> None:
    records = relay.json("domain", "add", DOMAIN)["records"]
    with authoritative(tmp_path, zone_of(records)) as nameserver:
        checked = check(relay, nameserver)
        assert {finding["outcome"] for finding in checked["findings"]} == {"ok"}
        assert "not yet" not in relay("domain", "list").out
        assert relay("domain", "check", DOMAIN).code == 0


WRONG = [
    pytest.param({"DKIM": ""}, ("DKIM", "wrong", "Publish its record"), id="no DKIM record"),
    pytest.param({"DKIM": "v=DKIM1; k=rsa; p=AAAA"}, ("DKIM", "wrong", "Publish its record"), id="another key"),
    pytest.param({"SPF": ""}, ("SPF", "warning", "Publish"), id="no SPF record"),
    pytest.param({"SPF": "v=spf1 -all"}, ("SPF", "wrong", "Add a:relay.example.com"), id="SPF without this machine"),
    pytest.param({"SPF": "v=spf1 include:x.example -all"}, ("SPF", "warning", "See that"), id="SPF that may have it"),
    pytest.param({"SPF": "v=spf1 -all\nv=spf1 +all"}, ("SPF", "wrong", "Merge them"), id="two SPF records"),
    pytest.param({"SPF": "V=SPF1 A:Relay.Example.Com -all"}, ("SPF", "ok", ""), id="SPF in capitals"),
    pytest.param({"DMARC": ""}, ("DMARC", "warning", "Publish"), id="no DMARC record"),
    pytest.param({"DMARC": "v=DMARC1; p=none\nv=DMARC1; p=reject"}, ("DMARC", "wrong", "Leave one"), id="two of DMARC"),
    pytest.param({"MX": "@ MX 0 ."}, ("MX", "warning", "are lost"), id="a null MX"),
    pytest.param({"MX": ""}, ("MX", "warning", "publish an MX"), id="no MX"),
]


@pytest.mark.parametrize(("changed", "wanted"), WRONG)
def test_what_is_not_as_it_should_be_is_named(
    relay: Relay, tmp_path: Path, changed: Mapping[str, str], wanted: tuple[str, str, str]
) -> None:
    record, expected, advice = wanted
    records = relay.json("domain", "add", DOMAIN)["records"]
    with authoritative(tmp_path, zone_of(records, **changed)) as nameserver:
        checked = check(relay, nameserver, code=os.EX_CONFIG if expected == "wrong" else 0)
    found, said = outcome(checked, record)
    assert found == expected
    assert advice in said


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param("v=DKIM1; k=ed25519; ", id="the key said to be of another kind"),
        pytest.param("v=DKIM2; k=rsa; ", id="another version"),
    ],
)
def test_a_record_with_our_key_that_mail_does_not_verify_with_is_wrong(relay: Relay, tmp_path: Path, tags: str) -> None:
    records = relay.json("domain", "add", DOMAIN)["records"]
    for record in records:
        record["value"] = record["value"].replace("v=DKIM1; k=rsa; ", tags)
    with authoritative(tmp_path, zone_of(records)) as nameserver:
        checked = check(relay, nameserver, code=os.EX_CONFIG)
    found, said = outcome(checked, "DKIM")
    assert (found, said) == ("wrong", f"Publish the record as it is in: relay domain show {DOMAIN}")


def test_dmarc_of_a_parent_counts(relay: Relay, tmp_path: Path) -> None:
    relay.json("domain", "add", f"news.{DOMAIN}")
    with authoritative(tmp_path, MACHINE | {DOMAIN: '_dmarc TXT "v=DMARC1; p=reject"\n'}) as nameserver:
        checked = check(relay, nameserver, domain=f"news.{DOMAIN}", code=os.EX_CONFIG)
    assert outcome(checked, "DMARC") == ("ok", "")


def test_a_nameserver_that_does_not_answer_is_neither_right_nor_wrong(relay: Relay) -> None:
    relay.json("domain", "add", DOMAIN)
    checked = check(relay, SILENT, code=os.EX_TEMPFAIL)
    assert {finding["outcome"] for finding in checked["findings"]} == {"unknown"}


def test_the_ptr_of_a_source_must_be_its_name(relay: Relay, tmp_path: Path) -> None:
    relay.json("domain", "add", DOMAIN)
    zones = {"113.0.203.in-addr.arpa": "10 PTR mx1.relay.test.\n", DOMAIN: ""}
    source = '[[source]]\naddress = "203.0.113.10"\nhostname = "{}"\n'
    with authoritative(tmp_path, zones) as nameserver:
        right = check(relay, nameserver, more=source.format("MX1.relay.test"), code=os.EX_CONFIG)
        assert outcome(right, "PTR")[0] == "ok"
        wrong = check(relay, nameserver, more=source.format("mx2.relay.test"), code=os.EX_CONFIG)
        assert outcome(wrong, "PTR")[0] == "wrong"


@pytest.mark.parametrize(
    ("zones", "wanted"),
    [
        pytest.param({}, ("ok", ""), id="the PTR is its name"),
        pytest.param({"113.0.203.in-addr.arpa": ""}, ("wrong", "make its PTR relay.example.com"), id="no PTR"),
        pytest.param({"relay.example.com": ""}, ("warning", "Publish an A or AAAA record"), id="no address"),
    ],
)
def test_without_a_source_the_machines_name_is_looked_up(
    relay: Relay, tmp_path: Path, zones: dict[str, str], wanted: tuple[str, str]
) -> None:
    records = relay.json("domain", "add", DOMAIN)["records"]
    with authoritative(tmp_path, zone_of(records) | zones) as nameserver:
        found, said = outcome(check(relay, nameserver, code=os.EX_CONFIG if wanted[0] == "wrong" else 0), "PTR")
    assert found == wanted[0]
    assert wanted[1] in said


async def test_a_dead_resolver_takes_one_timeout_and_not_one_for_each_record(relay: Relay) -> None:
    asked = asyncio.Event()

    def silence(_query: dns.message.Message, _tcp: bool) -> None:
        if len(resolver.questions) == 7:  # two keys, SPF, DMARC, MX, A and AAAA
            asked.set()

    await asyncio.to_thread(relay.json, "domain", "add", DOMAIN)
    async with FakeDns(silence) as resolver:
        relay.configure(f'[dns]\nnameservers = ["{resolver.address}"]\ntimeout = "1m"\n')
        command = [sys.executable, "-m", "relay", "--config", str(relay.config), "domain", "check", DOMAIN]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
        assert process.stderr is not None
        async with asyncio.timeout(20):
            assert b"Asking DNS" in await process.stderr.readline()
            await asked.wait()
        process.kill()
        await process.wait()


def test_a_new_key_signs_once_it_is_seen(relay: Relay, tmp_path: Path) -> None:
    first = relay.json("domain", "add", DOMAIN)
    rotated = relay.json("domain", "rotate", DOMAIN)
    assert [key["state"] for key in rotated["keys"]].count("pending") == 2
    again = relay("domain", "rotate", DOMAIN)
    assert again.code == os.EX_USAGE
    assert "under way" in again.err
    with authoritative(tmp_path, zone_of(first["records"])) as nameserver:
        check(relay, nameserver, code=os.EX_CONFIG)
        assert [key["state"] for key in relay.json("domain", "show", DOMAIN)["keys"]].count("pending") == 2
    second = tmp_path / "second"
    second.mkdir()
    with authoritative(second, zone_of(rotated["records"])) as nameserver:
        relay.configure(f'[dns]\nnameservers = ["{nameserver}"]\n')
        answer = relay("domain", "check", DOMAIN)
        assert answer.code == 0, answer.out
        assert "signs from now on" in answer.err
    states = {key["selector"]: key["state"] for key in relay.json("domain", "show", DOMAIN)["keys"]}
    assert sorted(states.values()) == ["active", "active", "retired", "retired"]
    assert {key["selector"] for key in first["keys"]} == {name for name, state in states.items() if state == "retired"}


def test_remove_names_the_records_to_take_out(relay: Relay) -> None:
    added = relay.json("domain", "add", DOMAIN)
    out = relay("domain", "remove", DOMAIN).out
    assert all(f"{key['selector']}._domainkey.{DOMAIN}" in out for key in added["keys"])
    assert relay.json("domain", "list") == []
