"""smtpclient.dial on a machine of its own: no route, and four ports."""

import subprocess
import sys

import pytest

CODE = """
import asyncio, pathlib, socket, subprocess
import time
from relay.smtpclient import ConnectFailure, Endpoint, SessionOptions, TlsContexts
from relay.smtpclient.dial import dial

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("40000 40003")

async def tried(address, port, source=""):
    options = SessionOptions(TlsContexts(monotonic=time.monotonic), "relay.example.com", source)
    dialled = await dial(Endpoint(address, port, "mx.example.com"), options)
    if not isinstance(dialled, ConnectFailure):
        return dialled
    print(f"{dialled.fault}: {dialled.text}")

async def main():
    port = 2525
    listening = socket.create_server(("127.0.0.1", port), backlog=100)
    kept = [await tried("127.0.0.1", port, "127.0.0.2") for _ in range(5)]
    kept.append(await tried("127.0.0.1", port, "127.0.0.3"))
    await tried("203.0.113.9", 25)
    await tried("2001:db8::9", 25)
    await tried("127.0.0.1", port, "192.0.2.1")
    print(len([each for each in kept if each]))

asyncio.run(main())
"""


def test_what_fails_on_this_machine_is_told_from_what_fails_elsewhere() -> None:
    command = ["unshare", "--net", sys.executable, "-c", CODE]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in asked.stderr:
        pytest.skip("no network namespace can be made here")
    assert asked.stderr == ""
    assert asked.stdout.splitlines() == [
        "source: 127.0.0.2 has no port left to 127.0.0.1:2525",
        "route: Network is unreachable",
        "route: Network is unreachable",
        "source: 192.0.2.1 is not an address of this machine",
        "5",
    ]
