"""The three pages, asked by a real client."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from relay.server.http import Http


class Server:
    """`get` asks; `reasons` are why mail is not taken."""

    def __init__(self, http: Http, port: int, client: aiohttp.ClientSession) -> None:
        self.http = http
        self.port = port
        self._client = client

    async def get(self, page: str, *, authorization: str = "", port: int = 0) -> tuple[int, str]:
        headers = {"Authorization": authorization} if authorization else {}
        async with self._client.get(f"http://127.0.0.1:{port or self.port}/{page}", headers=headers) as response:
            return response.status, await response.text()


@asynccontextmanager
async def serving(*, token: str = "", reasons: list[str] | None = None) -> AsyncIterator[Server]:
    async def metrics() -> bytes:
        return b"relay_workers 2.0\n"

    listener = socket.create_server(("127.0.0.1", 0))
    http = Http(not_ready=lambda: reasons or [], metrics=metrics, token=token)
    await http.start(listener)
    async with aiohttp.ClientSession() as client:
        yield Server(http, listener.getsockname()[1], client)
    await http.close()


async def test_the_three_pages() -> None:
    async with serving() as server:
        assert await server.get("healthz") == (200, "ok\n")
        assert await server.get("readyz") == (200, "ready\n")
        assert await server.get("metrics") == (200, "relay_workers 2.0\n")
        assert (await server.get("else"))[0] == 404


async def test_not_ready_says_why_one_reason_a_line_and_is_healthy_all_the_same() -> None:
    async with serving(reasons=["draining", "1 of 2 workers takes mail"]) as server:
        assert await server.get("readyz") == (503, "draining\n1 of 2 workers takes mail\n")
        assert (await server.get("healthz"))[0] == 200


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param("Bearer s3cret", 200, id="the token"),
        pytest.param("bearer s3cret", 200, id="a scheme is written in any case (RFC 9110 11.1)"),
        pytest.param("", 401, id="none"),
        pytest.param("Bearer s3cre", 401, id="a part of it"),
        pytest.param("Bearer s3cret2", 401, id="more than it"),
        pytest.param("s3cret", 401, id="no scheme"),
        pytest.param("Basic s3cret", 401, id="another scheme"),
        pytest.param("Bearer", 401, id="a scheme alone"),
        pytest.param("Bearer ä", 401, id="other letters"),
    ],
)
async def test_the_token_is_wanted_by_every_page_but_health(authorization: str, status: int) -> None:
    async with serving(token="s3cret") as server:
        for page in ("metrics", "readyz"):
            assert (await server.get(page, authorization=authorization))[0] == status
        assert (await server.get("healthz"))[0] == 200


async def test_octets_that_are_no_text_are_no_token() -> None:
    async with serving(token="s3cret") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()


async def test_a_reload_may_change_the_token_and_the_address() -> None:
    async with serving(token="before") as server:
        other = socket.create_server(("127.0.0.1", 0))
        port = other.getsockname()[1]
        await server.http.reload(None, token="after")
        assert (await server.get("metrics", authorization="Bearer before"))[0] == 401
        assert (await server.get("metrics", authorization="Bearer after"))[0] == 200
        await server.http.reload(other, token="")
        assert (await server.get("metrics", port=port))[0] == 200
        with pytest.raises(OSError, match="refused"):
            await asyncio.open_connection("127.0.0.1", server.port)
