"""peers.receiving: a scripted mail server in a thread, for tests that wait for other processes themselves.

with receiving(Mx()) as server: ... server.port
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.peers.mx import Script, ScriptedMx


@contextmanager
def receiving(script: Script, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[ScriptedMx]:
    """What the script raises is raised where the block ends."""
    server = ScriptedMx(script, host=host, port=port)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
