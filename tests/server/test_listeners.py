"""Where the server listens: opened at the start, changed by a reload, refused in words."""

import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay.config.models import Config
from relay.errors import PermissionRefused, Unavailable
from relay.server.listeners import Listening, _explained, open_all
from tests.peers.ports import Reserved
from tests.server.other_user import as_nobody, needs_root


@pytest.fixture
def port() -> Iterator[int]:
    with Reserved("127.0.0.1", "127.0.0.2") as reserved:
        yield reserved.port


@pytest.fixture
def other_port() -> Iterator[int]:
    with Reserved() as reserved:
        yield reserved.port


def config(*, starttls: list[str] | None = None, tls: list[str] | None = None, trusted: str = "") -> Config:
    tables: dict[str, Any] = {
        "server": {"hostname": "relay.example.com"},
        "submission": {"starttls": starttls or [], "tls": tls or []},
        "http": {"listen": "127.0.0.1:0"},
    }
    if trusted:
        tables["submission"]["trusted"] = [{"listen": trusted, "networks": ["127.0.0.0/8"], "credential": "local"}]
    return Config.model_validate(tables)


@contextmanager
def opened(wanted: Config, **options: Any) -> Iterator[Listening]:
    listening = open_all(wanted, **options)
    try:
        yield listening
    finally:
        listening.close_but()


def answers(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


# At the start.


def test_every_address_is_listened_on_in_the_order_of_the_configuration() -> None:
    wanted = config(starttls=["127.0.0.1:0", "127.0.0.2:0"], tls=["127.0.0.1:0"], trusted="127.0.0.3:0")
    with opened(wanted) as listening:
        names = [[each.getsockname()[0] for each in kind] for kind in (listening.starttls, listening.tls)]
        assert names == [["127.0.0.1", "127.0.0.2"], ["127.0.0.1"]]
        assert listening.trusted[0].getsockname()[0] == "127.0.0.3"
        assert answers(listening.http.getsockname()[1])
        assert listening.fits(wanted)
        assert not any(each.socket.getblocking() or each.socket.get_inheritable() for each in listening.all)


def test_a_port_in_use_names_what_to_look_for_and_leaves_nothing_open(port: int, other_port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(Unavailable, match=f":{port} is in use by another program") as refused:
            open_all(config(starttls=[f"127.0.0.1:{other_port}", f"127.0.0.1:{port}"]))
        assert f"ss -ltnp 'sport = :{port}'" in refused.value.remedy
        assert not answers(other_port)


def test_a_port_that_becomes_free_in_a_moment_is_waited_for(port: int) -> None:
    before = socket.create_server(("127.0.0.1", port))
    letting_go = threading.Timer(0.2, before.close)
    letting_go.start()
    with opened(config(starttls=[f"127.0.0.1:{port}"]), patience=10.0):
        assert answers(port)
    letting_go.join()


@needs_root
def test_a_port_only_root_may_bind_names_the_capability() -> None:
    with as_nobody(), pytest.raises(PermissionRefused, match="may not be bound by this user") as refused:
        open_all(config(starttls=["127.0.0.1:1"]))
    assert "CAP_NET_BIND_SERVICE" in refused.value.remedy


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(Unavailable, match=":2587 is no address of this machine"):
        open_all(config(starttls=["192.0.2.1:2587"]))


def test_ipv6_is_ipv6_alone() -> None:
    """So that "0.0.0.0:587" and "[::]:587" go beside each other."""
    with opened(config(starttls=["[::]:0"])) as listening:
        port = listening.starttls[0].getsockname()[1]
        with socket.socket() as beside:
            beside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a client elsewhere may have got the number
            beside.bind(("0.0.0.0", port))
        assert not answers(port)
        assert answers(port, "::1")


def test_a_kernel_without_ipv6_is_named() -> None:
    """Its error is what the kernel of this machine would say with ipv6.disable=1."""
    refused = _explained("[::]:587", OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol"))
    assert (refused.text, refused.remedy) == (
        "[::]:587: this machine has no IPv6",
        "take the [::] addresses out of relay.toml",
    )


# Passed by the service manager.


def test_passed_sockets_stand_for_the_addresses_they_are_bound_to(port: int) -> None:
    passed = socket.create_server(("127.0.0.1", port))
    with opened(config(tls=[f"127.0.0.1:{port}"], starttls=["127.0.0.1:0"]), inherited=[passed]) as listening:
        assert listening.tls == (passed,)
        assert len(listening.starttls) == 1


def test_however_an_address_is_written_it_is_the_same() -> None:
    with Reserved("::1") as reserved:
        passed = socket.create_server(("::1", reserved.port), family=socket.AF_INET6)
        with opened(config(tls=[f"[0:0:0::1]:{reserved.port}"]), inherited=[passed]) as listening:
            assert listening.tls == (passed,)


def test_a_passed_socket_that_nobody_asked_for_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        name = f"127.0.0.1:{passed.getsockname()[1]}"
        with pytest.raises(Unavailable, match=f"relay.toml does not name: {name}"):
            open_all(config(), [passed])


# Changed by a reload.


def test_what_stays_is_the_same_socket_what_is_new_is_opened_what_is_gone_is_closed(port: int, other_port: int) -> None:
    first, second = f"127.0.0.1:{port}", f"127.0.0.1:{other_port}"
    before = open_all(config(starttls=[first], tls=["127.0.0.1:0"]))
    with opened(config()) as unrelated:
        after = before.changed(config(starttls=[second], tls=["127.0.0.1:0"]))
        assert after.tls == before.tls
        assert answers(port) and answers(other_port)
        before.close_but(after)
        assert not answers(port)
        assert answers(other_port)
        assert answers(unrelated.http.getsockname()[1])
    after.close_but()


def test_a_reload_that_cannot_open_everything_opens_nothing(port: int, other_port: int) -> None:
    with socket.create_server(("127.0.0.2", port)), opened(config()) as before:
        with pytest.raises(Unavailable, match="in use"):
            before.changed(config(starttls=[f"127.0.0.1:{other_port}", f"127.0.0.2:{port}"]))
        assert not answers(other_port)
        assert answers(before.http.getsockname()[1])


def test_an_address_may_change_its_kind_without_being_closed_between(port: int) -> None:
    listen = f"127.0.0.1:{port}"
    before = open_all(config(starttls=[listen]))
    after = before.changed(config(tls=[listen]))
    with socket.create_connection(("127.0.0.1", port)) as client:
        before.close_but(after)
        accepted, peer = after.tls[0].accept()
        assert peer == client.getsockname()
        accepted.close()
    after.close_but()


def test_an_address_within_one_that_is_listened_on_says_how_to_get_there(port: int) -> None:
    with (
        opened(config(starttls=[f"0.0.0.0:{port}"])) as before,
        pytest.raises(Unavailable, match="overlaps") as refused,
    ):
        before.changed(config(starttls=[f"127.0.0.1:{port}"]))
    assert refused.value.text == f"127.0.0.1:{port} overlaps 0.0.0.0:{port}, on which this server listens now"


def test_an_address_listed_twice_with_a_free_port_is_two_sockets() -> None:
    wanted = config(starttls=["127.0.0.1:0", "127.0.0.1:0"])
    with opened(wanted) as before:
        assert before.changed(wanted) == before
        assert len({each.getsockname() for each in before.starttls}) == 2


# sd_listen_fds(3), in a process of its own.

_PASSED = """
import os, socket
from relay.errors import RelayError
from relay.server.notify import inherited_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    found = inherited_sockets(os.environ)
    print([(each.getsockname()[1], each.getblocking(), each.get_inheritable()) for each in found])
except RelayError as error:
    print(error.text)
"""


def inheriting(*passed: socket.socket, code: str = _PASSED, **environment: str) -> str:
    """What a process says that finds these at 3, 4, ... as systemd passes them."""
    moves = "".join(f" {3 + number}<&{100 + number}" for number in range(len(passed)))
    high = "".join(f" {100 + number}<&{each.fileno()}" for number, each in enumerate(passed))
    command = f'exec{high}\nexec{moves}\nexec "$0" -c "$1"'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, code],
        pass_fds=[each.fileno() for each in passed],
        env={"LISTEN_FDS": str(len(passed)), "PYTHONPATH": str(Path(__file__).parents[2])} | environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_service_managers_sockets_are_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [each.getsockname()[1] for each in (first, second)]
        assert inheriting(first, second) == str([(port, False, False) for port in ports])


def test_those_of_another_process_are_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        assert inheriting(passed, code=_PASSED.replace("str(os.getpid())", '"1"')) == "[]"


@pytest.mark.parametrize(
    ("family", "kind", "text"),
    [
        pytest.param(socket.AF_UNIX, socket.SOCK_STREAM, "does not listen for TCP", id="a Unix socket"),
        pytest.param(socket.AF_INET, socket.SOCK_DGRAM, "does not listen for TCP", id="a UDP socket"),
        pytest.param(socket.AF_INET, socket.SOCK_STREAM, "does not listen for TCP", id="one that does not listen"),
    ],
)
def test_what_is_no_listener_is_refused(family: int, kind: int, text: str) -> None:
    with socket.socket(family, kind) as passed:
        assert text in inheriting(passed)


def test_a_descriptor_that_is_not_there_and_a_number_that_is_none_are_refused() -> None:
    assert "is no socket: Bad file descriptor" in inheriting(LISTEN_FDS="60")
    assert 'LISTEN_FDS="two" in the environment is no number' in inheriting(LISTEN_FDS="two")
