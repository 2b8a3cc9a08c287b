"""server.preflight: what would keep every worker from running, found before there is one.

Each worker makes its own certificates, rules and databases, and would tell the log of a mistake in them, once per
worker and start. Looked at here, before anything is forked, a mistake ends the command with its text, what to do and
its exit code; and a reload that cannot be carried out everywhere is carried out nowhere. Nothing is kept, and nothing
changed.
"""

from contextlib import suppress

from relay.config.files import refuse_unsafe_files
from relay.config.models import Certificate, Config
from relay.errors import SpoolFull
from relay.server.directory import prepare
from relay.server.plan import read_plan
from relay.spool import refuse_foreign
from relay.submission.listener import listeners
from relay.submission.tls import load


def refuse_to_start(config: Config) -> None:
    """Raises ConfigError, PermissionRefused, SpoolError, SpoolFull, SpoolVersion."""
    refuse_to_reload(config)
    prepare(config.server.spool)
    with suppress(SpoolFull):  # what cannot be looked at now has an owner soon, who gives up its reserve for it
        refuse_foreign(config.server.spool)


def refuse_to_reload(config: Config) -> None:
    """Raises ConfigError, PermissionRefused."""
    refuse_unsafe_files(config)
    read_plan(config, simulator_port=0)
    listeners(config.submission)
    for pair in _pairs(config):
        load(pair)


def _pairs(config: Config) -> tuple[Certificate, ...]:
    if not config.submission.starttls and not config.submission.tls:
        return ()
    return Certificate(certificate=config.tls.certificate, key=config.tls.key), *config.tls.additional
