"""Listening sockets that go from one process to another."""

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import Unavailable
from relay.server.listeners import Listening, Opened
from relay.server.passing import pair, receive, send


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    made = pair()
    yield made
    for end in made:
        end.close()


def listening(*names: tuple[str, str]) -> Listening:
    return Listening(tuple(Opened(kind, listen, socket.create_server(("127.0.0.1", 0))) for kind, listen in names))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def ports(opened: Listening) -> list[int]:
    return [each.socket.getsockname()[1] for each in opened.all]


def test_what_arrives_listens_where_what_was_sent_does(ends: tuple[socket.socket, socket.socket]) -> None:
    sent = listening(("starttls", "127.0.0.1:587"), ("http", "127.0.0.1:8025"))
    send(ends[0], sent)
    received = receive(ends[1])
    assert [(each.kind, each.listen) for each in received.all] == [(each.kind, each.listen) for each in sent.all]
    assert ports(received) == ports(sent)
    assert not any(each.socket.get_inheritable() or each.socket.getblocking() for each in received.all)
    sent.close_but()
    for port in ports(received):
        socket.create_connection(("127.0.0.1", port)).close()
    received.close_but()


def test_of_several_the_newest_counts_and_the_others_are_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    before = open_files()
    first, second = listening(("tls", "127.0.0.1:465")), listening(("tls", "127.0.0.1:4650"))
    send(ends[0], first)
    send(ends[0], second)
    received = receive(ends[1])
    assert received.all[0].listen == "127.0.0.1:4650"
    for each in (first, second, received):
        each.close_but()
    assert open_files() == before


def test_nothing_sent_is_an_error_in_words(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(Unavailable, match="no listening sockets"):
        receive(ends[1])
    ends[0].close()
    with pytest.raises(Unavailable, match="no listening sockets"):
        receive(ends[1])


def test_a_worker_that_takes_nothing_is_noticed(ends: tuple[socket.socket, socket.socket]) -> None:
    sent = listening(("tls", "127.0.0.1:465"))
    with pytest.raises(BlockingIOError):  # noqa: PT012  one of these sends
        for _ in itertools.repeat(None):
            send(ends[0], sent)
    ends[1].close()
    with pytest.raises(ConnectionError):
        send(ends[0], sent)
    sent.close_but()
