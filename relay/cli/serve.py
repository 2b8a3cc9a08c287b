"""cli.serve: `relay serve`: run the relay in the foreground until SIGTERM."""

import typer

from relay.cli import invocation


def serve(context: typer.Context) -> int:
    """Serve until SIGTERM, which finishes what is under way and exits 0; SIGHUP reads the configuration again."""
    from relay.server.serve import serve as run

    return run(invocation.of(context).config_path)
