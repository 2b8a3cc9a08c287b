"""What is said to be left out is what this relay.toml has, and nothing else."""

from typing import Any

import pytest

from relay.config.models import Config
from relay.dryrun.leaving_out import left_out

SES = {"ses": {"host": "email-smtp.example.net", "messages_per_second": 14}}
COLD = {"address": "192.0.2.2", "hostname": "mx2.example.com", "warm_up": "2026-12-01"}
IPV6 = {"address": "2001:db8::1", "hostname": "mx6.example.com"}
WARM = {"address": "192.0.2.1", "hostname": "mx1.example.com"}

TABLES = [
    pytest.param({}, [], id="the defaults"),
    pytest.param({"site": [{"mx_suffix": "google.com", "connections": 2}]}, [], id="limits are looked at"),
    pytest.param({"smarthost": SES}, [], id="a smarthost that no route leads to"),
    pytest.param({"route": [{"stream": "bulk", "via": "direct"}]}, [], id="a route to MX hosts"),
    pytest.param({"smarthost": SES, "route": [{"via": "ses"}]}, [], id="a route to a smarthost"),
    pytest.param({"route": [{"credential": "shop", "via": "discard"}]}, ["[[route]]"], id="a credential's route"),
    pytest.param({"route": [{"stream": "alerts", "via": "discard"}]}, ["[[route]]"], id="another stream's route"),
    pytest.param({"source": [WARM]}, [], id="an address"),
    pytest.param({"source": [WARM, COLD]}, [], id="an address in its warm-up"),
    pytest.param({"source": [WARM, IPV6]}, ["[[source]]"], id="an address of IPv6 beside others"),
    pytest.param({"source": [IPV6]}, ["[[source]]"], id="an address of IPv6 alone"),
    pytest.param({"blocklist": [{"zone": "zen.example.org"}]}, [], id="a list without addresses to look up"),
    pytest.param({"source": [WARM], "blocklist": [{"zone": "zen.example.org"}]}, ["[[blocklist]]"], id="a list"),
    pytest.param({"delivery": {"tls": "required"}}, ["tls"], id="TLS that mail needs"),
    pytest.param({"site": [{"domain": "bank.example", "tls": "verified"}]}, ["tls"], id="TLS that one site needs"),
]


@pytest.mark.parametrize(("tables", "said"), TABLES)
def test_only_what_relay_toml_has_is_said(tables: dict[str, Any], said: list[str]) -> None:
    config = Config.model_validate({"server": {"hostname": "relay.example.com"}, **tables})
    assert [words.partition(":")[0] for words in left_out(config)] == said
