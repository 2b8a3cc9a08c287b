"""submission.connection: aiosmtpd's protocol class, with the work taken over by our `Session`.

Of `aiosmtpd.smtp.SMTP` the class remains, and that it is what a listening socket is given. Its command loop, its
StreamReader, its constructor's introspection and its timer per command do not run (they cost 0.35 ms a connection), and
what it would decide is decided in `dialogue`. Octets go from `data_received` into the session; its actions are carried
out here.

STARTTLS is `loop.start_tls`: uvloop's own where uvloop runs. From the 220 on nothing is read from the old transport.
The client's first octets inside TLS can arrive before the task that awaits `start_tls` has the new transport, so they
wait at a gate: answered earlier, they would be answered in clear text.

A session that ends by our word lingers, so that the client reads why and not a reset for what it is still sending. A
commit is not the connection's: neither a closed nor a lost connection touches it.
"""

import asyncio
import ssl
from typing import Protocol, cast

from aiosmtpd.smtp import SMTP

from relay.config.models import SubmissionLimits
from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.submission import replies
from relay.submission.admission import REPLIES, Admission, Reason
from relay.submission.client import Client, client_at
from relay.submission.dialogue import Turn
from relay.submission.door import Door
from relay.submission.feed import TlsFeed
from relay.submission.proxy import ProxyError, ProxyReader
from relay.submission.session import Action, Close, Commit, Session, StartTls
from relay.submission.timeouts import Watch

READ_AHEAD = 64 * 1024  # octets taken in while a message is committed; what comes then waits in the kernel
LINGER = 3.0  # seconds a client has to read our last reply
PROXY_WITHIN = 5.0  # seconds for a PROXY header


class House(Protocol):
    """What a connection needs of its server."""

    def time(self) -> float:
        """Monotonic seconds."""

    def enter(self, connection: "Connection") -> None: ...

    def leave(self, connection: "Connection") -> None: ...

    def commit(self, submitted: Submitted, connection: "Connection") -> None:
        """Hand it over, then call `committed`."""

    def feed(self, connection: "Connection") -> TlsFeed:
        """What stands for it towards TLS."""

    def start_tls(self, connection: "Connection") -> None:
        """Run `upgrade` in a task."""


class Connection(SMTP):
    """One client's connection. client, admission: given where they were found out before TLS, by `arrival`."""

    __slots__ = (
        "_admission",
        "_can_write",
        "_client",
        "_closing_at",
        "_door",
        "_ended",
        "_gate",
        "_house",
        "_is_reading",
        "_proxy",
        "_session",
        "_watch",
        "is_made",
        "transport",
    )
    transport: asyncio.Transport | None

    def __init__(
        self, house: House, door: Door, *, client: Client | None = None, admission: Admission | None = None
    ) -> None:
        # Not super().__init__(): everything it sets up is for what does not run here.
        self.transport = None
        self.is_made = False  # whoever gave the admission keeps it until then
        self._session: Session | None = None
        self._house = house
        self._door = door
        self._client = client
        self._admission = admission
        self._proxy: ProxyReader | None = None
        self._gate: list[bytes] | None = None  # while TLS begins: what came too early
        self._ended = False  # the client sends no more
        self._is_reading = True
        self._can_write = True
        self._watch = Watch(house.time())
        self._closing_at = 0.0

    # -- called by the event loop ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.is_made = True
        self._house.enter(self)
        if self._client is not None and self._admission is not None:
            self._begin(self._client, self._admission, tls=_description(self.transport))
            return
        peer = self.transport.get_extra_info("peername")
        if peer is None:  # gone already
            self.transport.abort()
            return
        client = client_at(peer[0])
        if self._door.is_proxy(client):
            self._client, self._proxy = client, ProxyReader()
        else:
            self._knock(client)

    def data_received(self, data: bytes) -> None:
        if self._gate is not None:
            self._gate.append(data)
        elif self._session is not None:
            self._act(self._session.receive(data))
        elif self._proxy is not None:
            self._read_proxy(self._proxy, data)

    def eof_received(self) -> bool:
        """True keeps our side open: what was sent is answered yet. TLS closes both sides at once."""
        self._ended = True
        if self._gate is not None or self._session is None or self._session.turn is Turn.OVER:
            return False
        self._act(self._session.end())
        return not self._is_tls()

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost()

    def pause_writing(self) -> None:
        """The client does not read: nothing more is read from it."""
        self._can_write = False
        self._regulate()

    def resume_writing(self) -> None:
        self._can_write = True
        if self._session is not None and self._session.has_more:
            self._act(self._session.receive(b""))
        self._regulate()

    # -- called by the server -------------------------------------------------------------------------------------

    @property
    def is_authenticated(self) -> bool:
        return self._session is not None and self._session.credential is not None

    def committed(self, reply: Reply) -> None:
        if self._session is not None:
            self._act(self._session.finished(reply))

    def drain(self) -> None:
        """End as soon as no message is under way."""
        if self._session is None or self._gate is not None:
            self.abort()  # nobody to tell, or no way to
        else:
            self._act(self._session.dismiss_when_idle(replies.SHUTTING_DOWN))

    def check_credential(self) -> None:
        if self._session is not None:
            self._act(self._session.dismiss_if_revoked())

    def sweep(self, now: float, limits: SubmissionLimits) -> None:
        """End what has taken too long."""
        if self._closing_at:
            if now - self._closing_at >= LINGER:
                self.abort()
        elif self._session is None:
            if now - self._watch.quiet_since >= PROXY_WITHIN:
                self.abort()
        else:
            reply = self._watch.overdue(self._session, limits, now=now)
            if reply is not None:
                self._dismiss(self._session, reply)

    def _dismiss(self, session: Session, reply: Reply) -> None:
        if self._gate is not None:
            self.abort()
        else:
            self._act(session.dismiss(reply))

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def upgrade(self, context: ssl.SSLContext, *, within: float) -> None:
        """STARTTLS. Raises nothing: a failed handshake is the end of the connection."""
        if self.transport is None or self._session is None:
            return
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self.transport, self._house.feed(self), context, server_side=True, ssl_handshake_timeout=within
            )
        except (OSError, RuntimeError):  # ssl.SSLError and TimeoutError are OSErrors
            self._tls_failed()
            return
        if transport is None or transport.is_closing():  # lost in the handshake: some loops say so this way
            self._tls_failed()
            return
        self.transport = transport
        self._session.tls_started(_description(transport))
        self._open_gate()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _knock(self, client: Client) -> None:
        outcome = self._door.admit(client)
        if isinstance(outcome, Reason):
            self._write(REPLIES[outcome].wire())
            self._close(linger=True)
        else:
            self._begin(client, outcome, tls="")

    def _begin(self, client: Client, admission: Admission, *, tls: str) -> None:
        self._admission = admission
        self._session = self._door.session(client, admission, tls=tls)
        if self._door.is_open:
            self._write(self._door.terms.greeting)
        else:  # closed during the handshake
            self._act(self._session.dismiss(replies.SHUTTING_DOWN))

    def _read_proxy(self, reader: ProxyReader, data: bytes) -> None:
        try:
            header, length = reader.feed(data)
        except ProxyError as error:
            self._door.services.log.warning("PROXY header refused", error=str(error), client=_address(self._client))
            self.abort()
            return
        if header is None or self._client is None:
            return
        self._proxy = None
        self._knock(client_at(header.source) if header.source else self._client)
        if length < len(data):
            self.data_received(data[length:])

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            self._carry_out(action)
        while self._session is not None and self._session.has_more and self._can_write:
            for action in self._session.receive(b""):
                self._carry_out(action)
        self._regulate()

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, bytes):
            self._write(action)
        elif isinstance(action, Commit):
            self._house.commit(action.submitted, self)
        elif isinstance(action, StartTls):
            self._close_gate()
        elif isinstance(action, Close):
            self._close(linger=action.linger)

    def _write(self, octets: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(octets)

    def _regulate(self) -> None:
        """Read from the client, or leave it to the kernel for now."""
        if self._session is None or self.transport is None or self._gate is not None or self.transport.is_closing():
            return
        wanted = self._can_write and self._session.unread <= READ_AHEAD
        if wanted and not self._is_reading:
            self.transport.resume_reading()
        elif self._is_reading and not wanted:
            self.transport.pause_reading()
        self._is_reading = wanted

    def _close_gate(self) -> None:
        self._gate = []
        if self.transport is not None:
            self.transport.pause_reading()
        self._house.start_tls(self)

    def _open_gate(self) -> None:
        early, self._gate = self._gate or [], None
        for data in early:
            self.data_received(data)
        if self._ended and self._session is not None:
            self._act(self._session.end())

    def _tls_failed(self) -> None:
        self._door.services.facts.tls_failed()
        self.abort()
        self._lost()

    def _close(self, *, linger: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        self._closing_at = self._house.time()
        if not linger or self._ended or not self.transport.can_write_eof():
            self.transport.close()
            return
        try:
            self.transport.write_eof()  # and read on, into nothing, until the client closes or LINGER is over
        except OSError:  # it has reset the connection meanwhile
            self.transport.abort()

    def _lost(self) -> None:
        """May be told twice: by the loop, and by a handshake that failed. Whatever fails, no drain waits for it."""
        self.transport = None
        try:
            self._leave_session()
        finally:
            if self._admission is not None:
                self._admission.leave()
                self._admission = None
            self._house.leave(self)

    def _leave_session(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self._door.session_closed()
            session.lost()

    def _is_tls(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None


def _description(transport: asyncio.BaseTransport) -> str:
    """Version and cipher, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" for clear text."""
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return ""
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0]}" if cipher else str(connection.version())


def _address(client: Client | None) -> str:
    return client.address if client is not None else ""
