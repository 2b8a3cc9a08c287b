"""smtpclient.dial: a connected TCP socket, within the time for that alone.

aiosmtplib would connect too, but with one time for everything, and to the name it checks the certificate against.
Dialling is ours so that an address is dialled and the MX host's name verified. No name is looked up here. What fails on
this machine is told from what fails on the way: an address that is not ours must not be taken for a host that is down.

`dial_either` is for a host with addresses of both families (RFC 8305): one that does not answer costs a quarter of a
second, not all the time that a connection may take. When one has connected the other is closed without a word.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Collection

from relay.mail.verdict import Stage
from relay.smtpclient.endpoint import ConnectFailure, Endpoint, Fault, SessionOptions

ATTEMPT_DELAY = 0.25  # seconds; RFC 8305 5

# IP_BIND_ADDRESS_NO_PORT of linux/in.h: the port is chosen at connect, when the peer is known, so ports do not run out.
_BIND_ADDRESS_NO_PORT = 24
_NO_ROUTE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL)  # the second: this machine has no address of the family


class DialError(Exception):
    """text: what failed, in words."""

    def __init__(self, text: str, fault: Fault) -> None:
        super().__init__(text)
        self.text = text
        self.fault = fault


Way = tuple[Endpoint, SessionOptions]
Dialled = socket.socket | ConnectFailure
_Dial = asyncio.Task[Dialled]


async def dial(endpoint: Endpoint, options: SessionOptions) -> Dialled:
    """A connected, non-blocking socket, or what failed."""
    within = options.timeouts.connect
    try:
        return await _dialled(endpoint.address, endpoint.port, source=options.source, within=within)
    except TimeoutError:
        return ConnectFailure(Stage.CONNECT, None, f"no connection within {within:g} s")
    except DialError as error:
        return ConnectFailure(Stage.CONNECT, None, error.text, fault=error.fault)
    except OSError as error:  # no descriptor is left, or no IPv6 in this kernel
        return ConnectFailure(Stage.CONNECT, None, error.strerror or str(error))


async def dial_either(first: Way, rival: Way) -> tuple[Dialled | None, Dialled | None]:
    """What came of each, None where it was not begun or given up for the other: at most one has connected."""
    dials: list[_Dial] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            dials.append(tasks.create_task(dial(*first)))
            await asyncio.wait(dials, timeout=ATTEMPT_DELAY)
            if not dials[0].done():
                dials.append(tasks.create_task(dial(*rival)))
                await _one_connected(dials)
            for each in dials:
                each.cancel()
    except BaseException:
        _close(dials)
        raise
    winner = next(filter(_has_connected, dials), None)
    losers = [each for each in dials if _has_connected(each) and each is not winner]  # in the same moment
    _close(losers)
    outcomes = [None if each.cancelled() or each in losers else each.result() for each in dials]
    return outcomes[0], outcomes[1] if len(outcomes) > 1 else None


async def _one_connected(dials: Collection[_Dial]) -> None:
    """Or none will."""
    pending = set(dials)
    while pending and not any(map(_has_connected, dials)):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


def _has_connected(dial: _Dial) -> bool:
    return dial.done() and not dial.cancelled() and isinstance(dial.result(), socket.socket)


def _close(dials: Collection[_Dial]) -> None:
    for each in dials:
        outcome = each.result() if _has_connected(each) else None
        if isinstance(outcome, socket.socket):
            outcome.close()


async def _dialled(address: str, port: int, *, source: str, within: float) -> socket.socket:
    """Raises TimeoutError, DialError, and OSError where there is no socket to be had."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            _bind(connection, source)
        async with asyncio.timeout(within):
            await _connect(connection, address, port, source)
    except BaseException:
        connection.close()
        raise
    return connection


async def _connect(connection: socket.socket, address: str, port: int, source: str) -> None:
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except OSError as error:  # the loop has replaced the system's words by its own
        if error.errno == errno.EADDRNOTAVAIL and source:
            raise DialError(f"{source} has no port left to {address}:{port}", Fault.SOURCE) from error
        fault = Fault.ROUTE if error.errno in _NO_ROUTE else Fault.THEIRS
        raise DialError(os.strerror(error.errno) if error.errno else str(error), fault) from error


def _bind(connection: socket.socket, source: str) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        connection.bind((source, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise DialError(f"{source} is not an address of this machine", Fault.SOURCE) from error
        raise DialError(f"{source} cannot be sent from: {error.strerror}", Fault.SOURCE) from error
