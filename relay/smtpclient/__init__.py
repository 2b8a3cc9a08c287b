"""smtpclient: our side of a session with one mail server; the one home of aiosmtplib.

`connect` opens a session (`dial_either` its socket, where one of two addresses will do), `Connection.transact` sends
one message over it, `quit` ends it. What the peer does wrong is a value (`ConnectFailure`, `TransactionResult`), never
an exception, and never a bounce of its own accord.
"""

from relay.smtpclient.connection import Connection, connect
from relay.smtpclient.dial import dial_either
from relay.smtpclient.endpoint import ConnectFailure, Endpoint, Fault, SessionOptions, TlsMode
from relay.smtpclient.tls import TlsContexts
from relay.smtpclient.transaction import OutgoingContent, Transaction, TransactionResult

__all__ = [
    "ConnectFailure",
    "Connection",
    "Endpoint",
    "Fault",
    "OutgoingContent",
    "SessionOptions",
    "TlsContexts",
    "TlsMode",
    "Transaction",
    "TransactionResult",
    "connect",
    "dial_either",
]
