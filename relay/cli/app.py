"""cli.app: the tree of commands. The module of a noun is imported when the noun is asked for."""

from collections import UserDict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from relay import __version__
from relay.cli import invocation, printing

# In the order --help shows: `relay.cli.NAME` has either a Typer of commands, `app`, or a function of that name.
_NAMES = (
    *("serve", "quickstart", "check", "status", "top", "send-test", "simulate"),
    *("credential", "domain", "queue", "site", "source", "spool", "log", "suppression"),
)


class _Commands(UserDict[str, Any]):
    """By name. Looking at one imports its module and no other; going through all of them, all."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(_NAMES))

    def __getitem__(self, name: str) -> Any:
        if self.data[name] is None:
            self.data[name] = _imported(name)
        return self.data[name]


def _imported(name: str) -> Any:
    function = name.replace("-", "_")
    module = import_module(f"relay.cli.{function}")
    if hasattr(module, "app"):
        command: Any = get_group(module.app)
    else:
        single = typer.Typer(add_completion=False)
        single.command()(getattr(module, function))
        command = get_command(single)
    command.name = name
    return command


class _Tree(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


app = typer.Typer(
    cls=_Tree,
    name="relay",
    help="A self-hosted SMTP relay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
