from collections.abc import Iterator

import pytest

from tests.peers.dns import authoritative

ZONES = {
    "dest.example": """
@ MX 10 mx
mx A 127.0.0.1
nobody MX 10 mx
""",
    "other.example": "@ MX 10 mx.dest.example.\n",
    "hosted.example": "* MX 10 mx.dest.example.\n",
    "backup.example": """
@ MX 10 dead
@ MX 20 live
dead A 127.0.0.3
live A 127.0.0.1
""",
    "null.example": "@ MX 0 .\n",
    "implicit.example": "@ A 127.0.0.1\n",
    "alias.example": "www CNAME mail.alias.example.\nmail MX 10 mx.dest.example.\n",
    "silent.example": '@ TXT "no mail here"\n',
    "loop.example": "@ MX 10 relay.example.com.\n@ MX 20 mx.dest.example.\n",
    "better.example": "@ MX 5 mx.dest.example.\n@ MX 10 relay.example.com.\n@ MX 10 dead.backup.example.\n",
    "inside.example": "@ MX 10 mx\nmx A 10.0.0.1\n",
    "dead.example": "@ MX 10 mx\nmx A 127.0.0.3\n",
    "pair.example": "@ MX 10 a\n@ MX 20 b\na A 127.0.0.4\nb A 127.0.0.5\n",
    "swapped.example": "@ MX 10 b.pair.example.\n@ MX 20 a.pair.example.\n",
    "moved.example": "".join(f"@ MX {number} gone{number}\n" for number in range(6)) + "@ MX 60 mx.dest.example.\n",
    "both.example": "@ MX 10 mx\nmx AAAA ::1\nmx A 127.0.0.1\n",
    "list.example": "2.0.0.127 A 127.0.0.2\n",
    "errors.example": "* A 127.255.255.254\n",
    "nowhere.example": "@ MX 10 gone\n",
}


@pytest.fixture(scope="session")
def nameserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with authoritative(tmp_path_factory.mktemp("nsd"), ZONES) as address:
        yield address
