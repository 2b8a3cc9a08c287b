"""cli.check: `relay check`: is relay.toml right, and is this machine ready for it?"""

import os

import typer

from relay.cli import invocation, options, printing
from relay.cli.checks import look
from relay.cli.finding import Finding, Grade


def check(context: typer.Context, as_json: options.Json = False) -> None:
    """Validate relay.toml, the files it names, and this machine. Changes nothing."""
    here = invocation.of(context)
    path = here.config.server.spool  # reading relay.toml ends the command with every mistake in it
    if not as_json:
        printing.line(f"{here.config_path} is valid; the spool is {path}")
    findings = invocation.run(_collect(here, as_json=as_json))
    errors = [finding for finding in findings if finding.grade is Grade.ERROR]
    if as_json:
        printing.as_json({"ok": not errors, "findings": [_value(finding) for finding in findings]})
    if errors:
        raise typer.Exit(os.EX_CONFIG)


async def _collect(here: invocation.Invocation, *, as_json: bool) -> list[Finding]:
    """Each is printed as it is found: DNS may take its time."""
    findings = []
    async for finding in look(here):
        findings.append(finding)
        if not as_json:
            first, *more = [*finding.text.splitlines(), *finding.remedy.splitlines()]
            printing.line(f"{finding.grade.value:<8} {finding.subject}: {first}")
            printing.block("\n".join(f"         {line}" for line in more))
    return findings


def _value(finding: Finding) -> dict[str, str | None]:
    return {
        "grade": finding.grade.value,
        "subject": finding.subject,
        "text": finding.text,
        "remedy": finding.remedy or None,
    }
