"""Sessions for the tests of smtpclient: opened, and closed when the test is over."""

import asyncio
from typing import Any

from relay.config.models import DeliveryTimeouts
from relay.smtpclient import (
    ConnectFailure,
    Connection,
    Endpoint,
    OutgoingContent,
    SessionOptions,
    TlsContexts,
    TlsMode,
    Transaction,
    connect,
)
from tests.peers.mx import ScriptedMx

HEAD = b"From: a@relay.test\r\nSubject: hello\r\n\r\n"
CONTENT = OutgoingContent(head=HEAD, body=b"first\r\n.second\r\n")

PATIENT = DeliveryTimeouts(connect=5.0, greeting=5.0, ehlo=5.0, mail=5.0, rcpt=5.0, data=5.0, block=5.0, final=5.0)


def impatient(**times: float) -> DeliveryTimeouts:
    """All times long enough, but for those given."""
    return PATIENT.model_copy(update=times)


def transaction(
    *recipients: str, content: OutgoingContent = CONTENT, sender: str = "a@relay.test", mail_parameters: str = ""
) -> Transaction:
    pairs = tuple((recipient, "") for recipient in recipients or ("b@mx.test",))
    return Transaction(sender=sender, recipients=pairs, content=content, mail_parameters=mail_parameters)


class Sessions:
    def __init__(self, contexts: TlsContexts) -> None:
        self.contexts = contexts
        self._connections: list[Connection] = []

    async def try_to(self, server: ScriptedMx, *, name: str = "mx.test", **options: Any) -> Connection | ConnectFailure:
        options = {"contexts": self.contexts, "ehlo": "relay.test", "timeouts": PATIENT, **options}
        outcome = await connect(Endpoint(server.host, server.port, name), SessionOptions(**options))
        if isinstance(outcome, Connection):
            self._connections.append(outcome)
        return outcome

    async def to(self, server: ScriptedMx, *, tls: TlsMode = TlsMode.OPPORTUNISTIC, **options: Any) -> Connection:
        outcome = await self.try_to(server, tls=tls, **options)
        assert isinstance(outcome, Connection), outcome
        return outcome

    async def close(self) -> None:
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)
