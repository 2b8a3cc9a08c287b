"""cli: the `relay` command. One module per noun; the only code that prints.

Every command works the same whether the server runs or not, takes --json (stable fields, on standard output alone),
and ends with an exit code of sysexits.h. What goes wrong is printed as what it is and what to do about it. As root a
command takes the uid of the spool's owner before it opens anything there. Text that came from a peer is escaped.

A command imports what it needs when it runs, so that each begins to answer within half a second.
"""

import os
import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def main() -> None:
    """The entry point of the `relay` program."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """One command's exit code (sysexits.h; 130 when interrupted)."""
    from relay.cli import printing
    from relay.errors import RelayError

    as_json = "--json" in arguments
    try:
        return _invoke(arguments)
    except RelayError as error:
        printing.error(error.text, remedy=error.remedy, exit_code=error.exit_code, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has seen enough: `relay log search | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK


def _invoke(arguments: Sequence[str]) -> int:
    import typer

    from relay.cli.app import app
    from relay.errors import UsageError

    try:
        code = app(list(arguments), standalone_mode=False, prog_name="relay")
        sys.stdout.flush()
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "relay")
        raise UsageError(error.format_message(), remedy=f"To see what it takes: {command} --help") from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit:  # typer and rich make this of a broken pipe, with an exit code of their own
        raise BrokenPipeError from None
    return code if isinstance(code, int) else os.EX_OK
