"""cli.quickstart: `relay quickstart`: from nothing to a delivered message, asking nothing.

Prepares what is missing, prints the values to paste, serves in the foreground, and once mail is taken sends a test
message to the built-in receiving server in a process of its own, which prints its way to its end.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from relay.cli import invocation, printing
from relay.cli.credential_view import host, ports
from relay.cli.options import Json

if TYPE_CHECKING:
    from relay.server.quickstart import Prepared

TEST_ADDRESS = "delivered@simulator.test"


def quickstart(context: typer.Context, *, json: Json = False) -> int:
    """Set up what is missing, serve, and send one test message. Asks nothing; ends at SIGTERM or ^C."""
    from relay.server.quickstart import prepare_all
    from relay.server.serve import serve

    invoked = invocation.of(context)
    path = invoked.config_path
    prepared = invocation.run(prepare_all(path, spool=path.parent.parent / "spool", now=invoked.now()))
    if json:
        printing.as_json(_values(prepared))
    else:
        _tell(prepared, path)
    return serve(path, ready=lambda: _send_test(path))


def _values(prepared: "Prepared") -> dict[str, object]:
    return {
        "host": host(prepared.config),
        "ports": {each["security"]: each["port"] for each in ports(prepared.config)},
        "login": prepared.login,
        "secret": prepared.secret,
        "from": f"anything@{prepared.domain}",
        "ca": str(prepared.config.tls.ca or ""),
    }


def _tell(prepared: "Prepared", path: Path) -> None:
    offered = ports(prepared.config)
    printing.line(f"Relay is set up by {path}." if prepared.wrote_config else f"Relay was set up before, by {path}.")
    if not prepared.usual_ports:
        used = " and ".join(str(each["port"]) for each in offered)
        printing.line(f"Ports 587 and 465 may not be bound here, so it uses {used}.")
    printing.line()
    printing.line("Paste these into an application:")
    printing.facts(
        (
            ("host", host(prepared.config)),
            ("port", ", or ".join(f"{each['port']} with {each['security'].upper()}" for each in offered)),
            ("login", prepared.login),
            (
                "secret",
                prepared.secret
                or f"shown once, at the first start; a new one: {_command(path)} credential rotate first",
            ),
            ("from", f"anything@{prepared.domain}"),
            ("CA file", str(prepared.config.tls.ca or "")),
        )
    )
    printing.line()
    printing.line(f"The log is {_log(prepared)}. Now a test message, over port {offered[0]['port']}:")
    sys.stdout.flush()


def _log(prepared: "Prepared") -> str:
    file = prepared.config.log.file
    return f"in {file}" if file is not None else "on standard error"


def _send_test(path: Path) -> None:
    """In a process of its own, seen to its end by a thread: the server's event loop goes on meanwhile."""
    import threading

    threading.Thread(target=_show_test, args=(path,), daemon=True).start()


def _show_test(path: Path) -> None:
    import subprocess

    arguments = ("-m", "relay", "--config", str(path), "send-test", TEST_ADDRESS, "--credential", "first")
    ended = subprocess.run([sys.executable, *arguments], check=False, stdin=subprocess.DEVNULL)  # noqa: S603 - our own
    if ended.returncode == 0:
        printing.line()
        printing.line("Relay goes on serving; ^C ends it. In another terminal, a message that bounces:")
        printing.line(f"  {_command(path)} send-test bounce@simulator.test --credential first")
        sys.stdout.flush()


def _command(path: Path) -> str:
    """What to type for `relay` here."""
    program = Path(sys.argv[0])
    typed = f"{sys.executable} -m relay" if program.name == "__main__.py" else str(program)
    return f"{typed} --config {path}"
