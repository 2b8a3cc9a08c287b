"""cli.send_test: `relay send-test`: one message by the way every application's goes, followed to its end.

It is submitted over the server's own listener, with STARTTLS or TLS and a login. Secrets are not kept anywhere, so
the credential is given one for this message, which ends when the message is accepted: everything else about it, its
limits, routes, hold and journal, is the application's own. The certificate is verified; if that fails the test goes on
and says so.
"""

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import invocation, options, printing
from relay.cli.credential import find
from relay.cli.credential_view import a_sender, ports, settings
from relay.cli.log import as_value, show_event, story
from relay.errors import ConfigError, DataError, NotFound

if TYPE_CHECKING:
    from relay.cli.applications import Settings
    from relay.cli.submitting import Submitted
    from relay.config.models import Config
    from relay.mail.event import Event
    from relay.registry.credentials import Credential
    from relay.registry.snapshot import Snapshot

_VALID_FOR = 600.0  # seconds; should this process die, the secret made for the test does too
_SEEN_AFTER = 0.5  # seconds: workers look for new secrets four times a second
_LOOK_EVERY = 0.1


def send_test(
    context: typer.Context,
    *,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The recipient.")],
    credential: Annotated[
        str, typer.Option("--credential", metavar="NAME", help="Which one to send with; default: any.")
    ] = "",
    wait: Annotated[str, typer.Option("--wait", metavar="DURATION", help="How long to follow it.")] = "1m",
    as_json: options.Json = False,
) -> None:
    """Send a test message through the running server and follow it to its end."""
    here = invocation.of(context)
    recipient = _parsed(address)
    within = options.duration(wait, option="--wait")
    submitted = invocation.run(_send(here, recipient, credential))
    if submitted.not_verified:
        printing.note(f"the server's certificate could not be verified: {submitted.not_verified}")
    events: list[Event] = []
    if not as_json:
        printing.line(submitted.reply)
    for event in follow(here, submitted.id, within=within):
        events.append(event)
        if not as_json:
            show_event(event)
    if as_json:
        printing.as_json({"id": submitted.id, "events": [as_value(event) for event in events]})
    _end(events, submitted.id)


def _end(events: "list[Event]", message: str) -> None:
    """The exit code says whether it arrived."""
    from relay.mail.event import FINAL, Kind

    last = [event for event in events if event.recipient][-1:]
    if last and last[0].kind is Kind.DELIVERED:
        return
    if not last or last[0].kind not in FINAL:
        printing.note(f"it is still on its way: relay queue why {message}")
        raise typer.Exit(os.EX_TEMPFAIL)
    raise typer.Exit(os.EX_UNAVAILABLE)


def follow(here: invocation.Invocation, message: str, *, within: float) -> "Iterator[Event]":
    """Each event of a message with one recipient, as it happens, until its end or until so many seconds are over."""
    from relay.mail.event import FINAL

    deadline = time.monotonic() + within
    seen = 0
    while True:
        events = story(here, message).events
        yield from events[seen:]
        seen = len(events)
        if time.monotonic() > deadline or any(event.kind in FINAL for event in events):
            return
        time.sleep(_LOOK_EVERY)


async def _send(here: invocation.Invocation, recipient: str, name: str) -> "Submitted":
    import asyncio

    from relay.cli.submitting import submit

    if not ports(here.config):
        raise ConfigError(
            f"{here.config_path} has no listener for logins, over which the message could go",
            remedy='Add one under [submission], such as: starttls = ["127.0.0.1:587"]',
        )
    async with _login_for_test(here, name) as login:
        return await asyncio.to_thread(submit, login, recipient, at=local_address(here.config))


@asynccontextmanager
async def _login_for_test(here: invocation.Invocation, name: str) -> "AsyncIterator[Settings]":
    """What to log in with, until the end."""
    import asyncio

    async with here.registry() as registry:
        chosen = _chosen(registry.snapshot(), name, here.now())
        issued = await registry.add_trial(chosen.name, valid_until=here.now() + _VALID_FOR)
        try:
            # Not a try and another: failed logins are what somebody guessing at them would make.
            await asyncio.sleep(_SEEN_AFTER)
            yield settings(here.config, issued.credential, issued.secret)
        finally:
            await registry.end_trial(issued.secret)


def _chosen(snapshot: "Snapshot", name: str, now: float) -> "Credential":
    """Raises NotFound."""
    if name:
        return find(snapshot, name)
    usable = [
        credential
        for _, credential in sorted(snapshot.credentials.items())
        if credential.is_usable(now=now) and a_sender(credential.senders)
    ]
    if not usable:
        raise NotFound(
            "there is no credential to send with", remedy="Make one: relay credential add NAME --from PATTERN"
        )
    return usable[0]


def local_address(config: "Config") -> str:
    """Where the listener that settings name is reached from this machine."""
    from relay.config.consistency import listen_address

    listen = next(iter((*config.submission.starttls, *config.submission.tls)), "127.0.0.1:587")
    address, _ = listen_address(listen)
    return ("::1" if address.version == 6 else "127.0.0.1") if address.is_unspecified else str(address)


def _parsed(text: str) -> str:
    from relay.mail.address import AddressError, parse

    try:
        return parse(text)
    except AddressError as error:
        raise DataError(f'"{text}" is no address: {error}', remedy="Write local@example.com.") from None
