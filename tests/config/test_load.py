"""config.load: every mistake in relay.toml gets a sentence that says where it is and what to do."""

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from relay.config.consistency import streams
from relay.config.files import refuse_unsafe_files
from relay.config.load import load
from relay.config.models import Config
from relay.errors import ConfigError, PermissionRefused

SERVER = '[server]\nhostname = "relay.example.com"\n'
SOURCE = '[[source]]\naddress = "203.0.113.10"\nhostname = "mx1.example.com"\n'
TODAY = "2026-12-01"
NOW = datetime.fromisoformat(f"{TODAY}T12:00:00Z").timestamp()
SMARTHOST = '[smarthost.ses]\nhost = "smtp.example.net"\n'


def load_text(tmp_path: Path, text: str, **environment: str) -> Config:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    return load(path, environment=environment, now=lambda: NOW)


def problems(tmp_path: Path, text: str) -> str:
    """The error's text without the file's name."""
    with pytest.raises(ConfigError) as refusal:
        load_text(tmp_path, text)
    assert refusal.value.remedy
    return refusal.value.text.removeprefix(f"{tmp_path}/relay.toml: ")


def source(number: int, **keys: str | int) -> str:
    """Of relay.toml, in four lines and one for each key."""
    more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f'[[source]]\naddress = "192.0.2.{number}"\nhostname = "out{number}.example.com"\n{more}\n'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param(
            '[server]\nhostname = "a.example"\nhostnam = "b"\n',
            'unknown key "hostnam" in [server], line 3; did you mean "hostname"?',
            id="a key misspelt",
        ),
        pytest.param(
            '[server]\nhostname = "a.example"\nretention_days = 3\n',
            'unknown key "retention_days" in [server], line 3; it belongs in [journal]',
            id="a key in the wrong table",
        ),
        pytest.param(
            SERVER + "[http]\nxyzzy = 1\n",
            'unknown key "xyzzy" in [http], line 4; the keys here are listen, token_file',
            id="a key like no other",
        ),
        pytest.param(
            SERVER + "[submision]\n",
            "unknown table [submision], line 3; did you mean [submission]?",
            id="a table misspelt",
        ),
        pytest.param(
            SERVER + "[xyzzy]\n",
            "unknown table [xyzzy], line 3; the tables are server, submission, tls, dns, delivery, source,"
            " warm_up, blocklist, smarthost, route, site, stream, http, journal, suppression, log",
            id="a table like no other",
        ),
        pytest.param(
            "xyzzy = 1\n" + SERVER,
            'unknown key "xyzzy" in no table, line 1; the tables are server, submission, tls, dns, delivery, source,'
            " warm_up, blocklist, smarthost, route, site, stream, http, journal, suppression, log",
            id="a key before all tables",
        ),
        pytest.param(
            "", 'the table [server] is missing; add it with hostname = "relay.example.com"', id="an empty file"
        ),
        pytest.param(
            "[server]\nworkers = 2\n",
            '"hostname" is missing in [server], line 1; add hostname = "relay.example.com"',
            id="a required key missing",
        ),
        pytest.param(
            SERVER + '[[route]]\nvia = "direct"\n[[route]]\nstream = "bulk"\n',
            '"via" is missing in [[route]], line 5; add via = "smtp://smarthost.example.net:587"',
            id="a required key missing in the second table of an array",
        ),
        pytest.param(
            SERVER + 'workers = "many"\n',
            '[server] workers = "many", line 3: write a whole number or "auto"',
            id="neither a number nor the word",
        ),
        pytest.param(
            SERVER + "workers = 1.5\n",
            '[server] workers = 1.5, line 3: write a whole number or "auto"',
            id="a fraction of a worker",
        ),
        pytest.param(
            SERVER + "workers = 0\n",
            '[server] workers = 0, line 3: write "auto" or a number from 1 to 64',
            id="no worker at all",
        ),
        pytest.param(
            SERVER + 'drain = "soon"\n',
            '[server] drain, line 3: "soon" is no duration; write a number and a unit,'
            ' such as "90s", "10m", "4h" or "5d"',
            id="no duration",
        ),
        pytest.param(
            SERVER + "[dns]\ntimeout = -1\n",
            "[dns] timeout = -1, line 4: write a number of 0 or more",
            id="less than nothing",
        ),
        pytest.param(
            SERVER + "[delivery.retry]\nexpire = 0\n",
            "[delivery.retry] expire = 0, line 4: write a number above 0",
            id="nothing where something must be",
        ),
        pytest.param(
            SERVER + "[delivery]\nport = 70000\n",
            "[delivery] port = 70000, line 4: write a number of 65535 or less",
            id="a port too high",
        ),
        pytest.param(
            SERVER + "[delivery.retry]\njitter = inf\n",
            "[delivery.retry] jitter = Infinity, line 4: write a number",
            id="infinity",
        ),
        pytest.param(
            SERVER + "[delivery]\nport = true\n",
            "[delivery] port = true, line 4: no key takes true or false; write a number, or text in quotes",
            id="true is not one",
        ),
        pytest.param(
            SERVER + '[[site]]\nmx_suffix = "mx.example"\nconnections = 100000000000000000000\n',
            "[[site]] connections = 100000000000000000000, line 5: no number is larger than 1000000000000000",
            id="one that no process could tell another",
        ),
        pytest.param(
            SERVER + '[[site]]\nmx_suffix = "mx.example"\nmessages_per_second = 1e-9\n',
            "[[site]] messages_per_second = 1e-09, line 5: write 0 for no limit, 0.001 or more, or what is meant as"
            " messages_per_hour",
            id="a rate whose next turn nobody lives to see",
        ),
        pytest.param(
            SERVER + '[dns]\ncache_size = "big"\n',
            '[dns] cache_size = "big", line 4: write a whole number',
            id="text where a number must be",
        ),
        pytest.param(
            "[server]\nhostname = 3\n",
            "[server] hostname = 3, line 2: write text in quotes",
            id="a number where text must be",
        ),
        pytest.param(
            SERVER + "spool = 3\n",
            "[server] spool = 3, line 3: write a path in quotes",
            id="a number where a path must be",
        ),
        pytest.param(
            SERVER + '[submission]\nstarttls = "0.0.0.0:587"\n',
            '[submission] starttls = "0.0.0.0:587", line 4: write a list, such as ["..."]',
            id="text where a list must be",
        ),
        pytest.param(
            SERVER + "[delivery.retry]\nladder = []\n",
            "[delivery.retry] ladder = [], line 4: write at least one element",
            id="an empty list",
        ),
        pytest.param(
            SERVER + '[submission]\nbare_newlines = "allow"\n',
            '[submission] bare_newlines = "allow", line 4: write "refuse" or "normalize"',
            id="a word that is no choice",
        ),
        pytest.param(
            SERVER + '[submission]\ntls = [\n  "[::]:465",\n  "localhost:465",\n]\n',
            '[submission] tls, line 4: "localhost:465" is no listen address;'
            ' write ADDRESS:PORT, such as "0.0.0.0:587" or "[::]:587"',
            id="a name where an address must be",
        ),
        pytest.param(
            SERVER + '[delivery]\nallow_networks = ["10.0.0.1/8"]\n',
            '[delivery] allow_networks, line 4: "10.0.0.1/8" has bits set after its prefix; write "10.0.0.0/8"',
            id="a network with bits after its prefix",
        ),
        pytest.param(
            SERVER + '[delivery]\nallow_networks = ["10.0.0.0/33"]\n',
            '[delivery] allow_networks, line 4: "10.0.0.0/33" is no network;'
            ' write it as "10.0.0.0/8" or "2001:db8::/32"',
            id="a network that cannot be",
        ),
        pytest.param(
            SERVER + '[[source]]\naddress = "mx1"\nhostname = "mx1.example"\n',
            '[[source]] address, line 4: "mx1" is no IP address; write it as "203.0.113.10" or "2001:db8::10"',
            id="a name where an IP address must be",
        ),
        pytest.param("server = 3\n", "[server], line 1: write a table, under [server]", id="a value for a table"),
        pytest.param(
            SERVER + "[route]\n",
            "[[route]], line 3: write tables, each under [[route]]",
            id="single brackets for an array",
        ),
        pytest.param(
            "stream = 3\n" + SERVER, "[stream], line 1: write tables, each with its name", id="a stream without a name"
        ),
        pytest.param(
            SERVER + '[[route]]\nvia = "smarthost.example.net"\n',
            '[[route]] via, line 4: "smarthost.example.net" is no way;'
            ' write "direct", "discard", "simulator", "smtp://host:587" or a smarthost\'s name',
            id="a way that is none",
        ),
        pytest.param(
            SERVER + '[[route]]\nvia = "smtp://h:587"\nlogin = "x"\n',
            "[[route]], line 3: login and secret_file go together",
            id="a login without its secret",
        ),
        pytest.param(
            SERVER + "[journal]\nretention_days = 2\n",
            "[journal] retention_days = 2, line 4: mail may wait 5d, and what became of it would be forgotten"
            " before its end; write 6 or more",
            id="a journal that forgets too soon",
        ),
        # What is right by itself and wrong together.
        pytest.param(
            '[server]\nhostname = "relay example"\n',
            '[server] hostname = "relay example", line 2: write a host name of letters, digits, hyphens and dots'
            " (an IDN as its xn-- form)",
            id="a host name with a space",
        ),
        pytest.param(
            SERVER + '[[route]]\nstream = "newsletter"\nvia = "discard"\n',
            '[[route]] stream = "newsletter", line 4: there is no such stream; the streams are transactional, bulk'
            " (add [stream.newsletter] for it)",
            id="a route for an unknown stream",
        ),
        pytest.param(
            SERVER + '[[route]]\nvia = "ses"\n',
            '[[route]] via = "ses", line 4: there is no [smarthost.ses]; add it',
            id="a route through a smarthost without a table",
        ),
        pytest.param(
            SERVER + SMARTHOST + '[[route]]\nvia = ["ses", "postmark"]\n',
            '[[route]] via = ["ses", "postmark"], line 6: there is no [smarthost.postmark]; add it, or name one of ses',
            id="... or a list with one",
        ),
        pytest.param(
            SERVER + SMARTHOST + '[[route]]\nvia = ["ses", "direct"]\n',
            '[[route]] via, line 6: "direct" stands alone; a list has names of [smarthost.NAME] tables',
            id="a list with what is no smarthost",
        ),
        pytest.param(
            SERVER + "[[route]]\nvia = []\n",
            "[[route]] via = [], line 4: name one smarthost or more",
            id="a list of none",
        ),
        pytest.param(
            SERVER + SMARTHOST + '[[route]]\nvia = ["ses", "ses"]\n',
            '[[route]] via = ["ses", "ses"], line 6: name each smarthost once',
            id="a smarthost twice",
        ),
        pytest.param(
            SERVER + SMARTHOST + '[[route]]\nvia = "ses"\nsecurity = "tls"\n',
            "[[route]], line 5: login, secret_file and security of a smarthost belong in [smarthost.ses]",
            id="security where the smarthost's table has it",
        ),
        pytest.param(
            SERVER + SMARTHOST + '[[route]]\nvia = "ses"\nweights = [1, 2]\n',
            "[[route]], line 5: write as many weights as via names smarthosts, or none",
            id="more weights than smarthosts",
        ),
        pytest.param(
            SERVER + SMARTHOST + '[[route]]\nvia = "ses"\nweights = [0]\n',
            "[[route]], line 5: one of the weights must be 1 or more",
            id="no weight at all",
        ),
        pytest.param(
            SERVER + '[smarthost.SES]\nhost = "smtp.example.net"\n',
            "[smarthost.SES], line 3: name it with small letters, digits, - and _,"
            " and not direct, discard or simulator",
            id="a smarthost's name with capitals",
        ),
        pytest.param(
            SERVER + '[smarthost.ses]\nhost = "smtp.example.net:587"\n',
            '[smarthost.ses] host = "smtp.example.net:587", line 4: write a name such as "smtp.example.net",'
            " or an address; its port is a key of its own",
            id="a smarthost's port beside its name",
        ),
        pytest.param(
            SERVER + SMARTHOST + 'login = "me"\n',
            "[smarthost.ses], line 3: login and secret_file go together",
            id="a smarthost's login without a secret",
        ),
        pytest.param(
            SERVER + SMARTHOST + 'login = "me"\nsecret_file = "s"\nsecurity = "none"\n',
            '[smarthost.ses], line 3: a login is never sent in clear text; set security = "starttls" or "tls"',
            id="a smarthost's login in clear text",
        ),
        pytest.param(
            SERVER + '[[route]]\nvia = "smtp://smarthost.example.net:70000"\n',
            '[[route]] via = "smtp://smarthost.example.net:70000", line 4: write a port from 1 to 65535',
            id="a smarthost's port too high",
        ),
        pytest.param(
            SERVER + source(1) + source(1, pool="bulk"),
            '[[source]] address = "192.0.2.1", line 8: it is there twice; a [[source]] has one pool, and more than one'
            " route can name it",
            id="an address in two pools",
        ),
        *(
            pytest.param(
                SERVER + f'[[source]]\naddress = "{address}"\nhostname = "mx.example"\n',
                f'[[source]] address = "{address}", line 4: no mail can leave from it; write an address that this'
                " machine has, of IPv4 or of IPv6",
                id=f"{address} to send from",
            )
            for address in ("0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "::ffff:192.0.2.1")
        ),
        pytest.param(
            SERVER + source(1) + source(2, pool="bulk", weight=0) + source(3, pool="bulk", weight=0),
            '[[source]] weight = 0, line 11: no address of the pool "bulk" has a share; give one of them a weight of 1'
            " or more",
            id="a pool that nobody has a share of",
        ),
        pytest.param(
            SERVER + source(1) + '[[route]]\nstream = "bulk"\nvia = "direct"\npool = "bulk"\n',
            '[[route]] pool = "bulk", line 10: no [[source]] has pool = "bulk"; name one of default',
            id="a route to a pool without an address",
        ),
        pytest.param(
            SERVER + source(1, pool="bulk") + '[[route]]\nstream = "bulk"\nvia = "direct"\npool = "bulk"\n',
            '[[source]], line 3: no [[source]] has pool = "default", which has all mail that no route sends elsewhere;'
            " give one of them that pool, or end the routes with one that matches everything and names another",
            id="mail without a pool",
        ),
        pytest.param(
            SERVER + '[[route]]\nvia = "discard"\npool = "bulk"\n',
            '[[route]], line 3: pool goes with via = "direct"; mail to smarthosts leaves from the pool "default"',
            id="a pool of no direct mail",
        ),
        pytest.param(
            SERVER + source(1, pool="Two words"),
            '[[source]] pool, line 6: "Two words" is no name of a pool; write small letters, digits,'
            " - and _",
            id="a pool's name that is none",
        ),
        pytest.param(
            SERVER + '[http]\nlisten = "0.0.0.0:8025"\n',
            '[http] listen, line 4: "0.0.0.0:8025" is not loopback: everyone could read the metrics;'
            " listen on 127.0.0.1, or set token_file to a file with a bearer token",
            id="HTTP for everyone without a token",
        ),
        pytest.param(
            SERVER + '[submission]\ntls = ["127.0.0.1:587"]\n',
            '[submission] tls, line 4: "127.0.0.1:587" and "0.0.0.0:587" cannot both listen;'
            " give one of them another port or address",
            id="two listeners on one port",
        ),
        pytest.param(
            SERVER + '[submission]\ntls = ["127.0.0.1:8025"]\n',
            '[http] listen: "127.0.0.1:8025" and "127.0.0.1:8025" cannot both listen;'
            " give one of them another port or address",
            id="a listener on the port HTTP has by default",
        ),
        pytest.param(
            SERVER + "[[site]]\nconnections = 2\n",
            "[[site]], line 3: say which sites are meant by mx_suffix or by domain, by one of the two",
            id="limits of no site",
        ),
        pytest.param(
            SERVER + '[[site]]\nmx_suffix = "mx.example.com"\ndomain = "example.com"\nconnections = 2\n',
            "[[site]], line 3: say which sites are meant by mx_suffix or by domain, by one of the two",
            id="a site meant in two ways",
        ),
        pytest.param(
            SERVER + '[[site]]\nmx_suffix = "*.example.com"\nconnections = 2\n',
            '[[site]] mx_suffix = "*.example.com", line 4: write a host name or its end, such as "mx.example.com"'
            " (an IDN as its xn-- form)",
            id="a star in a suffix",
        ),
        pytest.param(
            SERVER + '[[site]]\ndomain = "example..com"\nconnections = 2\n',
            '[[site]] domain = "example..com", line 4: write a recipient domain, such as "example.com"',
            id="a site of no domain",
        ),
        pytest.param(
            SERVER + '[[site]]\ndomain = "example.com"\n',
            "[[site]], line 3: it names no limit; add one of connections, messages_per_connection,"
            " messages_per_second, messages_per_minute, messages_per_hour, recipients, idle, discard_ehlo_keywords,"
            " tls, or remove the table",
            id="a site without limits",
        ),
        pytest.param(
            SERVER + '[[site]]\ndomain = "example.com"\ntls = "encrypt"\n',
            '[[site]] tls = "encrypt", line 5: write "none", "opportunistic", "required" or "verified"',
            id="a word that no TLS is called by",
        ),
        pytest.param(
            SERVER + '[[site]]\ndomain = "example.com"\ndiscard_ehlo_keywords = ["STARTTLS"]\n',
            '[[site]] discard_ehlo_keywords = "STARTTLS", line 5: write "CHUNKING", "PIPELINING", "8BITMIME",'
            ' "SMTPUTF8", "DSN", "SIZE" or "LIMITS"',
            id="a keyword that is not for discarding",
        ),
        pytest.param(
            SERVER + '[[site]]\ndomain = "example.com"\nconnections = 0\n',
            "[[site]] connections = 0, line 5: write a number of 1 or more",
            id="a site that no connection may be opened to",
        ),
        pytest.param(
            SERVER + '[[site]]\nmx_suffix = ".example.com"\nidle = "1m"\n'
            '[[site]]\nmx_suffix = "mx.Example.com"\nconnections = 2\n',
            '[[site]] mx_suffix = "mx.Example.com", line 7: [[site]] 1 wins, for its ".example.com" fits the same'
            " hosts; put this table first",
            id="a site that an earlier table has already",
        ),
        pytest.param(
            SERVER + '[[site]]\ndomain = "example.com"\nidle = "1m"\n'
            '[[site]]\ndomain = "Example.com"\nconnections = 2\n',
            '[[site]] domain = "Example.com", line 7: [[site]] 1 names the same domain and wins; keep one of them',
            id="a domain named twice",
        ),
        pytest.param(
            SERVER + SOURCE + 'warm_up = "1 December"\n',
            '[[source]] warm_up, line 6: "1 December" is no day; write year, month and day, such as "2026-12-01"',
            id="a day in words",
        ),
        pytest.param(
            SERVER + SOURCE + "warm_up = 20261201\n",
            '[[source]] warm_up, line 6: "20261201" is no day; write year, month and day, such as "2026-12-01"',
            id="a day as a number",
        ),
        pytest.param(
            SERVER + SOURCE + 'warm_up = "1970-01-01"\n',
            '[[source]] warm_up = "1970-01-01", line 6: it is before Relay had warm-ups, so the address would be warm;'
            " write the day on which it begins, or leave it out for an address that is known already",
            id="a day that is long over",
        ),
        pytest.param(
            SERVER + SOURCE + 'warm_up = "2126-12-01"\n',
            f'[[source]] warm_up = "2126-12-01", line 6: it is more than a year from now ({TODAY}), and the address'
            " would send nothing until then; write the day on which its warm-up begins",
            id="a day that nobody will see",
        ),
        *(
            pytest.param(
                SERVER + f'[[source]]\naddress = "{address}"\nhostname = "mx1.example.com"\n',
                f'[[source]] address = "{address}", line 4: it is of one link alone, and no mail leaves that; write a'
                " global address of this machine",
                id=f"{address} as an address to send from",
            )
            for address in ("fe80::1", "fe80::1%eth0", "2001:db8::10%eth0")
        ),
        pytest.param(
            SERVER + "[warm_up]\ngrowth = 1\n",
            "[warm_up] growth = 1, line 4: write a number above 1",
            id="a warm-up that does not grow",
        ),
        pytest.param(
            SERVER + "[warm_up]\nfirst = 5000\nuntil = 5000\n",
            "[warm_up], line 3: first = 5000 is not below until = 5000, and there would be no warm-up; write less",
            id="a warm-up that is over when it begins",
        ),
        pytest.param(
            SERVER + SOURCE + '[[blocklist]]\nzone = "https://zen.spamhaus.org/"\n',
            '[[blocklist]] zone = "https://zen.spamhaus.org/", line 7: write the name of its zone, such as'
            ' "zen.spamhaus.org"',
            id="a blocklist's address on the web",
        ),
        pytest.param(
            SERVER + SOURCE + '[[blocklist]]\nzone = "a.test"\n[[blocklist]]\nzone = "A.test."\n',
            '[[blocklist]] zone = "A.test.", line 9: it is named twice; keep one of the tables',
            id="a blocklist named twice",
        ),
        pytest.param(
            SERVER + '[[blocklist]]\nzone = "a.test"\n',
            '[[blocklist]] zone = "a.test", line 4: there is no [[source]] whose address could be looked up;'
            " add one for the address that you send from",
            id="a blocklist and nothing to look up",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_place_and_advice(tmp_path: Path, text: str, sentence: str) -> None:
    assert problems(tmp_path, text) == sentence


@pytest.mark.parametrize("day", ["2026-01-01", TODAY, "2027-06-01", "2027-12-02"])
def test_a_warm_up_may_have_begun_or_begin_within_a_year(tmp_path: Path, day: str) -> None:
    assert str(load_text(tmp_path, SERVER + SOURCE + f'warm_up = "{day}"\n').source[0].warm_up) == day


TRUSTED = SERVER + '[[submission.trusted]]\nlisten = "{listen}"\nnetworks = ["{network}"]\ncredential = "local"\n'


@pytest.mark.parametrize(
    ("listen", "network", "fault"),
    [
        pytest.param("127.0.0.1:2525", "0.0.0.0/0", "is public", id="the whole Internet"),
        pytest.param("127.0.0.1:2525", "203.0.113.0/24", "is public", id="a public network"),
        pytest.param("127.0.0.1:2525", "2001:db8::/48", "is public", id="a public IPv6 network"),
        pytest.param("127.0.0.1:2525", "100.64.0.0/16", "is public", id="CGNAT, shared with strangers"),
        pytest.param("127.0.0.1:2525", "8.0.0.0/5", "is public", id="wider than the private network in it"),
        pytest.param("127.0.0.1:2525", "10.0.0.0/8", "wider than /16", id="all of 10/8"),
        pytest.param("127.0.0.1:2525", "fd00::/8", "wider than /48", id="all unique local addresses"),
        pytest.param("10.0.0.1:2525", "10.0.0.0/24", "is not loopback", id="a listener off loopback"),
        pytest.param("0.0.0.0:2525", "127.0.0.0/8", "is not loopback", id="a listener on every address"),
    ],
)
def test_a_trusted_listener_that_could_be_an_open_relay_is_refused(
    tmp_path: Path, listen: str, network: str, fault: str
) -> None:
    text = problems(tmp_path, TRUSTED.format(listen=listen, network=network))
    assert "[[submission.trusted]]" in text
    assert fault in text


@pytest.mark.parametrize(
    ("listen", "network"),
    [
        pytest.param("127.0.0.1:2525", "127.0.0.0/8", id="loopback, however wide"),
        pytest.param("127.0.0.1:2525", "10.1.0.0/16", id="a /16 of 10/8"),
        pytest.param("[::1]:2525", "fd00:1:2::/48", id="one site's unique local addresses"),
        pytest.param("[::1]:2525", "::1/128", id="IPv6 loopback"),
        pytest.param("127.0.0.1:2525", "192.168.7.9/32", id="one printer"),
    ],
)
def test_a_trusted_listener_for_private_networks_is_allowed(tmp_path: Path, listen: str, network: str) -> None:
    config = load_text(tmp_path, TRUSTED.format(listen=listen, network=network))
    assert str(config.submission.trusted[0].networks[0]) == network


def test_behind_nat_accepted_allows_a_listener_off_loopback(tmp_path: Path) -> None:
    text = TRUSTED.format(listen="0.0.0.0:2525", network="172.17.0.0/16") + 'behind_nat = "accepted"\n'
    assert load_text(tmp_path, text).submission.trusted[0].behind_nat == "accepted"


def test_listeners_on_port_0_or_of_different_families_do_not_collide(tmp_path: Path) -> None:
    listeners = '[submission]\nstarttls = ["127.0.0.1:0", "0.0.0.0:587", "[::]:587"]\ntls = ["127.0.0.1:0"]\n'
    assert len(load_text(tmp_path, SERVER + listeners).submission.starttls) == 3


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = problems(tmp_path, '[server]\nhostname = "a.example"\nspol = "x"\nworkers = "x"\n[log]\nlevel = "loud"\n')
    assert text.splitlines() == [
        f"{tmp_path}/relay.toml has 3 problems:",
        'unknown key "spol" in [server], line 3; did you mean "spool"?',
        '[server] workers = "x", line 4: write a whole number or "auto"',
        '[log] level = "loud", line 6: write "debug", "info", "warning" or "error"',
    ]


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        pytest.param(b"[server]\nhostname = relay.example.com\n", "is not TOML: .*line 2", id="text without quotes"),
        pytest.param(b"[server\n", "is not TOML: .*line 1", id="a bracket missing"),
        pytest.param(b"[server]\n[server]\n", "is not TOML: .*line 2", id="a table twice"),
        pytest.param(b"[server]\n# caf\xe9\n", "line 2: not UTF-8", id="Latin-1"),
        pytest.param(b'[server]\nhostname = "\0"\n', "is not TOML: .*line 2", id="a NUL"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, octets: bytes, fault: str) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(octets)
    with pytest.raises(ConfigError, match=fault) as refusal:
        load(path, environment={})
    assert refusal.value.remedy


def test_a_byte_order_mark_and_crlf_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(b'\xef\xbb\xbf[server]\r\nhostname = "relay.example.com"\r\n')
    assert load(path, environment={}).server.hostname == "relay.example.com"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml does not exist") as refusal:
        load(tmp_path / "absent.toml", environment={})
    assert "relay quickstart" in refusal.value.remedy
    assert "relay.toml.example" in refusal.value.remedy


def test_a_directory_for_a_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        load(tmp_path, environment={})


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    assert len(problems(tmp_path, SERVER + f'workers = "{"x" * 10_000}"\n')) < 200


def test_a_hostile_file_is_refused_in_linear_time(tmp_path: Path) -> None:
    started = time.process_time()
    problems(tmp_path, SERVER + "a" * 100_000 + " = 1\n")
    problems(tmp_path, SERVER + "".join(f"key{number} = 1\n" for number in range(2000)))
    assert time.process_time() - started < 5


# --- paths


def test_relative_paths_are_relative_to_the_config_file(tmp_path: Path) -> None:
    text = (
        SERVER
        + 'spool = "../spool"\n[tls]\ncertificate = "tls/a.pem"\nkey = "/etc/a.key"\n'
        + '[[tls.additional]]\ncertificate = "b.pem"\nkey = "b.key"\n'
        + '[[route]]\nvia = "smtp://h:587"\nlogin = "x"\nsecret_file = "h.secret"\n'
    )
    config = load_text(tmp_path, text)
    assert config.server.spool == tmp_path / "../spool"
    assert config.tls.certificate == tmp_path / "tls/a.pem"
    assert config.tls.key == Path("/etc/a.key")
    assert config.tls.additional[0].key == tmp_path / "b.key"
    assert config.route[0].secret_file == tmp_path / "h.secret"


def test_systemd_credentials_are_found(tmp_path: Path) -> None:
    text = SERVER + '[tls]\nkey = "${CREDENTIALS_DIRECTORY}/key.pem"\n'
    config = load_text(tmp_path, text, CREDENTIALS_DIRECTORY="/run/credentials/relay.service")
    assert config.tls.key == Path("/run/credentials/relay.service/key.pem")


def test_outside_the_unit_a_systemd_credential_stops_only_a_server(tmp_path: Path) -> None:
    config = load_text(tmp_path, SERVER + '[tls]\nkey = "${CREDENTIALS_DIRECTORY}/key.pem"\n')
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY is not set"):
        refuse_unsafe_files(config)


# --- files


def with_files(tmp_path: Path, extra: str = "", *, key_mode: int = 0o600) -> Config:
    (tmp_path / "a.pem").write_text("certificate")
    (tmp_path / "a.key").write_text("key")
    (tmp_path / "a.key").chmod(key_mode)
    return load_text(tmp_path, SERVER + '[tls]\ncertificate = "a.pem"\nkey = "a.key"\n' + extra)


def test_files_that_are_there_and_closed_are_accepted(tmp_path: Path) -> None:
    refuse_unsafe_files(with_files(tmp_path))
    refuse_unsafe_files(with_files(tmp_path, key_mode=0o640))  # a group for it, as Debian's ssl-cert


def test_a_key_that_everyone_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermissionRefused, match=r"\[tls\] key: .*a\.key .*mode 644.*chmod o-rwx"):
        refuse_unsafe_files(with_files(tmp_path, key_mode=0o644))


@pytest.mark.parametrize(
    ("table", "name"),
    [
        pytest.param('[http]\ntoken_file = "s"\n', r"\[http\] token_file", id="the token of HTTP"),
        pytest.param(
            '[[route]]\nvia = "smtp://h:587"\nlogin = "x"\nsecret_file = "s"\n',
            r"\[\[route\]\] secret_file",
            id="the secret of a smarthost",
        ),
        pytest.param(
            '[[tls.additional]]\ncertificate = "a.pem"\nkey = "s"\n', r"\[\[tls.additional\]\] key", id="another key"
        ),
    ],
)
def test_every_secret_file_must_be_there_and_closed(tmp_path: Path, table: str, name: str) -> None:
    config = with_files(tmp_path, table)
    with pytest.raises(ConfigError, match=name + ".*does not exist"):
        refuse_unsafe_files(config)
    (tmp_path / "s").write_text("secret")
    (tmp_path / "s").chmod(0o604)
    with pytest.raises(PermissionRefused, match=name):
        refuse_unsafe_files(config)
    (tmp_path / "s").chmod(0o400)
    refuse_unsafe_files(config)


def test_auth_without_a_certificate_is_refused(tmp_path: Path) -> None:
    config = load_text(tmp_path, SERVER + '[tls]\ncertificate = "a.pem"\nkey = "a.key"\n')
    with pytest.raises(ConfigError, match="AUTH is never offered without TLS") as refusal:
        refuse_unsafe_files(config)
    assert len(refusal.value.text.splitlines()) == 2


def test_without_listeners_for_auth_no_certificate_is_needed(tmp_path: Path) -> None:
    refuse_unsafe_files(load_text(tmp_path, SERVER + "[submission]\nstarttls = []\ntls = []\n"))


def test_streams_are_the_built_in_ones_and_those_configured(tmp_path: Path) -> None:
    text = SERVER + '[stream.bulk]\nexpire = "2d"\n[stream.invoices]\n'
    assert streams(load_text(tmp_path, text)) == ("transactional", "bulk", "invoices")


def test_a_last_route_that_takes_all_mail_leaves_nothing_for_the_default_pool(tmp_path: Path) -> None:
    text = SERVER + source(1, pool="bulk") + '[[route]]\nvia = "direct"\npool = "bulk"\n'
    assert load_text(tmp_path, text).route[0].pool == "bulk"
