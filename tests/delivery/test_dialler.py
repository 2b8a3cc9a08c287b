"""Which of a site's addresses a session is tried with."""

import time
from pathlib import Path
from random import Random

from relay.delivery.destination import Destination, Host
from relay.delivery.dialler import Dialler
from relay.delivery.routing import DIRECT
from relay.delivery.site import Line
from relay.smtpclient import TlsContexts
from tests.delivery.outfit import config
from tests.peers.mx import Mx, ScriptedMx


async def test_when_all_addresses_were_tried_meanwhile_they_are_tried_anew(tmp_path: Path) -> None:
    dialler = Dialler(
        hostname="relay.example.com",
        sources=(),
        settings=config(tmp_path).delivery,
        contexts=TlsContexts(monotonic=time.monotonic),
        random=Random(1),
    )
    async with ScriptedMx(Mx()) as server:
        destination = Destination("dest.example", (Host("mx.dest.example", ("127.0.0.1",), server.port),))
        outcome = await dialler.open(destination, DIRECT, ["127.0.0.1"])
        assert isinstance(outcome, Line)
        await outcome.connection.quit()
