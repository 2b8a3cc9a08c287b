"""smtpclient.connection: an open session, kept as long as it is of use.

`connect` opens one; `transact` carries one message, and the next may follow on the same connection; `quit` ends it
politely, `close` at once. A connection is usable until anything at all goes wrong with it, be it idle or at work: the
server leaves, says 421, or sends what was not asked for. Then `failure` says what it was. One transaction at a time.

A transaction that is cancelled cuts the connection; `interrupted` tells what was known of it by then.
"""

import socket

from relay.config.models import DeliveryTimeouts
from relay.mail.reply import Reply
from relay.smtpclient.ehlo import ServerLimits
from relay.smtpclient.endpoint import ConnectFailure, Endpoint, SessionOptions
from relay.smtpclient.exchange import Exchange
from relay.smtpclient.opening import Opened, open_session
from relay.smtpclient.transaction import Transaction, TransactionResult
from relay.smtpclient.wire import Broken, Wire

_GOODBYE = 10.0  # seconds that QUIT may take; nothing depends on it
_CLOSING = 1.0  # seconds that the end of TLS may take after it


async def connect(
    endpoint: Endpoint, options: SessionOptions, *, over: socket.socket | None = None
) -> "Connection | ConnectFailure":
    """A session in which MAIL may come, or what failed. Never raises for what the peer or the network does. over: a
    socket that is connected to the endpoint already; it is taken over.
    """
    outcome = await open_session(endpoint, options, over=over)
    return outcome if isinstance(outcome, ConnectFailure) else Connection(endpoint, outcome, options.timeouts)


class Connection:
    """One session.

    extensions: what the server offers, keyword in upper case → parameters. limits: those of them that it names. tls: ""
    for clear text, else as the journal keeps it ("TLSv1.3 verified", "TLSv1.3 unverified: self-signed certificate").
    local_address: what we are seen as sending from, before any NAT. messages: transactions begun. interrupted: None but
    after a transaction that was cancelled.
    """

    __slots__ = (
        "_busy",
        "_chunking",
        "_must_reset",
        "_pipelining",
        "_timeouts",
        "_wire",
        "endpoint",
        "extensions",
        "greeting",
        "interrupted",
        "limits",
        "local_address",
        "messages",
        "tls",
    )

    def __init__(self, endpoint: Endpoint, opened: Opened, timeouts: DeliveryTimeouts) -> None:
        self.endpoint = endpoint
        self.greeting: Reply = opened.greeting
        self.extensions = opened.extensions
        self.limits = ServerLimits.of(opened.extensions)
        self.tls = opened.tls
        self.local_address: str = opened.transport.get_extra_info("sockname")[0]
        self.messages = 0
        self.interrupted: TransactionResult | None = None
        self._timeouts = timeouts
        self._pipelining = "PIPELINING" in opened.extensions
        self._chunking = "CHUNKING" in opened.extensions
        self._wire = Wire.take_over(opened.transport)
        self._must_reset = False
        self._busy = False

    @property
    def usable(self) -> bool:
        """Another transaction may begin now."""
        return not self._busy and not self._wire.failure

    @property
    def is_verified(self) -> bool:
        """TLS, and the certificate was valid for the host's name."""
        return self.tls.endswith(" verified")

    @property
    def failure(self) -> str:
        """Why the session is over; "" while it is not."""
        return self._wire.failure

    async def transact(self, transaction: Transaction) -> TransactionResult:
        """Send one message. Raises ValueError for an address with CR, LF or NUL, SpoolError when the content cannot
        be read.
        """
        if self._busy:
            raise RuntimeError("one transaction at a time")
        exchange = Exchange(
            self._wire,
            transaction,
            self._timeouts,
            pipelining=self._pipelining,
            chunking=self._chunking,
            reset=self._must_reset,
        )
        self._busy = True
        self.messages += 1
        try:
            result = await exchange.run()
        except BaseException:
            self._wire.fail("cut in the middle of a transaction")
            self.interrupted = exchange.result(self._wire.failure)
            raise
        finally:
            self._busy = False
        self._must_reset = exchange.must_reset
        return result

    async def quit(self) -> None:
        """Say goodbye, wait a little for the answer (RFC 5321 4.1.1.10), close, and wait a little for that."""
        try:
            self._wire.send(b"QUIT\r\n", replies=1)
            await self._wire.reply(within=min(_GOODBYE, self._timeouts.mail))
        except Broken:
            return  # over in any case
        finally:
            self._wire.close()
        await self._wire.gone(within=_CLOSING)

    def close(self) -> None:
        """At once, without a goodbye."""
        self._wire.close()
