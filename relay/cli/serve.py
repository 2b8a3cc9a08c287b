"""cli.serve: `relay serve`: run the relay in the foreground until SIGTERM."""

import typer

from relay.cli import invocation, options


def serve(context: typer.Context, as_json: options.Json = False) -> int:  # noqa: ARG001 - `cli.run` looks for it
    """Serve until SIGTERM, which finishes what is under way and exits 0; SIGHUP reads the configuration again.

    The log is JSON always; with --json, so is the error that keeps it from starting.
    """
    from relay.server.serve import serve as run

    return run(invocation.of(context).config_path)
