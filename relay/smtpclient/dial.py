"""smtpclient.dial: a connected TCP socket, within the time for that alone.

aiosmtplib would connect too, but with one time for everything, and to the name it checks the certificate against.
Dialling is ours so that an address is dialled and the MX host's name verified. No name is looked up here.
"""

import asyncio
import os
import socket

# IP_BIND_ADDRESS_NO_PORT of linux/in.h: the port is chosen at connect, when the peer is known, so ports do not run out.
_BIND_ADDRESS_NO_PORT = 24


async def dial(address: str, port: int, *, source: str, within: float) -> socket.socket:
    """A connected, non-blocking socket. Raises TimeoutError, and OSError whose strerror says what failed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            _bind(connection, source)
        async with asyncio.timeout(within):
            await _connect(connection, address, port)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(connection: socket.socket, address: str, port: int) -> None:
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except OSError as error:  # the loop has replaced the system's words by its own
        raise OSError(error.errno, os.strerror(error.errno) if error.errno else str(error)) from error


def _bind(connection: socket.socket, source: str) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        connection.bind((source, 0))
    except OSError as error:
        raise OSError(error.errno, f"cannot send from {source}: {error.strerror}") from error
