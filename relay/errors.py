"""errors: what can go wrong on our side, one tree.

A peer's failure (a reply, a lost connection, a DNS answer) is a value, never an exception; it lives beside the code
that meets it. An exception of this tree is ours: the operator's input, the machine, or a bug. A library's errors are
translated into one of these once, in the library's one home.

Every error carries `text`, a sentence that says what is wrong and where, and `remedy`, a sentence that says what to do.
The CLI prints both and exits with `exit_code` (sysexits.h).
"""

import os


class RelayError(Exception):
    """What is wrong (`text`), what to do about it (`remedy`), and the exit code of a command that ends with it."""

    exit_code = os.EX_SOFTWARE

    def __init__(self, text: str, *, remedy: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.remedy = remedy


class ConfigError(RelayError):
    """relay.toml cannot be used: the text names the key and the line."""

    exit_code = os.EX_CONFIG


class UsageError(RelayError):
    """A command was given something it cannot take."""

    exit_code = os.EX_USAGE


class DataError(RelayError):
    """The input's content is wrong: an address that is none, a list that cannot be imported."""

    exit_code = os.EX_DATAERR


class NotFound(RelayError):
    """A credential, domain, message or suppression of that name does not exist; the remedy names the nearest."""

    exit_code = os.EX_NOUSER


class Unavailable(RelayError):
    """Something we need does not answer now: a port in use, a resolver, a running server's control socket."""

    exit_code = os.EX_UNAVAILABLE


class PermissionRefused(RelayError):
    """A file's owner or mode is wrong, or the caller may not."""

    exit_code = os.EX_NOPERM


class SpoolError(RelayError):
    """The spool cannot be read or written; nothing was acknowledged. Clients get 451 4.3.0."""

    exit_code = os.EX_IOERR


class SpoolDamaged(SpoolError):
    """A file of the spool is not what was written to it; nothing of it was changed."""

    exit_code = os.EX_DATAERR


class MessageDamaged(SpoolError):
    """What is kept of one message is not what was accepted; it is set aside."""

    exit_code = os.EX_DATAERR


class SpoolFull(SpoolError):
    """No space or no inodes; nothing was acknowledged. Clients get 452 4.3.1."""

    exit_code = os.EX_CANTCREAT


class SpoolLocked(SpoolError):
    """Another process owns the spool."""

    exit_code = os.EX_TEMPFAIL


class SpoolVersion(SpoolError):
    """The spool was written by a newer version; it is left untouched."""

    exit_code = os.EX_CONFIG
