"""smtpclient.opening: from nothing to a session in which MAIL may come: greeting, EHLO, STARTTLS or TLS, AUTH.

aiosmtplib speaks, over our socket and with our TLS contexts; its exceptions become `ConnectFailure` here and nowhere
else. When the session is open its transport is handed over and the aiosmtplib object dropped (it would never notice
the end).

HELO is tried only when EHLO is refused with 5xx (RFC 5321 3.2): a server that is busy is busy for HELO too. STARTTLS
is used where the mode asks for it, and everything learnt before it is asked again (RFC 3207 4.2). Of a refusal that
is no 4xx or 5xx nothing is kept but the words: it is a server that has lost its place.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import aiosmtplib

from relay.mail.reply import Reply, escape
from relay.mail.verdict import Stage
from relay.smtpclient.client import WatchedClient, reply_of
from relay.smtpclient.dial import dial
from relay.smtpclient.ehlo import extensions_of, mechanisms_of
from relay.smtpclient.endpoint import ConnectFailure, Endpoint, SessionOptions, TlsMode

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Opened:
    """extensions: what the last EHLO offered and is believed, {} after HELO. tls: as the journal keeps it, "" for clear
    text.
    """

    transport: asyncio.Transport
    greeting: Reply
    extensions: dict[str, str]
    tls: str


class _Failed(Exception):
    """Carries the failure out of the steps; never leaves this module."""

    def __init__(self, failure: ConnectFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


async def open_session(
    endpoint: Endpoint, options: SessionOptions, *, over: socket.socket | None
) -> Opened | ConnectFailure:
    """One try. over: a socket that is connected already. Whatever fails, nothing stays open."""
    opening = _Opening(endpoint, options, over)
    try:
        return await opening.run()
    except _Failed as failed:
        opening.abort()
        return failed.failure
    except BaseException:
        opening.abort()
        raise


class _Opening:
    """The steps in order; `_stage` is the one a failure belongs to."""

    def __init__(self, endpoint: Endpoint, options: SessionOptions, over: socket.socket | None) -> None:
        self._endpoint = endpoint
        self._over = over  # until it is handed to the client, which closes it
        self._options = options
        self._times = options.timeouts
        self._stage = Stage.CONNECT
        self._server_name = _server_name(endpoint.name)
        self._client = WatchedClient(local_hostname=options.ehlo, start_tls=False)
        self._encrypted = False

    async def run(self) -> Opened:
        if self._options.tls.is_verified and self._server_name is None:
            raise self._failed(f'"{escape(self._endpoint.name)}" is no name that a certificate can have')
        context = self._context()
        greeting = await self._greeting(await self._dialled(), context)
        extensions = await self._extensions()
        if self._wants_starttls(extensions):
            await self._starttls(extensions, context)
            extensions = await self._extensions()
        if self._options.login:
            await self._authenticate(extensions)
        return Opened(self._open_transport(), greeting, extensions, self._tls())

    def abort(self) -> None:
        if self._client.watch is not None:
            self._client.watch.transport.abort()
        if self._over is not None:
            self._over.close()

    async def _dialled(self) -> socket.socket:
        dialled, self._over = self._over or await dial(self._endpoint, self._options), None
        if isinstance(dialled, ConnectFailure):
            raise _Failed(dialled)
        return dialled

    async def _greeting(self, connection: socket.socket, context: ssl.SSLContext) -> Reply:
        self._stage = Stage.GREETING
        self._encrypted = self._options.tls is TlsMode.IMPLICIT
        name, within = self._server_name or self._endpoint.address, self._times.greeting
        from_the_start = context if self._encrypted else None
        greeting = self._client.greet(connection, name=name, context=from_the_start, within=within)
        return await self._step(greeting, within=within)

    async def _extensions(self) -> dict[str, str]:
        self._stage = Stage.EHLO
        try:
            await self._step(self._client.ehlo(timeout=self._times.ehlo), within=self._times.ehlo)
        except _Failed as failed:
            if failed.failure.reply is None or not failed.failure.reply.is_permanent:
                raise
            await self._step(self._client.helo(timeout=self._times.ehlo), within=self._times.ehlo)
            return {}
        heard = self._client.heard
        offered = extensions_of(heard) if heard else {}
        return {keyword: each for keyword, each in offered.items() if keyword not in self._options.discarded}

    def _wants_starttls(self, extensions: dict[str, str]) -> bool:
        if self._options.tls in (TlsMode.REQUIRED, TlsMode.VERIFIED):
            return True
        return self._options.tls is TlsMode.OPPORTUNISTIC and "STARTTLS" in extensions

    async def _starttls(self, extensions: dict[str, str], context: ssl.SSLContext) -> None:
        self._stage = Stage.STARTTLS
        if "STARTTLS" not in extensions:
            raise self._failed("the server does not offer STARTTLS")
        within = self._times.ehlo
        await self._step(self._client.secure(name=self._server_name, context=context, within=within), within=within)
        self._encrypted = True

    def _context(self) -> ssl.SSLContext:
        """For TLS, whenever it comes."""
        contexts = self._options.contexts
        if not self._options.tls.is_verified:
            return contexts.opportunistic
        try:
            return contexts.trusting(self._options.ca)
        except OSError as error:  # an SSLError too, for a file that is no certificate
            self._stage = Stage.STARTTLS
            raise self._failed(f"{self._options.ca} cannot be used: {error.strerror or error}") from error

    async def _authenticate(self, extensions: dict[str, str]) -> None:
        self._stage = Stage.AUTH
        mechanisms = mechanisms_of(extensions)
        if not mechanisms & {"PLAIN", "LOGIN"}:
            raise self._failed("the server offers neither AUTH PLAIN nor AUTH LOGIN")
        method = self._client.auth_plain if "PLAIN" in mechanisms else self._client.auth_login
        within = self._times.ehlo
        await self._step(method(self._options.login, self._options.secret, timeout=within), within=within)

    def _open_transport(self) -> asyncio.Transport:
        """A server may have left since its last reply."""
        watch = self._client.watch
        if watch is None or watch.transport.is_closing():
            raise self._broken(aiosmtplib.SMTPServerDisconnected("the server closed the connection"))
        return watch.transport

    def _tls(self) -> str:
        if not self._encrypted:
            return ""
        session: ssl.SSLObject = self._open_transport().get_extra_info("ssl_object")
        doubt = ""
        if not self._options.tls.is_verified:
            doubt = self._options.contexts.doubt(session, self._server_name or self._endpoint.name)
        return f"{session.version()} unverified: {doubt}" if doubt else f"{session.version()} verified"

    # Failures.

    async def _step(self, step: Awaitable[_Value], *, within: float) -> _Value:
        """What aiosmtplib raises, told once."""
        try:
            return await step
        except aiosmtplib.SMTPTimeoutError as error:
            raise self._failed(f"no reply within {within:g} s") from error
        except aiosmtplib.SMTPResponseException as error:
            raise self._refused(error.code, error.message) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._broken(error) from error

    def _refused(self, code: int, text: str) -> _Failed:
        reply = self._client.heard if self._client.watch else reply_of(code, text)
        if reply is not None and reply.code >= 400:
            return self._failed(str(reply), reply)
        if reply is not None:
            return self._failed(f'the server answered "{reply}"')
        line = text.removeprefix("Malformed SMTP response line: ").strip()
        return self._failed(f'"{escape(line)}" is no SMTP reply')

    def _broken(self, error: BaseException) -> _Failed:
        cut = self._client.watch.failure if self._client.watch else ""
        if cut:  # somebody writes into the session: no reason to go on without TLS
            return _Failed(ConnectFailure(self._stage, None, cut))
        while error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, ssl.SSLError):
            self._stage = Stage.STARTTLS
        return self._failed(_words(error))

    def _failed(self, text: str, reply: Reply | None = None) -> _Failed:
        """TLS has failed when its own step did, and when the server just leaves at the first command inside."""
        in_tls = self._stage is Stage.EHLO and self._encrypted and reply is None
        return _Failed(ConnectFailure(self._stage, reply, text, tls_failed=self._stage is Stage.STARTTLS or in_tls))


def _server_name(name: str) -> str | None:
    """What SNI may carry and a certificate may have; None for what ssl would refuse."""
    bare = name.rstrip(".")
    try:
        return bare if bare and not bare.startswith(".") and bare.encode("idna") else None
    except UnicodeError:
        return None


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate does not verify: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, aiosmtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return escape(str(error))
