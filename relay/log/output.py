"""log.output: where lines go: standard error, or a file that is opened again on SIGHUP.

Lines given during one turn of the event loop are written together at its end; without a running loop, at once. A
write never blocks on a reader that has stopped: a pipe or socket is asked first whether it takes anything, and gets
at most PIPE_BUF octets of whole lines at a time, so that lines of several processes do not mix (pipe(7)). What cannot
be written is kept up to KEPT octets and tried again; beyond that lines are lost, and `lost` counts them. A child
process begins with nothing kept. Opening a file that cannot be opened raises ConfigError; nothing else raises.
"""

import asyncio
import os
import select
import stat
from collections import deque
from pathlib import Path

from relay.errors import ConfigError

KEPT = 1024 * 1024
_TRY_AGAIN = 0.05  # seconds
_STANDARD_ERROR = 2


class Output:
    """One file descriptor's lines. path: None for standard error."""

    def __init__(self, path: Path | None = None) -> None:
        self.lost = 0
        self._path = path
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._process = os.getpid()
        self._flushing: asyncio.AbstractEventLoop | None = None
        self._use(_STANDARD_ERROR if path is None else _open(path))

    def add(self, line: bytes, *, urgent: bool = False) -> None:
        """urgent: written now, and all before it, as far as the reader takes it."""
        if self._process != os.getpid():
            self._begin_anew()
        self._lines.append(line)
        self._size += len(line)
        if self._size > KEPT:
            self._lose()
        if urgent:
            self.flush()
        elif self._flushing is None or self._flushing.is_closed():
            self._flush_soon(0.0)

    @property
    def has_room(self) -> bool:
        return self._size < KEPT // 2

    def flush(self) -> None:
        """Write what is kept, as far as the reader takes it."""
        self._flushing = None
        while self._lines:
            if not self._is_ready() or not self._write():
                self._flush_soon(_TRY_AGAIN)
                return

    def reopen(self) -> None:
        """After logrotate moved the file away. Raises ConfigError if it cannot be opened; the old one goes on."""
        if self._path is not None:
            self.flush()
            before = self._descriptor
            self._use(_open(self._path))
            os.close(before)

    def close(self) -> None:
        self.flush()
        if self._path is not None:
            os.close(self._descriptor)

    def _use(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        try:
            self._takes_all = stat.S_ISREG(os.fstat(descriptor).st_mode)
        except OSError:  # closed standard error; every write will fail and be counted
            self._takes_all = False

    def _is_ready(self) -> bool:
        return self._takes_all or bool(self._poll.poll(0))

    def _write(self) -> bool:
        """Write some lines; False when the descriptor takes nothing now."""
        chunk = self._next_chunk()
        try:
            written = os.write(self._descriptor, chunk)
        except OSError:  # a full disk, a closed pipe: kept and tried again
            self._put_back(chunk)
            return False
        if written < len(chunk):
            self._put_back(chunk[written:])
        return True

    def _next_chunk(self) -> bytes:
        limit = KEPT if self._takes_all else select.PIPE_BUF
        chunk = [self._lines.popleft()]
        size = len(chunk[0])
        while self._lines and size + len(self._lines[0]) <= limit:
            size += len(self._lines[0])
            chunk.append(self._lines.popleft())
        self._size -= size
        return b"".join(chunk)

    def _put_back(self, rest: bytes) -> None:
        self._lines.extendleft(reversed(rest.splitlines(keepends=True)))
        self._size += len(rest)

    def _flush_soon(self, seconds: float) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if not seconds:
                self.flush()
            return
        self._flushing = loop
        if seconds:
            loop.call_later(seconds, self.flush)
        else:
            loop.call_soon(self.flush)

    def _lose(self) -> None:
        while self._size > KEPT and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())
            self.lost += 1

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._lines.clear()
        self._size = 0
        self._flushing = None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        remedy = "Make its directory writable for Relay's user, or set [log] file to another path."
        raise ConfigError(f"the log file {path} cannot be opened: {error.strerror}.", remedy=remedy) from None
