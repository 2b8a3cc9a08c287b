from ipaddress import ip_address
from pathlib import Path

import pytest

from relay.config import models
from relay.config.models import Route
from relay.config.sources import Source
from relay.delivery.routing import DIRECT, Direct, Discard, Routes, Smarthost, Traits, Way
from relay.errors import ConfigError

TABLE = (
    Route(recipient_domain="simulator.test", via="simulator"),
    Route(recipient_domain="*.internal.example", via="smtp://[::1]:2525", security="none"),
    Route(sender_domain="news.example", via="discard"),
    Route(credential="ci", stream="bulk", via="smtp://smarthost.example:587"),
    Route(recipient_domain="direct.example", via="direct"),
    Route(recipient_domain="direct.example", via="discard"),
    Route(recipient_domain="xn--bcher-kva.example", via="discard"),
    Route(recipient_domain="*.straße.example", via="discard"),
)


def traits(recipient_domain: str = "x.example", *, sender: str = "", credential: str = "", stream: str = "") -> Traits:
    return Traits(recipient_domain, sender, credential, stream)


@pytest.mark.parametrize(
    ("of", "way"),
    [
        pytest.param(traits(), DIRECT, id="direct to MX by default"),
        pytest.param(
            traits("simulator.test"),
            Way.of(Smarthost("127.0.0.1", 2500, "none")),
            id="the simulator is a smarthost on loopback",
        ),
        pytest.param(
            traits("a.b.internal.example"),
            Way.of(Smarthost("::1", 2525, "none")),
            id="a star takes everything below",
        ),
        pytest.param(traits("internal.example"), DIRECT, id="... and not the domain itself"),
        pytest.param(traits(sender="news.example"), Discard(), id="by the envelope sender's domain"),
        pytest.param(traits(credential="ci"), DIRECT, id="every field named must agree"),
        pytest.param(
            traits(credential="ci", stream="bulk"),
            Way.of(Smarthost("smarthost.example", 587, "starttls")),
            id="by credential and stream",
        ),
        pytest.param(traits("direct.example"), DIRECT, id="the first match wins"),
        pytest.param(traits("bücher.example"), Discard(), id="U-labels and A-labels are one domain"),
        pytest.param(traits("a.xn--strae-oqa.example"), Discard(), id="... in a pattern as well"),
    ],
)
def test_the_way_of_a_recipient(of: Traits, way: Way | Discard) -> None:
    assert Routes(TABLE, {}, simulator_port=2500).choose(of) == way


def test_a_route_leads_through_smarthosts_by_their_names() -> None:
    tables = {
        "ses": models.Smarthost(host="email-smtp.example", connections=5, messages_per_day=900),
        "spare": models.Smarthost(host="::1", port=465, security="tls"),
    }
    ses = Smarthost("email-smtp.example", 587, "starttls", name="ses")
    spare = Smarthost("::1", 465, "tls", name="spare")
    table = (
        Route(sender_domain="a.example", via="ses"),
        Route(sender_domain="b.example", via=("ses", "spare"), weights=(3, 1)),
        Route(via=("spare", "ses")),
    )
    routes = Routes(table, tables, simulator_port=0)
    assert routes.choose(traits(sender="a.example")) == Way((ses,), (1,))
    assert routes.choose(traits(sender="b.example")) == Way((ses, spare), (3, 1))
    assert routes.choose(traits()) == Way((spare, ses), (1, 0))
    assert routes.smarthosts == (ses, spare)


def test_a_route_names_the_pool_that_its_mail_leaves_from() -> None:
    sources = [
        Source(address=ip_address("192.0.2.1"), hostname="a.example"),
        Source(address=ip_address("192.0.2.2"), hostname="b.example", weight=3),
        Source(address=ip_address("192.0.2.3"), hostname="c.example", pool="bulk"),
    ]
    first, second = Direct("192.0.2.1", "a.example"), Direct("192.0.2.2", "b.example")
    bulk = Direct("192.0.2.3", "c.example")
    routes = Routes((Route(stream="bulk", via="direct", pool="bulk"),), {}, sources, simulator_port=0)
    assert routes.choose(traits(stream="bulk")) == Way((bulk,), (1,))
    assert routes.choose(traits()) == Way((first, second), (1, 3))
    assert routes.pool_of_smarthosts == (first, second)
    assert routes.hops == {first, second, bulk}


def test_the_secret_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    route = Route(via="smtp://smarthost.example:465", login="me", secret_file=secret, security="tls")
    way = Routes((route,), {}, simulator_port=0).choose(traits())
    assert way == Way.of(Smarthost("smarthost.example", 465, "tls", "me", "s3cret"))


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        pytest.param(None, "cannot be read: No such file", id="a file that is not there"),
        pytest.param(b"\xff\xfe\x00", "holds no secret", id="octets that are no text"),
        pytest.param(b" \n", "holds no secret", id="an empty file"),
    ],
)
def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path, octets: bytes | None, words: str) -> None:
    secret = tmp_path / "secret"
    if octets is not None:
        secret.write_bytes(octets)
    route = Route(via="smtp://smarthost.example:465", login="me", secret_file=secret, security="tls")
    with pytest.raises(ConfigError, match=f"secret_file: {secret} {words}"):
        Routes([route], {}, simulator_port=0)


def test_a_domain_that_is_none_is_a_mistake_in_relay_toml() -> None:
    with pytest.raises(ConfigError, match=r"\[\[route\]\] for ü\.\.x"):
        Routes([Route(recipient_domain="ü..x", via="discard")], {}, simulator_port=0)


def test_no_secret_is_in_what_a_traceback_shows() -> None:
    hop = Smarthost("smarthost.example", 587, "starttls", "relay", "the secret")
    assert "the secret" not in repr(Way.of(hop))
    assert "relay@smarthost.example:587" in repr(Way.of(hop))
