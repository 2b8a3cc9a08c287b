"""bench.server: what a benchmark knows of a server that it measures, and how servers are waited for and ended."""

import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

DOMAIN = "sender.example"
STARTED_WITHIN = 20.0


def _none() -> Mapping[int, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs. port: without TLS and AUTH. pids: the roots of its processes. keys: DKIM records by their DNS
    names, {} for one that does not sign. software: what it is made of, with versions. starttls: the port with
    STARTTLS and AUTH; login, secret: for it. accepted: messages so far by worker, {} for a server that has none to
    tell apart.
    """

    name: str
    port: int
    pids: tuple[int, ...]
    keys: Mapping[str, str]
    software: tuple[str, ...] = ()
    starttls: int = 0
    login: str = ""
    secret: str = ""
    accepted: Callable[[], Mapping[int, int]] = _none


def wait_until(
    done: Callable[[], bool], *, what: str, process: "subprocess.Popen[bytes]", within: float = STARTED_WITHIN
) -> None:
    ends = time.monotonic() + within
    while not done():
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before: {what}")
        if time.monotonic() > ends:
            raise RuntimeError(f"not within {within:g} s: {what}")
        time.sleep(0.02)


def takes_mail(port: int, *, login: str = "", secret: str = "") -> bool:
    """From our sender. login: after STARTTLS, with AUTH."""
    with suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
        client.ehlo()
        if login:
            client.starttls()
            client.login(login, secret)
        return client.mail(f"app@{DOMAIN}")[0] == 250
    return False


def stop(process: "subprocess.Popen[bytes]") -> int:
    """Its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(60)
