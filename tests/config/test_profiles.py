"""Which limits a site has: the [[site]] tables of relay.toml, then the provider's profile, then the default."""

import pytest

from relay.config.models import MxNumbers, Site, Smarthost
from relay.config.profiles import Limits, Profile, Profiles, SiteRules

GOOGLE = Profile(name="google", mx_suffixes=(".google.com",), connections=5, idle=10.0, tls="required")
PROFILES = Profiles(
    Profile(name="default", connections=10, messages_per_connection=50, messages_per_second=0.0), {"google.com": GOOGLE}
)
ASPMX = ("alt1.aspmx.l.google.com", "aspmx.l.google.com")


def limits(*sites: Site, mx: tuple[str, ...] = ASPMX, domains: tuple[str, ...] = ()) -> Limits:
    return SiteRules(PROFILES, sites).limits(mx, domains=domains)


def test_a_smarthosts_own_table_comes_before_all_others() -> None:
    table = Smarthost(host="smtp.google.com", connections=3, messages_per_day=500)
    site = Site(mx_suffix="google.com", connections=7, messages_per_minute=60)
    found = SiteRules(PROFILES, (site,), {"mine": table}).limits(("smtp.google.com",), smarthost="mine")
    told = {name: (getattr(found, name), origin) for name, origin in found.origins.items()}
    assert told == {
        "connections": (3, "[smarthost.mine] in relay.toml"),
        "messages_per_connection": (50, "default"),
        "messages_per_second": (0.0, "default"),
        "messages_per_minute": (60, '[[site]] 1 in relay.toml: mx_suffix = "google.com"'),
        "messages_per_hour": (0, "default"),
        "recipients": (50, "default of smarthosts"),
        "idle": (10.0, 'profile "google"'),
        "discard_ehlo_keywords": ((), "default"),
        "messages_per_day": (500, "[smarthost.mine] in relay.toml"),
    }


def test_a_site_that_is_no_smarthost_has_no_limit_of_a_day() -> None:
    found = SiteRules(PROFILES, (), {"mine": Smarthost(host="h", messages_per_day=5)}).limits(ASPMX, smarthost="mx")
    assert (found.messages_per_day, "messages_per_day" in found.origins) == (0, False)


def test_without_a_table_they_are_the_profiles_and_then_the_default() -> None:
    found = limits()
    assert (found.profile, found.connections, found.idle) == ("google", 5, 10.0)
    assert (found.messages_per_connection, found.messages_per_second, found.recipients) == (50, 0.0, 100)
    assert found.origins == {
        "connections": 'profile "google"',
        "messages_per_connection": "default",
        "messages_per_second": "default",
        "messages_per_minute": "default",
        "messages_per_hour": "default",
        "recipients": "default",
        "idle": 'profile "google"',
        "discard_ehlo_keywords": "default",
        "tls": 'profile "google"',
    }


def test_a_host_without_a_profile_has_the_default() -> None:
    found = limits(mx=("mx.example.net",))
    assert (found.profile, found.connections, found.tls) == ("default", 10, "opportunistic")
    assert found.origins == dict.fromkeys(MxNumbers.model_fields, "default")


TLS = [
    pytest.param((), "required", 'profile "google"', id="the profile, where no table says it"),
    pytest.param(
        (Site(mx_suffix="google.com", tls="verified"),),
        "verified",
        '[[site]] 1 in relay.toml: mx_suffix = "google.com"',
        id="the table before the profile",
    ),
]


@pytest.mark.parametrize(("sites", "tls", "origin"), TLS)
def test_what_tls_mail_needs_says(sites: tuple[Site, ...], tls: str, origin: str) -> None:
    found = SiteRules(PROFILES, sites, tls="none").limits(ASPMX)
    assert (found.tls, found.origins["tls"]) == (tls, origin)


def test_what_nobody_else_says_of_tls_is_what_delivery_says() -> None:
    found = SiteRules(PROFILES, (Site(mx_suffix="example.net", idle=1.0),), tls="required").limits(["mx.example.net"])
    assert (found.tls, found.origins["tls"]) == ("required", "[delivery] in relay.toml")


def test_of_a_smarthost_its_security_says_it() -> None:
    assert "tls" not in SiteRules(PROFILES, (), {"mine": Smarthost(host="h")}).limits(ASPMX, smarthost="mine").origins


def test_a_site_with_one_host_of_a_provider_has_its_profile() -> None:
    assert limits(mx=("a.example.net", "aspmx.l.google.com")).profile == "google"


def test_a_table_sets_what_it_names_and_leaves_the_rest_to_the_profile() -> None:
    found = limits(Site(mx_suffix="google.com", connections=2, messages_per_second=0.5))
    assert (found.connections, found.messages_per_second, found.idle) == (2, 0.5, 10.0)
    assert found.origins["connections"] == '[[site]] 1 in relay.toml: mx_suffix = "google.com"'
    assert found.origins["idle"] == 'profile "google"'


def test_the_first_table_that_fits_wins_with_all_it_names_and_no_other_adds_to_it() -> None:
    first = Site(mx_suffix="aspmx.l.google.com", connections=2)
    second = Site(mx_suffix=".google.com", connections=3, recipients=7)
    assert (limits(first, second).connections, limits(first, second).recipients) == (2, 100)
    other = limits(first, second, mx=("gmail-smtp-in.l.google.com",))
    assert (other.connections, other.recipients) == (3, 7)
    assert other.origins["recipients"] == '[[site]] 2 in relay.toml: mx_suffix = ".google.com"'


@pytest.mark.parametrize(
    ("suffix", "fits"),
    [
        pytest.param("aspmx.l.google.com", True, id="a host of it"),
        pytest.param(".L.Google.com.", True, id="in any case, with dots about it"),
        pytest.param("mx.l.google.com", False, id="whole labels only"),
        pytest.param("x.aspmx.l.google.com", False, id="below a host of it"),
    ],
)
def test_a_suffix_is_compared_with_each_host(suffix: str, fits: bool) -> None:
    assert (limits(Site(mx_suffix=suffix, connections=1)).connections == 1) is fits


def test_a_domain_means_the_site_that_its_hosts_make() -> None:
    table = Site(domain="Bücher.example", connections=1)
    assert SiteRules(PROFILES, (table,)).domains == {"xn--bcher-kva.example"}
    assert limits(table).connections == 5
    found = limits(table, domains=("xn--bcher-kva.example",))
    assert found.connections == 1
    assert found.origins["connections"] == '[[site]] 1 in relay.toml: domain = "Bücher.example"'


GMAIL = ("gmail-smtp-in.l.google.com",)
TOGETHER = Profiles(
    Profile(name="default"), {"google.com": Profile(name="google", mx_suffixes=(".google.com",), scope="provider")}
)


@pytest.mark.parametrize(
    ("sites", "mx", "domains", "counted_as"),
    [
        pytest.param((), GMAIL, (), "provider google", id="a provider's sites are counted together"),
        pytest.param((), ("mx.example.net",), (), "", id="each other site by itself"),
        pytest.param(
            (Site(mx_suffix="google.com", connections=9),), GMAIL, (), "provider google at google.com",
            id="a table for all of them counts all of them",
        ),
        pytest.param(
            (Site(mx_suffix="aspmx.l.google.com", connections=9),), GMAIL, (), "provider google",
            id="one for some of them leaves the others together",
        ),
        pytest.param(
            (Site(domain="example.com", connections=9),), ASPMX, ("example.com",), "",
            id="one of a domain is one site's",
        ),
    ],
)
def test_what_the_machine_counts_as_one(
    sites: tuple[Site, ...], mx: tuple[str, ...], domains: tuple[str, ...], counted_as: str
) -> None:
    assert SiteRules(TOGETHER, sites).limits(mx, domains=domains).counted_as == counted_as
