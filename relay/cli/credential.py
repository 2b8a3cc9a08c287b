"""cli.credential: `relay credential`: who may submit mail, and as whom."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import credential_flags as flags
from relay.cli import invocation, options, printing
from relay.cli.credential_view import a_sender, as_facts, as_value, host, ports, settings, state

if TYPE_CHECKING:
    from relay.registry.credential_changes import Issued
    from relay.registry.credentials import Credential
    from relay.registry.snapshot import Snapshot

app = typer.Typer(help="Who may submit mail, and as whom.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The credential.")]
ShowSettings = Annotated[
    str,
    typer.Option(
        "--show-settings", metavar="APPLICATION", help="Also print settings to paste, for django, wordpress, ..."
    ),
]


@app.command()
def add(
    context: typer.Context,
    *,
    name: Name,
    senders: flags.From = None,
    networks: flags.Networks = None,
    stream: flags.StreamName = None,
    limit_second: flags.PerSecond = None,
    limit_hour: flags.PerHour = None,
    limit_day: flags.PerDay = None,
    limit_recipients: flags.PerMessage = None,
    limit_first_time: flags.FirstTime = None,
    expires: flags.Expires = None,
    null_sender: flags.NullSender = None,
    allow_unsigned: flags.AllowUnsigned = None,
    encode_8bit: flags.Encode8bit = None,
    reports: flags.ReportsTo = None,
    suppressed: flags.Suppressed = None,
    show_settings: ShowSettings = "",
    as_json: options.Json = False,
) -> None:
    """Make a credential. Its secret is shown once, and exists nowhere else."""
    here = invocation.of(context)
    check_application(show_settings)
    wanted = flags.Wanted(
        senders, networks, stream, limit_second, limit_hour, limit_day, limit_recipients, limit_first_time, expires,
        null_sender, allow_unsigned, encode_8bit, reports, suppressed,
    )  # fmt: skip
    adjust = flags.adjustment(wanted, here.config, now=here.now())

    async def work() -> "tuple[Issued, Snapshot]":
        async with here.registry() as registry:
            issued = await registry.add_credential(name, senders=flags.patterns(senders or []), adjust=adjust)
            return issued, registry.snapshot()

    issued, snapshot = invocation.run(work())
    show_issued(here, issued, application=show_settings, as_json=as_json)
    warn_of_unsigned(issued.credential, snapshot)


@app.command("list")
def list_all(context: typer.Context, as_json: options.Json = False) -> None:
    """All credentials, with the time of their last use."""
    here = invocation.of(context)
    found = sorted(_snapshot(here).credentials.values(), key=lambda credential: credential.name)
    if as_json:
        printing.as_json([as_value(credential, now=here.now()) for credential in found])
        return
    columns = ("name", "login", "state", "stream", "may send as", "last used", "from")
    printing.table(
        columns,
        (_row(each, now=here.now()) for each in found),
        empty="There is no credential yet: relay credential add NAME --from PATTERN",
    )


@app.command()
def show(context: typer.Context, name: Name, as_json: options.Json = False) -> None:
    """One credential, without its secret."""
    here = invocation.of(context)
    _show(here, find(_snapshot(here), name), as_json=as_json)


@app.command("set")
def set_properties(
    context: typer.Context,
    *,
    name: Name,
    senders: flags.From = None,
    networks: flags.Networks = None,
    stream: flags.StreamName = None,
    limit_second: flags.PerSecond = None,
    limit_hour: flags.PerHour = None,
    limit_day: flags.PerDay = None,
    limit_recipients: flags.PerMessage = None,
    limit_first_time: flags.FirstTime = None,
    expires: flags.Expires = None,
    null_sender: flags.NullSender = None,
    allow_unsigned: flags.AllowUnsigned = None,
    encode_8bit: flags.Encode8bit = None,
    reports: flags.ReportsTo = None,
    suppressed: flags.Suppressed = None,
    as_json: options.Json = False,
) -> None:
    """Change properties; what is not named stays as it is. Open sessions follow within a second."""
    here = invocation.of(context)
    wanted = flags.Wanted(
        senders, networks, stream, limit_second, limit_hour, limit_day, limit_recipients, limit_first_time, expires,
        null_sender, allow_unsigned, encode_8bit, reports, suppressed,
    )  # fmt: skip
    adjust = flags.adjustment(wanted, here.config, now=here.now())

    async def work() -> "tuple[Credential, Snapshot]":
        async with here.registry() as registry:
            return await registry.update_credential(name, adjust), registry.snapshot()

    credential, snapshot = invocation.run(work())
    _show(here, credential, as_json=as_json)
    warn_of_unsigned(credential, snapshot)


@app.command()
def rotate(
    context: typer.Context,
    *,
    name: Name,
    keep: Annotated[
        str,
        typer.Option(
            "--keep", metavar="DURATION", help='How long the old secret stays valid: "7d"; default: until --finish.'
        ),
    ] = "",
    finish: Annotated[bool, typer.Option("--finish", help="End the old secret now; makes no new one.")] = False,
    show_settings: ShowSettings = "",
    as_json: options.Json = False,
) -> None:
    """Give it a second secret; both are valid, so that nothing is interrupted."""
    here = invocation.of(context)
    check_application(show_settings)
    seconds = options.duration(keep, option="--keep")

    async def end_old() -> "Credential":
        async with here.registry() as registry:
            return await registry.finish_rotation(name)

    async def issue() -> "Issued":
        async with here.registry() as registry:
            return await registry.rotate(name, keep_until=here.now() + seconds if seconds else 0.0)

    if finish:
        _show(here, invocation.run(end_old()), as_json=as_json)
        return
    show_issued(here, invocation.run(issue()), application=show_settings, as_json=as_json)
    if not as_json:
        until = f"for {printing.span(seconds)}" if seconds else f"until: relay credential rotate {name} --finish"
        printing.note(f"The old secret stays valid {until}")


@app.command()
def revoke(context: typer.Context, name: Name, as_json: options.Json = False) -> None:
    """End it for good, within a second on open sessions too. Mail already accepted is still delivered."""
    _turn(context, name, "revoke", as_json=as_json)


@app.command()
def hold(context: typer.Context, name: Name, as_json: options.Json = False) -> None:
    """Go on accepting its mail, but keep it in the queue."""
    _turn(context, name, "hold", as_json=as_json)
    _note_queued(context, name, verb="hold", status="")


@app.command()
def release(context: typer.Context, name: Name, as_json: options.Json = False) -> None:
    """Deliver its new mail again."""
    _turn(context, name, "release", as_json=as_json)
    _note_queued(context, name, verb="release", status="held")


def find(snapshot: "Snapshot", name: str) -> "Credential":
    """Raises NotFound with the nearest name."""
    from relay.registry.nearest import not_found

    credential = snapshot.credentials.get(name)
    if credential is None:
        raise not_found("credential", name, among=snapshot.credentials)
    return credential


def check_application(application: str) -> None:
    """Before anything is made: a misspelt --show-settings must not cost a secret that is shown once."""
    if application:
        from relay.cli.applications import Settings, ready_settings

        ready_settings(application, Settings("", 0, "starttls", "", "", ""))


def show_issued(here: invocation.Invocation, issued: "Issued", *, application: str, as_json: bool) -> None:
    """Everything a client needs, and once the secret."""
    from relay.cli.applications import ready_settings

    values = settings(here.config, issued.credential, issued.secret)
    pasted = ready_settings(application, values) if application else ""
    if as_json:
        value: dict[str, Any] = {
            **as_value(issued.credential, now=here.now()),
            "secret": issued.secret,
            "host": host(here.config),
            "ports": ports(here.config),
            "ca": values.ca or None,
        }
        printing.as_json(value | ({"settings": pasted} if application else {}))
        return
    printing.facts(
        [
            ("host", values.host),
            *((_PORT_WORDS[each["security"]], each["port"]) for each in ports(here.config)),
            ("login", values.login),
            ("secret, shown once", values.secret),
            ("CA file", values.ca),
            ("may send as", ", ".join(map(str, issued.credential.senders))),
        ]
    )
    if pasted:
        printing.line()
        printing.block(pasted)


_PORT_WORDS = {"starttls": "port, STARTTLS", "tls": "port, TLS"}


def warn_of_unsigned(credential: "Credential", snapshot: "Snapshot") -> None:
    """A sender domain without a key is refused at submission; better known now."""
    if credential.allow_unsigned:
        return
    domains = {a_sender((pattern,)).rpartition("@")[2]: pattern for pattern in credential.senders}
    for domain, pattern in domains.items():
        if snapshot.signing_domain(pattern.domain) is None:
            printing.note(f"Mail from {domain} will be refused until it has a DKIM key: relay domain add {domain}")


def _snapshot(here: invocation.Invocation) -> "Snapshot":
    async def work() -> "Snapshot":
        async with here.registry() as registry:
            return registry.snapshot()

    return invocation.run(work())


def _turn(context: typer.Context, name: str, verb: str, *, as_json: bool) -> None:
    here = invocation.of(context)

    async def work() -> "Credential":
        async with here.registry() as registry:
            turns = {"revoke": registry.revoke, "hold": registry.hold, "release": registry.release}
            return await turns[verb](name)

    _show(here, invocation.run(work()), as_json=as_json)


def _show(here: invocation.Invocation, credential: "Credential", *, as_json: bool) -> None:
    if as_json:
        printing.as_json(as_value(credential, now=here.now()))
    else:
        printing.facts(as_facts(credential, now=here.now()))


def _row(credential: "Credential", *, now: float) -> tuple[object, ...]:
    senders = ", ".join(map(str, credential.senders))
    used = printing.when(credential.last_used_at) or "never"
    return (
        credential.name,
        credential.login,
        state(credential, now=now),
        credential.stream,
        senders,
        used,
        credential.last_used_from,
    )


def _note_queued(context: typer.Context, name: str, *, verb: str, status: str) -> None:
    """What is in the queue already is the queue's affair."""
    from relay.cli.shards import count
    from relay.spool import Selection, Status

    queued = count(invocation.of(context), Selection(credential=name, status=Status(status) if status else None))
    if queued:
        words = f"{printing.count(queued, 'recipient')} {'held ' if status else ''}in the queue"
        printing.note(f"For its {words}: relay queue {verb} --credential {name}")
