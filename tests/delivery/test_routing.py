from pathlib import Path

import pytest

from relay.config.models import Route
from relay.delivery.routing import DIRECT, Discard, Routes, Smarthost, Traits, Way
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
            Smarthost("127.0.0.1", 2500, "none"),
            id="the simulator is a smarthost on loopback",
        ),
        pytest.param(
            traits("a.b.internal.example"), Smarthost("::1", 2525, "none"), id="a star takes everything below"
        ),
        pytest.param(traits("internal.example"), DIRECT, id="... and not the domain itself"),
        pytest.param(traits(sender="news.example"), Discard(), id="by the envelope sender's domain"),
        pytest.param(traits(credential="ci"), DIRECT, id="every field named must agree"),
        pytest.param(
            traits(credential="ci", stream="bulk"),
            Smarthost("smarthost.example", 587, "starttls"),
            id="by credential and stream",
        ),
        pytest.param(traits("direct.example"), DIRECT, id="the first match wins"),
        pytest.param(traits("bücher.example"), Discard(), id="U-labels and A-labels are one domain"),
        pytest.param(traits("a.xn--strae-oqa.example"), Discard(), id="... in a pattern as well"),
    ],
)
def test_the_way_of_a_recipient(of: Traits, way: Way) -> None:
    assert Routes(TABLE, simulator_port=2500).choose(of) == way


def test_the_secret_is_read_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    route = Route(via="smtp://smarthost.example:465", login="me", secret_file=secret, security="tls")
    way = Routes((route,), simulator_port=0).choose(traits())
    assert way == Smarthost("smarthost.example", 465, "tls", "me", "s3cret")


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
        Routes([route], simulator_port=0)
