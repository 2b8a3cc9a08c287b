"""What a session has shown of a host is used by those after it, for a while."""

import time
from pathlib import Path

import pytest

from relay.mail.event import Kind
from tests.delivery.outfit import config, kinds, outfit
from tests.peers.mx import ScriptedMx, UnawareMx

UNKNOWN = b"502 5.5.2 Error: command not recognized\r\n"


class Hours:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.mark.parametrize("swallowed", [True, False], ids=["has read the chunk", "takes the chunk for commands"])
async def test_a_host_that_offers_chunking_and_knows_no_bdat_gets_content_by_data(
    swallowed: bool, nameserver: str, tmp_path: Path
) -> None:
    mx, hours = UnawareMx(UNKNOWN, swallowed=swallowed), Hours()
    async with (
        ScriptedMx(mx) as server,
        outfit(config(tmp_path, port=server.port, nameserver=nameserver), steady=hours) as relay,
    ):
        for name in ("one", "two"):
            await relay.submit(f"{name}@dest.example")
            await relay.until(f"{name}@dest.example", Kind.DELIVERED)
        assert kinds(await relay.of("one@dest.example")) == [Kind.DELIVERED]
        assert (await relay.of("one@dest.example"))[0].attempt == 1
        assert [session.verbs.count("BDAT") for session in mx.sessions] == [1, 0]  # at once, and not for the next
        assert [session.verbs.count("DATA") for session in mx.sessions] == [0, 2]
        hours.ahead += 3601.0
        relay.shard.couriers.sweep()
        await relay.submit("three@dest.example")
        await relay.until("three@dest.example", Kind.DELIVERED)
        assert [session.verbs.count("BDAT") for session in mx.sessions] == [1, 0, 1, 0]  # looked at again
    assert len(mx.messages) == 3


async def test_what_is_refused_by_data_then_is_refused(nameserver: str, tmp_path: Path) -> None:
    mx = UnawareMx(UNKNOWN, answers={"END": b"554 5.7.1 Spam\r\n"})
    async with ScriptedMx(mx) as server, outfit(config(tmp_path, port=server.port, nameserver=nameserver)) as relay:
        await relay.submit("one@dest.example")
        assert (await relay.until("one@dest.example", Kind.BOUNCED)).reply == "554 5.7.1 Spam"
