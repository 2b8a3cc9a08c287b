"""cli.app: the tree of commands."""

from pathlib import Path
from typing import Annotated

import typer

from relay import __version__
from relay.cli import (
    check,
    credential,
    domain,
    invocation,
    log,
    printing,
    queue,
    queue_orders,
    quickstart,
    send_test,
    serve,
    spool,
    status,
    suppression,
)

app = typer.Typer(
    name="relay",
    help="A self-hosted SMTP relay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("quickstart")(quickstart.quickstart)
app.command("check")(check.check)
app.command("status")(status.status)
app.command("send-test")(send_test.send_test)
app.add_typer(credential.app, name="credential")
app.add_typer(domain.app, name="domain")
app.add_typer(queue.app, name="queue")
for order in (queue_orders.hold, queue_orders.release, queue_orders.retry, queue_orders.cancel):
    queue.app.command()(order)
app.add_typer(spool.app, name="spool")
app.add_typer(log.app, name="log")
app.add_typer(suppression.app, name="suppression")


def _print_version(wanted: bool) -> None:
    if wanted:
        printing.line(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    *,
    config: Annotated[Path, typer.Option("--config", metavar="PATH", help="relay.toml.")] = invocation.DEFAULT_CONFIG,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """A self-hosted SMTP relay."""
    context.obj = invocation.Invocation(config)
