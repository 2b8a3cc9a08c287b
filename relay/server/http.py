"""server.http: /healthz, /readyz and /metrics.

/healthz says that the event loop answers: a container's runtime restarts what does not. /readyz says whether mail is
taken, and if not, why, one reason a line: a load balancer sends clients elsewhere. /metrics answers for the machine,
whichever worker is asked. Where `http.token_file` is set, as it must be beyond loopback, every page but /healthz
wants its bearer token (RFC 6750 2.1).
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from socket import socket

from aiohttp import web

Reasons = Callable[[], Sequence[str]]
Render = Callable[[], Awaitable[bytes]]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLOSE_WITHIN = 1.0


class Http:
    """The three pages. not_ready: why mail is not taken now, empty when it is. token: "" where none is required."""

    def __init__(self, *, not_ready: Reasons, metrics: Render, token: str) -> None:
        self._not_ready = not_ready
        self._metrics = metrics
        self._token = token
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None

    async def start(self, listener: socket) -> None:
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_WITHIN)
        await self._runner.setup()
        self._site = await _listen(self._runner, listener)

    async def reload(self, listener: socket | None, *, token: str) -> None:
        """listener: the new one, None where it stays."""
        self._token = token
        if listener is not None and self._runner is not None:
            before, self._site = self._site, await _listen(self._runner, listener)
            if before is not None:
                await before.stop()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        self._authorize(request)
        reasons = self._not_ready()
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ready\n")

    async def _page(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return web.Response(body=await self._metrics(), headers={"Content-Type": METRICS_TYPE})

    def _authorize(self, request: web.Request) -> None:
        """Raises 401."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        is_right = hmac.compare_digest(_octets(given.strip()), _octets(self._token))
        if self._token and not (is_right and scheme.lower() == "bearer"):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"}, text="a bearer token is required\n")


async def _listen(runner: web.AppRunner, listener: socket) -> web.SockSite:
    site = web.SockSite(runner, listener)
    await site.start()
    return site


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # as aiohttp decoded the header
