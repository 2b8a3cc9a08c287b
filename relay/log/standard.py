"""log.standard: what libraries say through `logging`, and Python's warnings, as lines of ours.

Only warnings and errors: at lower levels libraries write what we must not keep (aiosmtpd: the commands of a session).
"""

import logging

from relay.log.line import Field
from relay.log.log import Log

_TAKEN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "time", "level", "event"}


def route_standard_logging(log: Log) -> None:
    """Takes over the root logger and `warnings`; call it once in each process. What handled them before is removed."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_Handler(log))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's arguments do not fit its text
            text = str(record.msg)
        fields: dict[str, Field] = {"logger": record.name, "text": text, **_extra(record)}
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._log.exception("message of a library", error, **fields)
        elif record.levelno >= logging.ERROR:
            self._log.error("message of a library", **fields)
        else:
            self._log.warning("message of a library", **fields)


def _extra(record: logging.LogRecord) -> dict[str, Field]:
    return {name: value for name, value in vars(record).items() if name not in _TAKEN}
