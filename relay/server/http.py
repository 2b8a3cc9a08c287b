"""server.http: /healthz, /readyz and /metrics.

/healthz says that the event loop answers: a container's runtime restarts what does not. /readyz says whether mail is
taken, and if not, why, one reason a line: a load balancer sends clients elsewhere. /metrics answers for the machine,
whichever worker is asked. Beyond loopback every page but /healthz wants the bearer token of `http.token_file`.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from socket import socket

from aiohttp import web

Reasons = Callable[[], Sequence[str]]
Render = Callable[[], Awaitable[bytes]]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Http:
    """The three pages. not_ready: why mail is not taken now, empty when it is. token: "" where none is required."""

    def __init__(self, *, not_ready: Reasons, metrics: Render, token: str) -> None:
        self._not_ready = not_ready
        self._metrics = metrics
        self._token = token.encode()
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket) -> None:
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
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
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if self._token and not hmac.compare_digest(given, self._token):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer"}, text="a bearer token is required\n")
